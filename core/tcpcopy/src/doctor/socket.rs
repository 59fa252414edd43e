//! An ordinary connection to each target.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use tcpcopy_doctor::finding::{Finding, Here, There};
use tcpcopy_doctor::report::{Health, Report};
use tcpcopy_packet::Endpoint;

use crate::config::Config;

/// How long a connection may take to come about.
const CONNECT_TIME: Duration = Duration::from_secs(3);

/// Connects to every target.
pub(super) fn examine(config: &Config, report: &mut Report) {
    for target in targets(config.lanes.iter().flat_map(|lane| &lane.mappings)) {
        let start = Instant::now();
        match connect(&config.engine.client_pool, target.into()) {
            Ok(()) => {
                let after_ms = start.elapsed().as_secs_f64() * 1_000.0;
                let text = format!("{target} took a connection after {after_ms:.1} ms");
                report.hop("target", Health::Good, text);
            }
            Err(error) => {
                report.hop("target", Health::Bad, format!("{target}: {error}"));
                report.find(finding(target, &error));
            }
        }
    }
}

/// Connects from the first of these addresses that is of the target's family, or if there are none
/// at all from the kernel's choice.
fn connect(pool: &[IpAddr], target: SocketAddr) -> io::Result<()> {
    let family = match target {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    if !pool.is_empty() {
        let mut of_family = pool.iter().filter(|a| a.is_ipv4() == target.is_ipv4());
        let source = of_family.next().ok_or(Errno::ADDRNOTAVAIL)?;
        rustix::net::bind(&socket, &SocketAddr::new(*source, 0))?;
    }
    match rustix::net::connect(&socket, &target) {
        Err(Errno::INPROGRESS | Errno::INTR) => {}
        done => return Ok(done?),
    }
    let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
    let time = Timespec::try_from(CONNECT_TIME).ok();
    match retry_on_intr(|| poll(&mut fds, time.as_ref()))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(sockopt::socket_error(&socket)??),
    }
}

/// The targets of some mappings, each once.
pub(super) fn targets<'a>(
    mappings: impl Iterator<Item = &'a tcpcopy_engine::Mapping>,
) -> Vec<Endpoint> {
    let mut targets = Vec::new();
    for mapping in mappings {
        if !targets.contains(&mapping.target) {
            targets.push(mapping.target);
        }
    }
    targets
}

/// Whether an error says that the process, or the host, has no file descriptor left.
pub(super) fn is_lack_of_descriptors(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
}

fn finding(target: Endpoint, error: &io::Error) -> Finding {
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED) => There::PortClosed { target }.into(),
        Some(Errno::MFILE | Errno::NFILE) => Here::NoDescriptor.into(),
        Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE | Errno::AGAIN) => {
            Here::NoPort { target }.into()
        }
        Some(Errno::NETUNREACH) => Here::NoRoute { target }.into(),
        _ => There::Silent {
            target,
            detail: match error.kind() {
                io::ErrorKind::TimedOut => format!("nothing came for {} s", CONNECT_TIME.as_secs()),
                _ => error.to_string(),
            },
        }
        .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_comes_from_the_first_address_that_fits() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let from = |pool: &[&str]| {
            let pool: Vec<IpAddr> = pool.iter().map(|text| text.parse().unwrap()).collect();
            connect(&pool, target).map(|()| listener.accept().unwrap().1.ip().to_string())
        };
        assert_eq!(from(&[]).unwrap(), "127.0.0.1");
        let pool = ["::1", "127.0.0.7", "127.0.0.8"];
        assert_eq!(from(&pool).unwrap(), "127.0.0.7");
        let none = from(&["::1"]).unwrap_err();
        assert_eq!(Errno::from_io_error(&none), Some(Errno::ADDRNOTAVAIL));
        drop(listener);
        let refused = connect(&[], target).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn each_failure_has_its_finding() {
        let target = Endpoint::new("192.0.2.1".parse().unwrap(), 80);
        let name = |errno: Errno| finding(target, &io::Error::from(errno)).name();
        assert_eq!(name(Errno::CONNREFUSED), "port_closed");
        assert_eq!(name(Errno::MFILE), "no_descriptor");
        assert_eq!(name(Errno::NFILE), "no_descriptor");
        assert_eq!(name(Errno::ADDRNOTAVAIL), "no_port");
        assert_eq!(name(Errno::NETUNREACH), "no_route");
        assert_eq!(name(Errno::HOSTUNREACH), "target_silent");
        let timeout = io::Error::from(io::ErrorKind::TimedOut);
        assert_eq!(finding(target, &timeout).name(), "target_silent");
    }
}
