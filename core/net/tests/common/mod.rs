//! What the tests against a real kernel share: network namespaces, packets, and waiting for a ring.

#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod client;

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tcpcopy_net::filter::CaptureFilter;
use tcpcopy_net::ring::{CaptureRing, CapturedPacket, PacketKind, RingConfig};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

#[allow(clippy::print_stdout, reason = "a test that is not run says so")]
/// Whether the tests that need root can run. In CI they must: there its absence is a failure.
pub(crate) fn require_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    let reason = "needs root: network namespaces, packet sockets";
    assert!(root || std::env::var_os("CI").is_none(), "{reason}");
    if !root {
        println!("NOT RUN, {reason}");
    }
    root
}

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace: a thread that has entered a new one and runs what it is given there. The
/// kernel removes the namespace with the thread and the last socket in it.
pub(crate) struct Namespace {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    thread_id: i32,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (started, ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            started
                .send(rustix::thread::gettid().as_raw_nonzero().get())
                .unwrap();
            todo.iter().for_each(|job| job());
        });
        let thread_id = ready.recv().unwrap();
        let namespace = Self {
            jobs: Some(jobs),
            thread: Some(thread),
            thread_id,
        };
        namespace.command("ip link set dev lo up");
        namespace
    }

    /// Two namespaces joined by a veth pair `left` and `right`, 10.0.0.1 and fd00::1 to the left,
    /// 10.0.0.2 and fd00::2 to the right.
    pub(crate) fn pair() -> (Self, Self) {
        let (left, right) = (Self::new(), Self::new());
        let peer = right.thread_id;
        left.command(&format!(
            "ip link add left type veth peer name right netns {peer}"
        ));
        for (namespace, device, host) in [(&left, "left", 1), (&right, "right", 2)] {
            namespace.command(&format!("ip address add 10.0.0.{host}/24 dev {device}"));
            namespace.command(&format!(
                "ip address add fd00::{host}/64 dev {device} nodad"
            ));
            namespace.command(&format!("ip link set dev {device} up"));
        }
        // Nothing but what a test sends: the peers know each other without asking.
        let (left_mac, right_mac) = (left.mac("left"), right.mac("right"));
        for (namespace, device, host, mac) in [
            (&left, "left", 2, &right_mac),
            (&right, "right", 1, &left_mac),
        ] {
            for address in [format!("10.0.0.{host}"), format!("fd00::{host}")] {
                namespace.command(&format!(
                    "ip neigh replace {address} lladdr {mac} dev {device}"
                ));
            }
        }
        (left, right)
    }

    /// Runs the closure in the namespace and returns its answer; panics pass on.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = mpsc::channel();
        let job = move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            answer.send(result).unwrap();
        };
        self.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        answered
            .recv()
            .unwrap()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs a command there, which must succeed; its output.
    pub(crate) fn command(&self, line: &str) -> String {
        let owned = line.to_owned();
        let output = self.run(move || {
            let mut words = owned.split_whitespace();
            Command::new(words.next().unwrap())
                .args(words)
                .output()
                .unwrap()
        });
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn mac(&self, device: &str) -> String {
        let link = self.command(&format!("ip -o link show dev {device}"));
        let mut words = link
            .split_whitespace()
            .skip_while(|word| *word != "link/ether");
        words.nth(1).unwrap().to_owned()
    }

    /// Opens a ring there for the packets that pass the expression.
    pub(crate) fn ring(&self, device: Option<&str>, expression: &str) -> CaptureRing {
        let mut config = config(expression);
        config.device = device.map(str::to_owned);
        self.open(config)
    }

    pub(crate) fn open(&self, config: RingConfig) -> CaptureRing {
        self.run(move || CaptureRing::open(&config)).unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let ended = self.thread.take().unwrap().join();
        assert!(
            ended.is_ok() || std::thread::panicking(),
            "the namespace's thread"
        );
    }
}

/// A small ring on all devices.
pub(crate) fn config(expression: &str) -> RingConfig {
    let mut config = RingConfig::new(CaptureFilter::compile(expression).unwrap());
    config.ring_bytes = 4 << 20;
    config
}

/// A captured packet, copied out of the ring.
#[derive(Clone, Debug)]
pub(crate) struct Copied {
    pub(crate) bytes: Vec<u8>,
    pub(crate) original_len: u32,
    pub(crate) timestamp_ns: u64,
    pub(crate) protocol: u16,
    pub(crate) kind: PacketKind,
    pub(crate) vlan: Option<u16>,
    pub(crate) interface_index: u32,
}

impl From<CapturedPacket<'_>> for Copied {
    fn from(packet: CapturedPacket<'_>) -> Self {
        Self {
            bytes: packet.packet.to_vec(),
            original_len: packet.original_len,
            timestamp_ns: packet.timestamp_ns,
            protocol: packet.protocol,
            kind: packet.kind,
            vlan: packet.vlan,
            interface_index: packet.interface_index,
        }
    }
}

/// Reads a ring until the packets are enough.
pub(crate) fn collect(ring: &mut CaptureRing, enough: impl Fn(&[Copied]) -> bool) -> Vec<Copied> {
    let deadline = Instant::now() + PATIENCE;
    let mut packets = Vec::new();
    loop {
        while let Some(block) = ring.next_block() {
            packets.extend(block.packets().map(Copied::from));
        }
        if enough(&packets) {
            return packets;
        }
        assert!(
            Instant::now() < deadline,
            "{} packets only: {packets:?}",
            packets.len()
        );
        wait_readable(ring);
    }
}

/// Waits until the descriptor has something to read or to say, at most [`PATIENCE`].
pub(crate) fn wait_readable(ring: &impl AsFd) -> PollFlags {
    let mut descriptors = [PollFd::new(ring, PollFlags::IN)];
    let patience = Timespec::try_from(PATIENCE).unwrap();
    let ready = poll(&mut descriptors, Some(&patience)).unwrap();
    assert!(ready > 0, "nothing within {PATIENCE:?}");
    descriptors[0].revents()
}

/// The protocol number of TCP.
pub(crate) const TCP: u8 = 6;

/// A TCP SYN as an IP packet with a payload. The IPv4 header checksum is left to the kernel, the
/// TCP checksum is nobody's concern.
pub(crate) fn tcp_packet(
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    payload: &[u8],
) -> Vec<u8> {
    let tcp_len = 20 + payload.len();
    let mut packet = match (source.0, destination.0) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u16::try_from(20 + tcp_len).unwrap().to_be_bytes();
            let header = [
                0x45, 0, length[0], length[1], 0x12, 0x34, 0x40, 0, 64, TCP, 0, 0,
            ];
            [&header[..], &from.octets(), &to.octets()].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length = u16::try_from(tcp_len).unwrap().to_be_bytes();
            let header = [0x60, 0, 0, 0, length[0], length[1], TCP, 64];
            [&header[..], &from.octets(), &to.octets()].concat()
        }
        _ => panic!("one family"),
    };
    packet.extend(source.1.to_be_bytes());
    packet.extend(destination.1.to_be_bytes());
    packet.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0]);
    packet.extend(payload);
    packet
}

/// 10.0.0.`host`.
pub(crate) fn v4(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, host).into()
}

/// fd00::`host`.
pub(crate) fn v6(host: u16) -> IpAddr {
    std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host).into()
}
