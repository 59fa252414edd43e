//! What is read: rings on devices, or files; and which packets of it.

use tcpcopy_engine::Mapping;
use tcpcopy_net::file::Input;
use tcpcopy_net::filter::{CaptureFilter, Directions, FilterError, OriginFilter};
use tcpcopy_net::ring::{CaptureRing, RingConfig};
use tcpcopy_net::shard::ShardMap;

use super::reason;
use crate::config::Config;
use crate::error::StartError;
use crate::player::{Choice, Playlist};
use crate::shard::SourceParts;
use crate::sources::Sources;

/// What a shard will read, opened while the privileges for it are there.
#[derive(Debug)]
pub(super) enum OpenSource {
    Devices(Vec<CaptureRing>),
    Files(Box<Playlist>),
}

impl OpenSource {
    /// Makes it ready to be read; files are read by a thread.
    pub(super) fn play(self, memory_budget_bytes: u64) -> Result<SourceParts, StartError> {
        match self {
            Self::Devices(rings) => Ok(SourceParts::Devices(rings)),
            Self::Files(playlist) => Ok(SourceParts::Files {
                player: Box::new(playlist.play()?),
                memory_budget_bytes,
            }),
        }
    }
}

/// The sources of every shard.
pub(super) fn open(config: &Config, filter: &CaptureFilter) -> Result<Vec<OpenSource>, StartError> {
    match &config.sources {
        Sources::Devices(devices) => {
            let rings = rings(config, devices, filter)?;
            Ok(rings.into_iter().map(OpenSource::Devices).collect())
        }
        Sources::Files(inputs) => (0..config.shards)
            .map(|shard| {
                playlist(config, inputs, filter, shard)
                    .map(|files| OpenSource::Files(Box::new(files)))
            })
            .collect(),
    }
}

fn playlist(
    config: &Config,
    inputs: &[Input],
    filter: &CaptureFilter,
    shard: u16,
) -> Result<Playlist, StartError> {
    let choice = Choice {
        filter: Some(filter.clone()),
        share: (config.shards > 1).then(|| (shard_map(config), shard)),
    };
    Ok(Playlist::open(inputs, config.schedule.clone(), choice)?)
}

fn shard_map(config: &Config) -> ShardMap {
    ShardMap::new(config.shards, &origins(config), Directions::ToOrigin)
}

/// What is captured, or taken from files.
///
/// # Errors
/// [`StartError::Filter`].
pub(crate) fn filter(config: &Config) -> Result<CaptureFilter, StartError> {
    let wrong = |error: FilterError| StartError::Filter(error.to_string());
    let user_filter = config.capture.filter.as_deref();
    // Alone first, so that stray brackets in it can't reach what is joined to it.
    user_filter
        .map(CaptureFilter::compile)
        .transpose()
        .map_err(wrong)?;
    // What a file holds was captured before anything of it was replayed.
    let own_replay = match config.sources {
        Sources::Devices(_) => not_our_own(config.mappings()),
        Sources::Files(_) => Vec::new(),
    };
    let conditions: Vec<String> = user_filter
        .map(|text| format!("({text})"))
        .into_iter()
        .chain(own_replay)
        .collect();
    let conditions = conditions.join(" and ");
    CaptureFilter::for_origins(&origins(config), Directions::ToOrigin, Some(&conditions))
        .map_err(wrong)
}

/// Keeps replayed packets from being captured and replayed in turn, where they pass the capturing
/// device, as on a mirror port, and any address that receives on the target's port is an origin.
fn not_our_own<'a>(mappings: impl Iterator<Item = &'a Mapping> + Clone) -> Vec<String> {
    let any_address_on = |port| {
        mappings
            .clone()
            .any(|origin| origin.origin_address.is_none() && origin.origin_port == port)
    };
    let mut conditions: Vec<String> = mappings
        .clone()
        .map(|mapping| mapping.target)
        .filter(|target| any_address_on(target.port))
        .map(|target| {
            format!(
                "not (dst host {} and dst port {})",
                target.address, target.port
            )
        })
        .collect();
    conditions.sort();
    conditions.dedup();
    conditions
}

/// Where clients' packets go, each once.
pub(crate) fn origins(config: &Config) -> Vec<OriginFilter> {
    let mut origins: Vec<OriginFilter> = Vec::new();
    for mapping in config.mappings() {
        let origin = OriginFilter {
            address: mapping.origin_address,
            port: mapping.origin_port,
        };
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    origins
}

/// The rings of every shard, one for each device.
fn rings(
    config: &Config,
    devices: &[String],
    filter: &CaptureFilter,
) -> Result<Vec<Vec<CaptureRing>>, StartError> {
    let map = shard_map(config);
    let mut of_shards: Vec<Vec<CaptureRing>> = (0..config.shards).map(|_| Vec::new()).collect();
    let devices: Vec<Option<String>> = match devices {
        [] => vec![None],
        named => named.iter().cloned().map(Some).collect(),
    };
    for device in devices {
        let name = device.clone().unwrap_or_else(|| "any device".to_owned());
        let ring_config = RingConfig {
            device,
            ring_bytes: config.capture.ring_bytes,
            snaplen: config.capture.snaplen,
            promiscuous: config.capture.promiscuous,
            ..RingConfig::new(filter.clone())
        };
        let rings =
            CaptureRing::open_sharded(&ring_config, &map).map_err(|error| StartError::Capture {
                device: name,
                reason: reason(&error),
            })?;
        for (of_shard, ring) in of_shards.iter_mut().zip(rings) {
            of_shard.push(ring);
        }
    }
    Ok(of_shards)
}

#[cfg(test)]
mod tests {
    use tcpcopy_packet::Endpoint;

    use super::*;

    fn mapping(origin: Option<&str>, origin_port: u16, target: &str, port: u16) -> Mapping {
        let address = |text: &str| text.parse().expect("an address");
        let target = Endpoint::new(address(target), port);
        Mapping {
            origin_address: origin.map(address),
            origin_port,
            target,
        }
    }

    #[test]
    fn replayed_packets_are_not_captured_again() {
        assert_eq!(
            not_our_own(
                [
                    mapping(None, 80, "10.0.0.9", 80),
                    mapping(None, 80, "fd00::9", 80),
                    mapping(None, 81, "10.0.0.9", 8081),
                    mapping(Some("10.0.0.1"), 82, "10.0.0.9", 82),
                ]
                .iter()
            ),
            [
                "not (dst host 10.0.0.9 and dst port 80)",
                "not (dst host fd00::9 and dst port 80)",
            ]
        );
    }
}
