//! The ways to the targets: tunnels and raw senders, or connections of this host.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use intercept_lib::tunnel::{Features, Security};
use tcpcopy_engine::{Mapping, SOCKET_HOP_LIMIT, Upstream};
use tcpcopy_net::descriptors;
use tcpcopy_net::interfaces::local_addresses;
use tcpcopy_net::raw::{RawConfig, RawSender};
use tcpcopy_net::sockets::{SocketConfig, Sockets};

use super::reason;
use crate::checks;
use crate::config::{Config, Lane};
use crate::error::StartError;
use crate::host::system_resolver;
use crate::key_file;
use crate::plugin::Plugins;
use crate::resolver::{NamedTarget, Targets};
use crate::shard::UpstreamParts;
use crate::sources::Sources;
use crate::tunnel::{Identity, Tunnel};

/// How long to wait for every intercept at the start, without `-L`: enough for one that is started
/// at the same moment.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// The way out of every lane of every shard.
pub(super) fn open(
    config: &Config,
    plugins: &Plugins,
) -> Result<Vec<Vec<UpstreamParts>>, StartError> {
    if config.engine.upstream == Upstream::Socket {
        raise_descriptor_limit();
    }
    let security = security(config.key_file.as_deref())?;
    let instance = RandomState::new().hash_one(std::process::id());
    let mut of_shards = Vec::new();
    for shard in 0..config.shards {
        let mut of_lanes = Vec::new();
        for (index, lane) in config.lanes.iter().enumerate() {
            // To intercept, each lane is a shard of its own: their sessions have nothing in common.
            let number = usize::from(config.shards) * index + usize::from(shard);
            let identity = Identity {
                instance,
                shard: u16::try_from(number).expect("at most 64 shards and 8 lanes"),
                security: security.clone(),
                features: match plugins.want_replies(index) {
                    true => Features::PAYLOAD,
                    false => Features::NONE,
                },
            };
            of_lanes.push(match config.engine.upstream {
                Upstream::Raw => UpstreamParts::Raw {
                    tunnel: tunnel(config, lane, &identity)?,
                    sender: sender(lane)?,
                    survive_loss: config.survive_loss,
                },
                Upstream::Socket => UpstreamParts::Socket {
                    sockets: sockets(config)?,
                    targets: Targets::default(),
                    proxy_protocol: config.proxy_protocol,
                },
            });
        }
        of_shards.push(of_lanes);
    }
    Ok(of_shards)
}

/// Lets targets that were given as names follow them. It starts a thread, which keeps the privileges
/// of the caller.
pub(super) fn follow_names(
    config: &Config,
    upstreams: &mut [Vec<UpstreamParts>],
) -> Result<(), StartError> {
    let failed = |source| StartError::System {
        action: "start a thread",
        source,
    };
    let origins: Vec<Mapping> = match config.sources {
        Sources::Devices(_) => config.mappings().copied().collect(),
        // What is in a file can be sent anywhere.
        Sources::Files(_) => Vec::new(),
    };
    let addresses = local_addresses().unwrap_or_default();
    let addresses: Vec<IpAddr> = addresses.into_iter().collect();
    let named: Vec<NamedTarget> = config.lanes.iter().flat_map(|l| l.named.clone()).collect();
    let allowed = move |target| !checks::is_origin(origins.iter(), target, &addresses);
    let targets = Targets::new(named, system_resolver, allowed).map_err(failed)?;
    for upstream in upstreams.iter_mut().flatten() {
        if let UpstreamParts::Socket { targets: own, .. } = upstream {
            *own = targets.clone();
        }
    }
    Ok(())
}

/// The tunnels of a lane; without `-L` all of them up.
fn tunnel(config: &Config, lane: &Lane, identity: &Identity) -> Result<Tunnel, StartError> {
    let mut tunnel = Tunnel::new(&lane.intercepts, config.tunnels, identity, Instant::now());
    if !config.survive_loss {
        tunnel.connect(CONNECT_PATIENCE)?;
    }
    Ok(tunnel)
}

/// Each connection of ours is an open file.
fn raise_descriptor_limit() {
    match descriptors::raise_limit() {
        Ok(limit) => tracing::debug!(?limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}

fn sockets(config: &Config) -> Result<Sockets, StartError> {
    let sockets = SocketConfig {
        sources: config.engine.client_pool.clone(),
        // By this the engine knows its own connections where the capture sees them again.
        hop_limit: Some(SOCKET_HOP_LIMIT),
        ..SocketConfig::default()
    };
    Sockets::open(&sockets).map_err(|error| StartError::Sockets(reason(&error)))
}

fn sender(lane: &Lane) -> Result<RawSender, StartError> {
    let targets = || lane.mappings.iter().map(|mapping| mapping.target.address);
    let raw = RawConfig {
        ipv4: targets().any(|address| address.is_ipv4()),
        ipv6: targets().any(|address| address.is_ipv6()),
        ..RawConfig::default()
    };
    RawSender::open(&raw).map_err(|error| StartError::Sender(reason(&error)))
}

/// The key, or that there is none: whether one is needed has been checked.
///
/// # Errors
/// As [`key_file::read`].
pub(crate) fn security(key_file: Option<&Path>) -> Result<Security, StartError> {
    let Some(path) = key_file else {
        return Ok(Security::Insecure);
    };
    key_file::read(path).map(Security::Key)
}
