//! The lab as a whole.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::init::{INSIDE, Init};
use crate::requirements::{check, search_path};
use crate::{Host, LabError, Result, may_skip};

/// How many bytes of each log are shown when a test panics.
const PANIC_TAIL_BYTES: usize = 1_500;

/// The hosts that every lab has, and the last two bytes of their addresses.
///
/// Clients live in subnets of their own (`10.55.1.0/24`, `10.55.2.0/24`), so that the target can
/// route the one through the assistant and not the other.
const HOSTS: [(&str, [u8; 2]); 5] = [
    ("client", [1, 1]),
    ("bystander", [2, 1]),
    ("origin", [0, 2]),
    ("target", [0, 3]),
    ("assistant", [0, 4]),
];

/// The IPv4 addresses of clients whose answers an assistant gets.
const CLIENTS: &str = "10.55.1.0/24";

/// How a lab is made.
#[derive(Debug, Clone, Copy)]
pub struct LabOptions {
    /// Whether interfaces may carry super-segments and leave checksums to the device, as real
    /// ones do.
    pub offloads: bool,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self { offloads: true }
    }
}

/// A private network; it ends when the last value that belongs to it is dropped.
#[derive(Debug)]
pub struct Lab {
    shared: Arc<Shared>,
    options: LabOptions,
    hosts: BTreeMap<String, Host>,
}

impl Lab {
    /// Makes a lab with the hosts client, bystander, origin, target and assistant.
    ///
    /// # Errors
    /// [`LabError::NotRoot`] or [`LabError::Missing`] when the machine is not ready for it,
    /// [`LabError::Start`] when the kernel refuses.
    pub fn new() -> Result<Self> {
        Self::with_options(LabOptions::default())
    }

    /// Makes a lab in another way than the usual one.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_options(options: LabOptions) -> Result<Self> {
        check()?;
        let shared = Arc::new(Shared {
            init: Init::start()?,
            logs: AtomicU32::new(0),
            names: Mutex::new(Vec::new()),
        });
        shared.switch(
            "ip link add name lab0 type bridge mcast_snooping 0
             ip link set lab0 up
             ip address add 10.55.0.1/16 dev lab0
             ip address add fd55::1/48 dev lab0 nodad",
        )?;
        let mut lab = Self {
            shared,
            options,
            hosts: BTreeMap::new(),
        };
        for (name, bytes) in HOSTS {
            lab.add_host(name, bytes)?;
        }
        Ok(lab)
    }

    /// Makes a lab, or prints why there can be none here and returns `None`, for tests.
    ///
    /// # Panics
    /// When there can be none and `CI` is set, or when the kernel refuses it.
    pub fn for_test() -> Option<Self> {
        match Self::new() {
            Ok(lab) => Some(lab),
            Err(reason @ (LabError::NotRoot { .. } | LabError::Missing { .. })) if may_skip() => {
                // Not `eprintln!`: the test harness would keep it to itself.
                let _ = writeln!(io::stderr(), "NOT RUN, needs the lab: {reason}");
                None
            }
            Err(reason) => panic!("{reason}"),
        }
    }

    /// One of the hosts.
    ///
    /// # Panics
    /// When the lab has no host of this name.
    pub fn host(&self, name: &str) -> &Host {
        self.hosts
            .get(name)
            .unwrap_or_else(|| panic!("the lab has no host `{name}`"))
    }

    /// Adds a host with the addresses `10.55.X.Y` and `fd55:0:0:X::Y`.
    ///
    /// # Errors
    /// [`LabError::Start`] when the kernel refuses, as it does for a name or address in use.
    pub fn add_host(&mut self, name: &str, [x, y]: [u8; 2]) -> Result<&Host> {
        let ipv4 = Ipv4Addr::new(10, 55, x, y);
        let ipv6 = Ipv6Addr::new(0xfd55, 0, 0, u16::from(x), 0, 0, 0, u16::from(y));
        let offloads = if self.options.offloads {
            ""
        } else {
            "ethtool -K eth0 tso off gso off gro off tx off"
        };
        self.shared.switch(&format!(
            "ip netns add {name}
             ip netns exec {name} sh -e <<'INSIDE'
                 cd /proc/sys/net
                 echo 0 > ipv4/conf/all/rp_filter
                 echo 0 > ipv4/conf/default/rp_filter
                 echo 0 > ipv6/conf/default/accept_dad
                 echo 0 > ipv6/conf/default/accept_ra
                 echo 1024 65535 > ipv4/ip_local_port_range
                 echo 65535 > core/somaxconn
                 echo 65535 > ipv4/tcp_max_syn_backlog
INSIDE
             ip link add name {name} type veth peer name eth0 netns {name}
             ip link set {name} master lab0 up
             ip netns exec {name} sh -e <<'INSIDE'
                 ip link set lo up
                 ip link set eth0 up
                 ip address add {ipv4}/16 dev eth0
                 ip address add {ipv6}/48 dev eth0 nodad
                 ip route add default via 10.55.0.1
                 ip -6 route add default via fd55::1
                 {offloads}
INSIDE"
        ))?;
        let host = Host::new(Arc::clone(&self.shared), name, ipv4, ipv6);
        Ok(self.hosts.entry(name.to_owned()).or_insert(host))
    }

    /// Writes a file into the lab's own directory and returns its path as the hosts see it.
    ///
    /// # Errors
    /// [`LabError::Io`].
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<String> {
        self.shared.write(name, content.as_ref())
    }

    /// The path that a file of the lab's own directory has on every host.
    pub fn path(&self, name: &str) -> String {
        inside(name)
    }

    /// Reads a file of the lab's own directory.
    ///
    /// # Errors
    /// [`LabError::Io`], as when it does not exist.
    pub fn read(&self, name: &str) -> Result<String> {
        self.shared.read(name)
    }

    /// Reads a file of the lab's own directory that is no text.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_bytes(&self, name: &str) -> Result<Vec<u8>> {
        self.shared.read_bytes(name)
    }

    /// Makes a directory in the lab's own that belongs to another user, and returns its path.
    ///
    /// # Errors
    /// [`LabError::Failed`] as when there is no such user.
    pub fn directory_of(&self, user: &str, name: &str) -> Result<String> {
        self.host("client").directory_of(user, name)
    }

    /// Makes the target send what is meant for clients (`10.55.1.0/24`, `fd55:0:0:1::/64`) to the
    /// assistant, which forwards nothing: the classic place of intercept.
    ///
    /// # Errors
    /// [`LabError::Failed`] when the kernel refuses a route.
    pub fn route_clients_via_assistant(&self) -> Result<()> {
        let (target, assistant) = (self.host("target"), self.host("assistant"));
        target.route(CLIENTS, IpAddr::V4(assistant.ipv4()))?;
        target.route("fd55:0:0:1::/64", IpAddr::V6(assistant.ipv6()))
    }

    /// Puts a router into the target's way to the assistant that loses `percent` of what fits the
    /// iptables arguments; IPv4 only.
    ///
    /// A packet lost there is lost for good without a word, as on a real network. One that is
    /// dropped on the target itself is an error that its TCP is told of, and acts upon.
    ///
    /// # Errors
    /// As [`add_host`](Self::add_host) and [`Host::route`].
    pub fn lose_on_the_way_to_the_assistant(
        &mut self,
        percent: f64,
        matching: &[&str],
    ) -> Result<()> {
        let router = self.add_host("router", [0, 6])?;
        for device in ["all", "eth0"] {
            router.sysctl(&format!("net.ipv4.conf.{device}.send_redirects"), 0)?;
        }
        router.sysctl("net.ipv4.ip_forward", 1)?;
        router.drop_incoming(percent, matching)?;
        let (router, assistant) = (self.host("router"), self.host("assistant"));
        router.route(CLIENTS, IpAddr::V4(assistant.ipv4()))?;
        self.host("target")
            .route(CLIENTS, IpAddr::V4(router.ipv4()))
    }

    /// The process id of the lab's init process: when it is gone, all of the lab is.
    pub fn init_pid(&self) -> u32 {
        self.shared.init_pid()
    }
}

/// What all values of one lab hold together.
#[derive(Debug)]
pub(crate) struct Shared {
    init: Init,
    logs: AtomicU32,
    /// The stems of all log files, in the order of their start.
    names: Mutex<Vec<PathBuf>>,
}

impl Shared {
    pub(crate) fn init_pid(&self) -> u32 {
        self.init.pid()
    }

    /// The path, without extension, of the next log file as the outside reaches it.
    pub(crate) fn next_log(&self, program: &str) -> PathBuf {
        let number = self.next_number();
        let path = self
            .init
            .outside(&inside(&format!("logs/{number:03}-{program}")));
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(path.clone());
        path
    }

    /// A number that no other call of this lab returns, for names of files.
    pub(crate) fn next_number(&self) -> u32 {
        self.logs.fetch_add(1, Ordering::Relaxed)
    }

    /// The path of a file of the lab's directory as the hosts see it.
    pub(crate) fn path(&self, name: &str) -> String {
        inside(name)
    }

    fn outside(&self, name: &str) -> PathBuf {
        self.init.outside(&inside(name))
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<String> {
        let path = self.outside(name);
        fs::write(&path, content).map_err(|cause| LabError::io("write", path.display(), cause))?;
        Ok(inside(name))
    }

    pub(crate) fn read(&self, name: &str) -> Result<String> {
        let path = self.outside(name);
        fs::read_to_string(&path).map_err(|cause| LabError::io("read", path.display(), cause))
    }

    pub(crate) fn read_bytes(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.outside(name);
        fs::read(&path).map_err(|cause| LabError::io("read", path.display(), cause))
    }

    /// Runs a script in the namespace that holds the bridge.
    fn switch(&self, script: &str) -> Result<()> {
        let output = Command::new("nsenter")
            .args([
                "--target",
                &self.init_pid().to_string(),
                "--pid",
                "--mount",
                "--net",
                "--",
            ])
            .args(["sh", "-e", "-c", script])
            .env("PATH", search_path())
            .stdin(Stdio::null())
            .output()
            .map_err(|source| LabError::Spawn {
                command: "nsenter".to_owned(),
                source,
            })?;
        if output.status.success() {
            return Ok(());
        }
        Err(LabError::Start {
            detail: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        // Nothing of the lab outlives it, so a failing test shows the ends of all logs now.
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for path in names
            .iter()
            .flat_map(|stem| ["out", "err"].map(|end| stem.with_extension(end)))
        {
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes.is_empty() {
                continue;
            }
            let tail = &bytes[bytes.len().saturating_sub(PANIC_TAIL_BYTES)..];
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let text = String::from_utf8_lossy(tail);
            let _ = writeln!(io::stderr(), "---- {name}\n{}", text.trim_end());
        }
    }
}

fn inside(name: &str) -> String {
    format!("{INSIDE}/{name}")
}
