//! A lab with nginx on the target, and ways to look at it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tcpcopy_lab::{Host, Lab, Nginx, NginxConfig, Process, wait_until};
use tcpcopy_packet::{Endpoint, FourTuple};

/// The target's port.
pub(crate) const PORT: u16 = 80;
/// Longest wait for anything that should happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// What the target answers.
const BODY: &str = "hello from the target\n";

/// A lab with nginx on the target.
pub(crate) struct Bench {
    pub(crate) lab: Lab,
    pub(crate) nginx: Nginx,
}

impl Bench {
    /// `None`, with the reason printed, where there can be no lab.
    pub(crate) fn new() -> Option<Self> {
        let lab = Lab::for_test()?;
        let config = NginxConfig {
            ports: vec![PORT],
            body: BODY.to_owned(),
            ..NginxConfig::default()
        };
        let nginx = Nginx::start(lab.host("target"), &config).unwrap();
        Some(Self { lab, nginx })
    }

    pub(crate) fn target(&self) -> &Host {
        self.lab.host("target")
    }

    /// Starts intercept on the target and waits until it is ready.
    pub(crate) fn intercept(&self, arguments: &str) -> Process {
        self.intercept_on("target", arguments)
    }

    /// Starts intercept on a host and waits until it is ready.
    pub(crate) fn intercept_on(&self, host: &str, arguments: &str) -> Process {
        let mut process = self.start(host, arguments);
        wait_until("intercept to be ready", SOON, || {
            !process.is_running() || process.stderr().contains("ready")
        })
        .unwrap();
        assert!(process.is_running(), "{}", process.stderr());
        process
    }

    /// Starts intercept on a host.
    pub(crate) fn start(&self, host: &str, arguments: &str) -> Process {
        let program = env!("CARGO_BIN_EXE_intercept");
        let words = arguments.split_whitespace();
        self.lab
            .host(host)
            .command(program)
            .args(words)
            .spawn()
            .unwrap()
    }

    /// Whether the target serves the bystander, who is never replayed.
    pub(crate) fn serves(&self, server: SocketAddr) -> bool {
        let url = format!("http://{server}/");
        let curl = ["-s", "--max-time", "2", &url];
        let output = self.lab.host("bystander").command("curl").args(curl).run();
        output.is_ok_and(|output| output.stdout == BODY)
    }

    /// The rules in the target's output chains, IPv4 before IPv6.
    pub(crate) fn rules(&self) -> Vec<String> {
        let list = |program| {
            self.target()
                .command(program)
                .args(["-S", "OUTPUT"])
                .run()
                .unwrap()
        };
        let both = ["iptables", "ip6tables"]
            .map(|program| list(program).stdout)
            .concat();
        both.lines()
            .filter(|line| line.starts_with("-A"))
            .map(str::to_owned)
            .collect()
    }

    /// Opens a TCP connection from a host, as a program on it would.
    pub(crate) fn connect(&self, from: &str, to: SocketAddr) -> TcpStream {
        self.connect_many(from, to, 1).remove(0)
    }

    /// Opens several TCP connections from a host.
    pub(crate) fn connect_many(&self, from: &str, to: SocketAddr, count: usize) -> Vec<TcpStream> {
        let mut anchor = self
            .lab
            .host(from)
            .command("sleep")
            .arg(1000)
            .spawn()
            .unwrap();
        let namespace = format!("/proc/{}/ns/net", anchor.pid().unwrap());
        let connect = move || {
            let namespace = File::open(namespace).unwrap();
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).unwrap();
            (0..count)
                .map(|_| {
                    let stream = TcpStream::connect_timeout(&to, SOON).unwrap();
                    stream.set_read_timeout(Some(SOON)).unwrap();
                    stream
                })
                .collect()
        };
        // Namespaces are a thread's own: the one that moves never comes back.
        std::thread::spawn(connect).join().unwrap()
    }

    /// Opens a keep-alive connection from the client to the target, with one request answered.
    pub(crate) fn keep_alive(&self, server: SocketAddr) -> KeepAlive {
        let mut connection = KeepAlive(self.connect("client", server));
        connection.request("/");
        connection.answer();
        connection
    }

    /// Whether the target still has the other end of a connection.
    pub(crate) fn target_has(&self, connection: &KeepAlive) -> bool {
        let port = format!(":{}", connection.0.local_addr().unwrap().port());
        let list = ["-Htna", "dport", "=", &port];
        let output = self.target().command("ss").args(list).run().unwrap();
        !output.stdout.trim().is_empty()
    }
}

/// A kernel TCP connection from the client to the target. When it is registered as a session's,
/// the kernel plays the part of the mirror until its replies are gone.
pub(crate) struct KeepAlive(TcpStream);

impl KeepAlive {
    /// Sends a request; its answer is not read.
    pub(crate) fn request(&mut self, path: &str) {
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: target\r\n\r\n").unwrap();
    }

    /// Reads the answer to a request for `/`.
    pub(crate) fn answer(&mut self) {
        let mut answer = String::new();
        while !answer.ends_with(BODY) {
            let mut buffer = [0; 4096];
            let len = self.0.read(&mut buffer).unwrap();
            assert!(len > 0, "the target closed after {answer:?}");
            answer.push_str(&String::from_utf8_lossy(&buffer[..len]));
        }
    }

    /// Source is the client.
    pub(crate) fn tuple(&self) -> FourTuple {
        let end = |address: SocketAddr| Endpoint::new(address.ip(), address.port());
        FourTuple::new(
            end(self.0.local_addr().unwrap()),
            end(self.0.peer_addr().unwrap()),
        )
    }
}

/// The tunnel's address on a host.
pub(crate) fn tunnel_at(address: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(address.into(), intercept_lib::tunnel::DEFAULT_PORT)
}
