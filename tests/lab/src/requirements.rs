//! What the lab needs of the machine, and how to get it.

use std::env;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::geteuid;

use crate::{LabError, Result, postgres};

/// Directories that hold system programs but are often missing in a user's `PATH`.
const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The Python of the system, which finds the modules of the system's packages.
pub const PYTHON: &str = "/usr/bin/python3";

/// Where those modules are.
const PYTHON_MODULES: &str = "/usr/lib/python3/dist-packages";

/// Where the header of libpcap is looked for; one of them is enough.
const PCAP_HEADERS: [&str; 2] = ["/usr/include/pcap/pcap.h", "/usr/include/pcap.h"];

/// The program that decides on a Debian machine whether a package may start its service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// A program or library that the lab needs, and the Debian package that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    /// The name of the program, or of the library; a module of Python's follows `python3:`.
    pub name: &'static str,
    /// The Debian package.
    pub package: &'static str,
}

impl Requirement {
    /// Tells whether the machine has it.
    pub fn is_met(&self) -> bool {
        if let Some(module) = self.name.strip_prefix("python3:") {
            return Path::new(PYTHON_MODULES).join(module).is_dir();
        }
        match self.name {
            PYTHON => Path::new(PYTHON).exists(),
            "postgres" => postgres::is_installed(),
            "libpcap" => PCAP_HEADERS.iter().any(|header| Path::new(header).exists()),
            program => find_program(program).is_some(),
        }
    }
}

/// Lists everything that the lab, the demo and the tests need.
pub fn requirements() -> &'static [Requirement] {
    const fn needs(name: &'static str, package: &'static str) -> Requirement {
        Requirement { name, package }
    }
    const ALL: &[Requirement] = &[
        needs("nginx", "nginx-light"),
        needs("wrk", "wrk"),
        needs("curl", "curl"),
        needs("iptables", "iptables"),
        needs("ip", "iproute2"),
        needs("tcpdump", "tcpdump"),
        needs("iperf3", "iperf3"),
        needs("ethtool", "ethtool"),
        needs("ping", "iputils-ping"),
        needs("redis-server", "redis-server"),
        needs("redis-cli", "redis-tools"),
        needs("redis-benchmark", "redis-tools"),
        needs("memcached", "memcached"),
        needs("memcslap", "libmemcached-tools"),
        needs("memcstat", "libmemcached-tools"),
        needs("postgres", "postgresql"),
        needs(PYTHON, "python3"),
        needs("python3:MySQLdb", "python3-mysqldb"),
        needs("python3:cryptography", "python3-cryptography"),
        needs("python3:flask", "python3-flask"),
        needs("python3:pip", "python3-pip"),
        needs("python3:pymysql", "python3-pymysql"),
        needs("python3:redis", "python3-redis"),
        needs("python3:requests", "python3-requests"),
        needs("python3:sqlalchemy", "python3-sqlalchemy"),
        needs("python3:websockets", "python3-websockets"),
        needs("clang", "clang"),
        needs("mariadbd", "mariadb-server"),
        needs("mariadb", "mariadb-client"),
        needs("sysbench", "sysbench"),
        needs("gzip", "gzip"),
        needs("zstd", "zstd"),
        needs("setpriv", "util-linux"),
        needs("unshare", "util-linux"),
        needs("nsenter", "util-linux"),
        needs("mount", "mount"),
        needs("libpcap", "libpcap-dev"),
    ];
    ALL
}

/// Lists what of [`requirements`] the machine lacks.
pub fn missing() -> Vec<Requirement> {
    requirements()
        .iter()
        .copied()
        .filter(|requirement| !requirement.is_met())
        .collect()
}

/// Installs what is missing with apt-get and returns it.
///
/// # Errors
/// [`LabError::Missing`] with the exact command when this process is not root, or when apt-get
/// failed and something is still missing.
pub fn install_missing() -> Result<Vec<Requirement>> {
    let lacking = missing();
    if lacking.is_empty() {
        return Ok(lacking);
    }
    if geteuid().is_root() {
        let apt = |arguments: &[&str]| {
            Command::new("apt-get")
                .args(arguments)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdin(Stdio::null())
                .status()
        };
        let mut install = vec!["install", "-y", "--no-install-recommends"];
        install.extend(packages(&lacking));
        // A failure shows in what is still missing; an update that fails may not matter at all.
        let _ = apt(&["update"]);
        let _quiet = NoServices::while_it_lives();
        let _ = apt(&install);
    }
    let still = missing();
    if still.is_empty() {
        Ok(lacking)
    } else {
        Err(missing_error(&still))
    }
}

/// Keeps packages from starting their servers on the machine itself: the lab starts its own.
///
/// Debian asks the program [`POLICY`] before it starts a service; where the machine has one, that
/// one decides.
struct NoServices(Option<&'static Path>);

impl NoServices {
    fn while_it_lives() -> Self {
        const DENY: &str =
            "#!/bin/sh\n# No service is started while the lab's packages come.\nexit 101\n";
        let path = Path::new(POLICY);
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(path)
            .and_then(|mut file| file.write_all(DENY.as_bytes()));
        Self(created.is_ok().then_some(path))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            // What could be created can be removed, unless somebody was faster.
            let _ = fs::remove_file(path);
        }
    }
}

/// Tells whether a test may do without the lab, after it printed the reason: everywhere but in
/// CI, where the lab is part of what is promised.
pub fn may_skip() -> bool {
    env::var_os("CI").is_none()
}

/// Checks what must be true before a lab can be made.
pub(crate) fn check() -> Result<()> {
    let uid = geteuid();
    if !uid.is_root() {
        return Err(LabError::NotRoot { uid: uid.as_raw() });
    }
    let lacking = missing();
    if lacking.is_empty() {
        Ok(())
    } else {
        Err(missing_error(&lacking))
    }
}

/// The `PATH` for programs of the lab: the caller's, and the system's directories.
pub(crate) fn search_path() -> OsString {
    let current = env::var_os("PATH").unwrap_or_default();
    let system = SYSTEM_DIRECTORIES.iter().map(PathBuf::from);
    env::join_paths(env::split_paths(&current).chain(system)).unwrap_or(current)
}

fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&search_path())
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

fn packages(lacking: &[Requirement]) -> Vec<&'static str> {
    let mut packages: Vec<_> = lacking
        .iter()
        .map(|requirement| requirement.package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn missing_error(lacking: &[Requirement]) -> LabError {
    let programs: Vec<_> = lacking.iter().map(|requirement| requirement.name).collect();
    LabError::Missing {
        programs: programs.join(", "),
        command: format!("apt-get install -y {}", packages(lacking).join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_names_each_package_once() {
        let lacking = [
            Requirement {
                name: "unshare",
                package: "util-linux",
            },
            Requirement {
                name: "wrk",
                package: "wrk",
            },
            Requirement {
                name: "nsenter",
                package: "util-linux",
            },
        ];
        let text = missing_error(&lacking).to_string();
        assert!(text.contains("unshare, wrk, nsenter"), "{text}");
        assert!(
            text.ends_with("apt-get install -y util-linux wrk"),
            "{text}"
        );
    }

    #[test]
    fn a_program_that_nobody_has_is_missing() {
        assert!(
            !Requirement {
                name: "no-such-program-anywhere",
                package: "x"
            }
            .is_met()
        );
        assert!(
            Requirement {
                name: "sh",
                package: "dash"
            }
            .is_met()
        );
    }
}
