//! The way to each target in clients' names, and back through intercept.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};

use intercept_lib::tunnel::{Features, Hello, Security};
use tcpcopy_doctor::finding::{Here, Tunnel};
use tcpcopy_doctor::investigation::investigate;
use tcpcopy_doctor::judge::judge;
use tcpcopy_doctor::link::{LinkError, open_all};
use tcpcopy_doctor::prober::{ProbeError, Prober, Witness, own_address_towards};
use tcpcopy_doctor::report::{Health, Report};
use tcpcopy_doctor::tell::tell;
use tcpcopy_packet::{Endpoint, FourTuple};

use super::socket::targets;
use super::{DoctorError, DoctorOptions};
use crate::config::{Config, Intercept, Lane};
use crate::start::security;

/// Examines the way to every target; `clients` are tuples of clients that were seen.
///
/// # Errors
/// [`DoctorError`] when a probe can't be tried at all.
pub(super) fn examine(
    options: &DoctorOptions,
    config: &Config,
    clients: &[FourTuple],
    report: &mut Report,
) -> Result<(), DoctorError> {
    let security = security(config.key_file.as_deref())?;
    let seen = clients.iter().map(|tuple| tuple.source.address);
    let names: Vec<IpAddr> = options
        .probe_source
        .into_iter()
        .chain(config.engine.client_pool.iter().copied())
        .chain(seen)
        .collect();
    for lane in &config.lanes {
        let witnesses = witnesses(lane, options.intercept_port, &security, report);
        if !witnesses.iter().any(|witness| witness.is_registrar) {
            continue;
        }
        let mut prober = Prober::new(witnesses).map_err(ProbeError::from)?;
        for target in targets(lane.mappings.iter()) {
            examine_target(&mut prober, target, &names, report)?;
        }
        prober.close();
    }
    Ok(())
}

fn examine_target(
    prober: &mut Prober,
    target: Endpoint,
    names: &[IpAddr],
    report: &mut Report,
) -> Result<(), DoctorError> {
    let own = match own_address_towards(target) {
        Ok(own) => own,
        Err(error) => {
            report.hop("send", Health::Bad, format!("no way to {target}: {error}"));
            report.find(Here::NoRoute { target });
            return Ok(());
        }
    };
    let source = source(names, target).unwrap_or(own);
    let evidence = investigate(prober, target, source, own)?;
    tell(&evidence, report);
    if evidence.main_is_own {
        let text = "no client is known: whether packets in a client's name come through was not \
                    tried; name one with --probe-source ADDRESS";
        report.hop("clients", Health::Untried, text);
    }
    for finding in judge(&evidence) {
        report.find(finding);
    }
    Ok(())
}

/// In whose name to send: the first whose packets can leave and be answered.
fn source(names: &[IpAddr], target: Endpoint) -> Option<IpAddr> {
    let fits = |address: &&IpAddr| {
        address.is_ipv4() == target.address.is_ipv4()
            && address.is_loopback() == target.address.is_loopback()
    };
    names.iter().find(fits).copied()
}

/// Opens the tunnels to the intercepts of a lane; a failure becomes a finding. Targets where none of
/// them is are tried at `port`, too: nobody said that there is one, and it is welcome where it is.
fn witnesses(lane: &Lane, port: u16, security: &Security, report: &mut Report) -> Vec<Witness> {
    let onlookers = onlookers(lane);
    let named = lane.intercepts.iter().map(|i| i.addresses.clone());
    let calls: Vec<Vec<SocketAddr>> = named
        .chain(
            onlookers
                .iter()
                .map(|target| vec![SocketAddr::new(*target, port)]),
        )
        .collect();
    let mut opened = open_all(&calls, security, &hello()).into_iter();
    let mut witnesses = Vec::new();
    for (Intercept { name, .. }, opened) in lane.intercepts.iter().zip(opened.by_ref()) {
        match opened {
            Ok((address, link)) => {
                let protection = match security {
                    Security::Key(_) => "with the same key on both ends",
                    Security::LoopbackOnly | Security::Insecure => "without a key",
                };
                let text = format!("intercept at {name} answers, {protection}");
                report.hop("tunnel", Health::Good, text);
                witnesses.push(Witness {
                    name: name.clone(),
                    address: address.ip(),
                    is_registrar: true,
                    link,
                });
            }
            Err(error) => {
                report.hop("tunnel", Health::Bad, format!("{name}: {error}"));
                report.find(unreachable(name.clone(), error));
            }
        }
    }
    witnesses.extend(opened.flatten().map(|(address, link)| Witness {
        name: address.to_string(),
        address: address.ip(),
        is_registrar: false,
        link,
    }));
    witnesses
}

fn unreachable(intercept: String, error: LinkError) -> Tunnel {
    match error {
        LinkError::NotListening => Tunnel::NoIntercept { intercept },
        LinkError::Key(reason) => Tunnel::Key { intercept, reason },
        LinkError::Unreachable(reason) => Tunnel::Unreachable { intercept, reason },
    }
}

/// Addresses of targets where none of the intercepts is, but another one may be.
fn onlookers(lane: &Lane) -> Vec<IpAddr> {
    let named: Vec<IpAddr> = (lane.intercepts.iter())
        .flat_map(|intercept| intercept.addresses.iter().map(SocketAddr::ip))
        .collect();
    let mut addresses: Vec<IpAddr> = targets(lane.mappings.iter())
        .iter()
        .map(|target| target.address)
        .filter(|address| !named.contains(address))
        .collect();
    addresses.dedup();
    addresses
}

fn hello() -> Hello {
    Hello {
        features: Features::DIAGNOSIS,
        instance: RandomState::new().hash_one(std::process::id()),
        shard: 0,
        name: format!("tcpcopy doctor {}", std::process::id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_probe_goes_in_the_name_of_who_can_be_answered() {
        let names = ["127.0.0.1", "2001:db8::5", "192.0.2.7", "192.0.2.8"].map(address);
        let of = |target| source(&names, Endpoint::new(address(target), 80));
        assert_eq!(of("198.51.100.1"), Some(address("192.0.2.7")));
        assert_eq!(of("2001:db8::1"), Some(address("2001:db8::5")));
        assert_eq!(of("127.0.0.1"), Some(address("127.0.0.1")));
        assert_eq!(of("::1"), None);
    }
}
