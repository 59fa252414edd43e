//! `intercept doctor`: tries, on the target or an assistant, whether answers come to the intercept
//! that runs here.
//!
//! On the target the probe never leaves the host, so it tells whether the service answers and the
//! rule, the queue and the tunnel work. On an assistant it goes to the target, and in a client's
//! name it tells whether the target's route leads here.

mod options;

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use intercept_lib::tunnel::{Features, Hello, ReversePath, Security};
use tcpcopy_doctor::finding::{Back, Finding, Here, There, Tunnel};
use tcpcopy_doctor::investigation::investigate;
use tcpcopy_doctor::judge::judge;
use tcpcopy_doctor::link::{Link, LinkError};
use tcpcopy_doctor::prober::{ProbeError, Prober, Witness, own_address_towards};
use tcpcopy_doctor::report::{Health, Report};
use tcpcopy_doctor::tell::tell;
use tcpcopy_net::filter::CaptureFilter;
use tcpcopy_net::interfaces::{Interface, interface_index, interfaces, local_addresses};
use tcpcopy_packet::{Endpoint, FourTuple, SegmentBuilder, TcpFlags};

use crate::diagnosis::{forwards, reverse_path, rp_filter};
use crate::error::Error;
use crate::{key_file, privileges};

pub(crate) use options::DoctorOptions;

/// The queues that are served, with one line for each.
const QUEUES: &str = "/proc/net/netfilter/nfnetlink_queue";

/// What the intercept that runs here is called.
const HERE: &str = "this host";

/// Examines and prints; the status is 0 without a finding, 1 with one.
///
/// # Errors
/// [`Error`] when the examination could not be made.
pub(crate) fn run(options: &DoctorOptions) -> Result<ExitCode, Error> {
    let mut report = Report::new();
    let outcome = examine(options, &mut report);
    // Whoever read the output may be gone.
    let _ = std::io::stdout().write_all(report.render(options.json).as_bytes());
    outcome.map(|()| report.status())
}

fn examine(options: &DoctorOptions, report: &mut Report) -> Result<(), Error> {
    if !has_rights(report)? {
        return Ok(());
    }
    let targets: Vec<Endpoint> = match &options.interface {
        Some(device) => {
            look_at_assistant(options, device, report)?;
            let target = options.target.map(Endpoint::from);
            target.into_iter().collect()
        }
        None => {
            let address = options.address.map_or_else(first_address, Ok)?;
            look_at_target(options, address, report)?;
            let ports = options.port.iter();
            ports.map(|port| Endpoint::new(address, *port)).collect()
        }
    };
    let Some(link) = connect(options, report)? else {
        return Ok(());
    };
    let Some(first) = targets.first() else {
        let text = "no target is named with --target, so no probe was sent";
        report.hop("send", Health::Untried, text);
        link.close();
        return Ok(());
    };
    let own = own_address_towards(*first)
        .map_err(|source| Error::io(format!("find the way to {first}"), source))?;
    let mut prober = Prober::new(vec![Witness {
        name: HERE.to_owned(),
        address: own,
        is_registrar: true,
        link,
    }])?;
    for target in targets {
        probe(options, &mut prober, target, own, report)?;
    }
    prober.close();
    Ok(())
}

fn probe(
    options: &DoctorOptions,
    prober: &mut Prober,
    target: Endpoint,
    own: IpAddr,
    report: &mut Report,
) -> Result<(), Error> {
    let source = options
        .probe_source
        .filter(|source| source.is_ipv4() == target.address.is_ipv4())
        .unwrap_or(own);
    let evidence = investigate(prober, target, source, own).map_err(|error| match error {
        ProbeError::Net(error) => Error::Net(error),
        other => Error::Options(other.to_string()),
    })?;
    tell(&evidence, report);
    if options.interface.is_some() && evidence.main_is_own {
        let text = "whether the target's answers to clients come here was not tried; name a \
                    client with --probe-source IP";
        report.hop("clients", Health::Untried, text);
    }
    for finding in judge(&evidence) {
        report.find(finding);
    }
    Ok(())
}

fn has_rights(report: &mut Report) -> Result<bool, Error> {
    match privileges::check() {
        Ok(()) => {
            let text = "this process has CAP_NET_ADMIN and CAP_NET_RAW";
            report.hop("rights", Health::Good, text);
            Ok(true)
        }
        Err(Error::MissingCapability {
            capability,
            program,
            ..
        }) => {
            report.hop("rights", Health::Bad, format!("no {capability}"));
            report.find(Here::CapabilityMissing {
                capability,
                program: program.into(),
            });
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Opens the tunnel to the intercept that runs here; a failure becomes a finding.
fn connect(options: &DoctorOptions, report: &mut Report) -> Result<Option<Link>, Error> {
    let security = match &options.key_file {
        Some(path) => Security::Key(key_file::read(path)?),
        None => Security::LoopbackOnly,
    };
    let addresses = options.tunnel_addresses();
    let hello = Hello {
        features: Features::DIAGNOSIS,
        instance: std::process::id().into(),
        shard: 0,
        name: format!("intercept doctor {}", std::process::id()),
    };
    let error = match Link::open_any(&addresses, &security, &hello) {
        Ok((address, link)) => {
            let text = format!("intercept at {address} answers");
            report.hop("tunnel", Health::Good, text);
            return Ok(Some(link));
        }
        Err(error) => error,
    };
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    let intercept = addresses.join(" or ");
    report.hop("tunnel", Health::Bad, format!("{intercept}: {error}"));
    report.find(match error {
        LinkError::NotListening => Tunnel::NoIntercept { intercept },
        LinkError::Key(reason) => Tunnel::Key { intercept, reason },
        LinkError::Unreachable(reason) => Tunnel::Unreachable { intercept, reason },
    });
    Ok(None)
}

/// What can be read on the target without a probe.
fn look_at_target(
    options: &DoctorOptions,
    address: IpAddr,
    report: &mut Report,
) -> Result<(), Error> {
    if let Some(queue) = options.queue {
        let table = fs::read_to_string(QUEUES).unwrap_or_default();
        let numbers = table
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        let served: Vec<u16> = numbers.filter_map(|number| number.parse().ok()).collect();
        if served.contains(&queue) {
            report.hop("queue", Health::Good, format!("queue {queue} is served"));
        } else {
            report.hop("queue", Health::Bad, format!("nobody serves queue {queue}"));
            report.find(Back::QueueUnserved { queue, served });
        }
    }
    let mut verdicts = Vec::new();
    for device in devices()? {
        let value = rp_filter(&device.name, address);
        let mut fact = format!("rp_filter is {value} on {}", device.name);
        if let Some(source) = options.probe_source
            && value > 0
        {
            let verdict = reverse_path(source, address, device.index);
            let does = match verdict {
                ReversePath::Refuses => "refused",
                ReversePath::Accepts | ReversePath::Unknown => "taken",
            };
            fact.push_str(&format!(": packets from {source} are {does} there"));
            verdicts.push((verdict, device.name, value));
        } else {
            verdicts.push((ReversePath::Unknown, device.name, value));
        }
        report.hop("rp_filter", Health::Good, fact);
    }
    let refuses = |(verdict, ..): &(ReversePath, String, u8)| *verdict == ReversePath::Refuses;
    if let (Some(source), true) = (options.probe_source, verdicts.iter().all(refuses))
        && let Some((_, device, value)) = verdicts.into_iter().next()
    {
        let port = options.port.first().copied().unwrap_or_default();
        report.find(There::RpFilter {
            target: Endpoint::new(address, port),
            source,
            device,
            value,
        });
    }
    Ok(())
}

/// What can be read on an assistant without a probe.
fn look_at_assistant(
    options: &DoctorOptions,
    device: &str,
    report: &mut Report,
) -> Result<(), Error> {
    if device != "any" {
        interface_index(device)?;
    }
    let filter = options.filter.as_deref().map(CaptureFilter::compile);
    let filter = filter.transpose().map_err(tcpcopy_net::NetError::from)?;
    let wanted = options.target.map(|target| target.is_ipv4());
    for (is_ipv4, any) in [
        (true, Ipv4Addr::UNSPECIFIED.into()),
        (false, IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)),
    ] {
        if wanted.is_some_and(|wanted| wanted != is_ipv4) {
            continue;
        }
        let version = if is_ipv4 { "IPv4" } else { "IPv6" };
        if forwards(Some(device), any) {
            report.hop("forwarding", Health::Bad, format!("{version} is forwarded"));
            report.find(Back::IpForward {
                intercept: HERE.to_owned(),
                is_ipv4,
            });
        } else {
            let text = format!("{version} is not forwarded");
            report.hop("forwarding", Health::Good, text);
        }
    }
    if let (Some(filter), Some(target)) = (filter, options.target) {
        let target = Endpoint::from(target);
        if filter.matches(&answer(target)) {
            report.hop(
                "filter",
                Health::Good,
                format!("-F takes what {target} sends"),
            );
        } else {
            report.hop(
                "filter",
                Health::Bad,
                format!("-F leaves out what {target} sends"),
            );
            report.find(Finding::from(Back::InterceptBlind {
                target,
                intercept: HERE.to_owned(),
                device: device.to_owned(),
            }));
        }
    }
    Ok(())
}

/// A packet as the target would send it to a client.
fn answer(target: Endpoint) -> Vec<u8> {
    let client: IpAddr = match target.address {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let mut packet = Vec::new();
    let mut builder = SegmentBuilder::new(FourTuple::new(target, Endpoint::new(client, 61_000)));
    builder.flags = TcpFlags::SYN | TcpFlags::ACK;
    builder
        .write(std::iter::empty(), &mut packet)
        .expect("both ends are of one family");
    packet
}

/// The devices by which packets of others come.
fn devices() -> Result<impl Iterator<Item = Interface>, Error> {
    let devices = interfaces()?.into_iter();
    Ok(devices.filter(|device| device.name != "lo"))
}

/// The first address of this host that others can reach, IPv4 before IPv6.
fn first_address() -> Result<IpAddr, Error> {
    let reachable = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    };
    let addresses = local_addresses()?;
    addresses
        .into_iter()
        .find(reachable)
        .ok_or_else(|| Error::Options("this host has no address that others can reach".to_owned()))
}
