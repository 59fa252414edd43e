//! An ordinary connection to each target.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
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
        match TcpStream::connect_timeout(&SocketAddr::from(target), CONNECT_TIME) {
            Ok(_) => {
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
