//! What must hold between the mappings before a packet is sent.

use std::net::IpAddr;

use tcpcopy_engine::{EngineConfig, Mapping, Upstream};
use tcpcopy_packet::Endpoint;

use crate::config::Lane;
use crate::error::StartError;

/// Refuses addresses between which no packet can travel, and sources that are not this host's, of
/// which `local_addresses` are all.
///
/// # Errors
/// [`StartError`] for the first mapping that can't or must not work.
pub fn check(
    lanes: &[Lane],
    config: &EngineConfig,
    local_addresses: &[IpAddr],
) -> Result<(), StartError> {
    let mappings = || lanes.iter().flat_map(|lane| &lane.mappings);
    for mapping in mappings() {
        if config.upstream == Upstream::Raw {
            check_loopback(mapping, config)?;
        }
    }
    if config.upstream == Upstream::Socket {
        let mut sources = config.client_pool.iter();
        if let Some(other) = sources.find(|address| !is_ours(**address, local_addresses)) {
            return Err(StartError::NotOurAddress(*other));
        }
        return Ok(());
    }
    if let Some(address) = config.localhost_replacement {
        let fits = |mapping: &Mapping| mapping.target.address.is_ipv4() == address.is_ipv4();
        if !mappings().any(fits) {
            return Err(StartError::LocalhostFamily(address));
        }
    }
    Ok(())
}

/// Refuses a target that is an origin: what it is sent would be captured and sent again. An origin
/// without an address is any of `local_addresses`, those of this host.
///
/// # Errors
/// [`StartError::TargetIsOrigin`] for the first.
pub fn check_origins(lanes: &[Lane], local_addresses: &[IpAddr]) -> Result<(), StartError> {
    let mappings = || lanes.iter().flat_map(|lane| &lane.mappings);
    let mut targets = mappings().map(|mapping| mapping.target);
    match targets.find(|target| is_origin(mappings(), *target, local_addresses)) {
        Some(target) => Err(StartError::TargetIsOrigin(target)),
        None => Ok(()),
    }
}

/// Whether one of the mappings captures what is sent to `target`: it must not be sent to.
#[must_use]
pub fn is_origin<'a>(
    mut mappings: impl Iterator<Item = &'a Mapping>,
    target: Endpoint,
    local_addresses: &[IpAddr],
) -> bool {
    mappings.any(|mapping| receives(mapping, target, local_addresses))
}

/// Whether `target` is an origin endpoint of `mapping`.
fn receives(mapping: &Mapping, target: Endpoint, local_addresses: &[IpAddr]) -> bool {
    let address = target.address;
    mapping.origin_port == target.port
        && match mapping.origin_address {
            Some(origin) => origin == address,
            None => is_ours(address, local_addresses),
        }
}

fn is_ours(address: IpAddr, local_addresses: &[IpAddr]) -> bool {
    address.is_loopback() || local_addresses.contains(&address)
}

/// Packets between a loopback address and any other are dropped by the kernel.
fn check_loopback(mapping: &Mapping, config: &EngineConfig) -> Result<(), StartError> {
    let loopback_clients_only = mapping
        .origin_address
        .is_some_and(|origin| origin.is_loopback());
    let sources_are_loopback = if config.client_pool.is_empty() {
        loopback_clients_only
            && config
                .localhost_replacement
                .is_none_or(|address| address.is_loopback())
    } else {
        config.client_pool.iter().all(IpAddr::is_loopback)
    };
    let target = mapping.target;
    match (sources_are_loopback, target.address.is_loopback()) {
        (false, true) => Err(StartError::LoopbackTarget(target)),
        (true, false) => {
            let origin = mapping.origin_address.unwrap_or(target.address);
            Err(StartError::LoopbackClients(Endpoint::new(
                origin,
                mapping.origin_port,
            )))
        }
        _ => Ok(()),
    }
}
