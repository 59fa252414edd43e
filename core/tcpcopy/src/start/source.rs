//! What is read: rings on devices, or files; and which packets of it.

use tcpcopy_engine::Mapping;
use tcpcopy_net::file::Input;
use tcpcopy_net::filter::{CaptureFilter, Directions, OriginFilter};
use tcpcopy_net::ring::{CaptureRing, RingConfig};
use tcpcopy_net::shard::ShardMap;

use super::reason;
use crate::config::Config;
use crate::error::StartError;
use crate::player::{Choice, Playlist};
use crate::shard::SourceParts;
use crate::sources::Sources;
use crate::traffic;

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
    let own_replay: Vec<Mapping> = match config.sources {
        Sources::Devices(_) => config.mappings().copied().collect(),
        // What a file holds was captured before anything of it was replayed.
        Sources::Files(_) => Vec::new(),
    };
    let user_filter = config.capture.filter.as_deref();
    traffic::filter(
        &origins(config),
        &own_replay,
        user_filter,
        Directions::ToOrigin,
    )
}

/// Where clients' packets go, each once.
pub(crate) fn origins(config: &Config) -> Vec<OriginFilter> {
    traffic::origins(config.mappings())
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
