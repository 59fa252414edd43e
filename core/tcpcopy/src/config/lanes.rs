//! The lanes: which traffic goes to which targets, and where their intercepts are.

use std::net::{IpAddr, SocketAddr};

use tcpcopy_engine::{EngineConfig, Mapping, Upstream};
use tcpcopy_packet::Endpoint;

use crate::error::StartError;
use crate::host::{Host, Resolve, parse_host_and_port};
use crate::options::Options;
use crate::resolver::NamedTarget;
use crate::transfer::{Transfer, parse_transfer};

/// Most intercepts; as many as tcpcopy 1.3 took.
pub const MOST_INTERCEPTS: usize = 32;
/// Most targets of the same traffic; each costs as much as a tcpcopy of its own.
pub const MOST_LANES: usize = 8;

/// Targets that get each captured connection at most once between them. Targets of the same traffic
/// have a lane each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// Its part of `-x`.
    pub mappings: Vec<Mapping>,
    /// Its targets, as the user wrote them.
    pub targets: Vec<String>,
    /// Those of its targets that are names.
    pub named: Vec<NamedTarget>,
    /// Where its tunnels lead.
    pub intercepts: Vec<Intercept>,
}

impl Lane {
    /// What the lane is called in reports.
    #[must_use]
    pub fn name(&self) -> String {
        self.targets.join(",")
    }
}

/// Where a tunnel leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intercept {
    /// As the user named it, with the port.
    pub name: String,
    /// Its addresses, tried in turn.
    pub addresses: Vec<SocketAddr>,
}

/// The `-x` list, cut into lanes: an item whose traffic has a target already goes to the next.
pub(super) fn lanes(
    options: &Options,
    engine: &EngineConfig,
    resolve: Resolve<'_>,
) -> Result<Vec<Lane>, StartError> {
    let mut lanes: Vec<Lane> = Vec::new();
    for item in &options.transfer {
        let transfer = parse_transfer(item)?;
        let addresses = resolved("-x", &transfer.target, resolve)?;
        let mappings = mappings(item, &transfer, &addresses, engine, resolve)?;
        if lanes.iter().any(|lane| is_part(&mappings, lane)) {
            continue;
        }
        let name = format!("{}:{}", transfer.target, transfer.target_port);
        let host = format!("{}:", transfer.target);
        let is_same_host = |lane: &Lane| lane.targets.iter().any(|known| known.starts_with(&host));
        let mut free = (0..lanes.len()).filter(|&index| is_free(&lanes[index], &mappings));
        // What goes to one host stays together where it can.
        let place = free
            .clone()
            .find(|&index| is_same_host(&lanes[index]))
            .or_else(|| free.next());
        let place = place.unwrap_or_else(|| {
            lanes.push(Lane::default());
            lanes.len() - 1
        });
        let lane = &mut lanes[place];
        if let Host::Name(name) = &transfer.target {
            lane.named
                .extend(mappings.iter().map(|mapping| NamedTarget {
                    endpoint: mapping.target,
                    name: name.clone(),
                    addresses: addresses.clone(),
                }));
        }
        lane.mappings.extend(mappings);
        if !lane.targets.contains(&name) {
            lane.targets.push(name);
        }
    }
    if lanes.len() > MOST_LANES {
        return Err(StartError::TooManyTargets(lanes.len()));
    }
    Ok(lanes)
}

/// Whether a lane has all these mappings already.
fn is_part(mappings: &[Mapping], lane: &Lane) -> bool {
    mappings
        .iter()
        .all(|mapping| lane.mappings.contains(mapping))
}

/// Whether a lane has no other target for the traffic of these mappings. Clients of either family
/// may have a target of their own, since packets can't change theirs.
fn is_free(lane: &Lane, mappings: &[Mapping]) -> bool {
    let collide = |a: &Mapping, b: &Mapping| {
        a.origin_address == b.origin_address
            && a.origin_port == b.origin_port
            && a.target.address.is_ipv4() == b.target.address.is_ipv4()
            && a.target != b.target
    };
    let mut known = lane.mappings.iter();
    !known.any(|known| mappings.iter().any(|new| collide(known, new)))
}

/// One mapping for each pair of an origin address and the target's first address of the family
/// that will be used: the pool's, else the origin's; for sockets the other one will do.
fn mappings(
    item: &str,
    transfer: &Transfer,
    targets: &[IpAddr],
    engine: &EngineConfig,
    resolve: Resolve<'_>,
) -> Result<Vec<Mapping>, StartError> {
    let origins: Vec<Option<IpAddr>> = match &transfer.origin {
        None => vec![None],
        Some(host) => resolved("-x", host, resolve)?
            .into_iter()
            .map(Some)
            .collect(),
    };
    let mut found = Vec::new();
    for origin_address in origins {
        let target_of = |is_ipv4| targets.iter().find(|target| target.is_ipv4() == is_ipv4);
        let origin_is_ipv4 = origin_address.map(|address| address.is_ipv4());
        let chosen: Vec<&IpAddr> = match (engine.client_pool.first(), origin_is_ipv4) {
            (Some(source), _) => target_of(source.is_ipv4()).into_iter().collect(),
            (None, None) => [true, false].into_iter().filter_map(target_of).collect(),
            (None, Some(is_ipv4)) => {
                // Only packets have to be of the client's own family.
                let other = || target_of(!is_ipv4).filter(|_| engine.upstream == Upstream::Socket);
                target_of(is_ipv4).or_else(other).into_iter().collect()
            }
        };
        found.extend(chosen.into_iter().map(|address| Mapping {
            origin_address,
            origin_port: transfer.origin_port,
            target: Endpoint::new(*address, transfer.target_port),
        }));
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let family = |is_ipv4| if is_ipv4 { "IPv4" } else { "IPv6" };
    let reason = match engine.client_pool.first().map(IpAddr::is_ipv4) {
        Some(is_ipv4) => {
            format!(
                "the target has no {0} address, and the pool of -c is {0}",
                family(is_ipv4)
            )
        }
        None => format!(
            "the target has {} addresses only, the origin none",
            family(targets.iter().any(IpAddr::is_ipv4))
        ),
    };
    Err(StartError::NoCommonFamily {
        item: item.to_owned(),
        reason,
    })
}

/// The intercepts of `-s`; without it, one at each target's address.
pub(super) fn intercepts(
    options: &Options,
    mappings: &[Mapping],
    resolve: Resolve<'_>,
) -> Result<Vec<Intercept>, StartError> {
    let mut found: Vec<Intercept> = Vec::new();
    if options.intercept.is_empty() {
        for mapping in mappings {
            let address = SocketAddr::new(mapping.target.address, options.intercept_port);
            found.push(Intercept {
                name: address.to_string(),
                addresses: vec![address],
            });
        }
    }
    for item in &options.intercept {
        let wrong = |source| StartError::Intercept {
            item: item.clone(),
            source,
        };
        let (host, port) = parse_host_and_port(item).map_err(wrong)?;
        let port = port.unwrap_or(options.intercept_port);
        let addresses = resolved("-s", &host, resolve)?;
        found.push(Intercept {
            name: format!("{host}:{port}"),
            addresses: addresses
                .into_iter()
                .map(|ip| SocketAddr::new(ip, port))
                .collect(),
        });
    }
    let mut distinct: Vec<Intercept> = Vec::new();
    for intercept in found {
        if !distinct
            .iter()
            .any(|known| known.addresses == intercept.addresses)
        {
            distinct.push(intercept);
        }
    }
    if distinct.len() > MOST_INTERCEPTS {
        return Err(StartError::TooManyIntercepts(distinct.len()));
    }
    Ok(distinct)
}

/// A tunnel that others can reach needs a key.
pub(super) fn check_key(options: &Options, intercepts: &[Intercept]) -> Result<(), StartError> {
    if options.key_file.is_some() || options.insecure {
        return Ok(());
    }
    let mut open = intercepts.iter().flat_map(|intercept| &intercept.addresses);
    match open.find(|address| !address.ip().is_loopback()) {
        Some(address) => Err(StartError::NoKey(*address)),
        None => Ok(()),
    }
}

fn resolved(
    option: &'static str,
    host: &Host,
    resolve: Resolve<'_>,
) -> Result<Vec<IpAddr>, StartError> {
    host.resolve(resolve).map_err(|source| StartError::Resolve {
        option,
        host: host.to_string(),
        source,
    })
}
