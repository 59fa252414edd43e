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
use crate::traffic::{self, Sides};

/// What a shard will read, opened while the privileges for it are there.
#[derive(Debug)]
pub(super) enum OpenSource {
    Devices(Vec<CaptureRing>, Option<Sides>),
    Files(Box<Playlist>),
}

impl OpenSource {
    /// Makes it ready to be read; files are read by a thread.
    pub(super) fn play(self, memory_budget_bytes: u64) -> Result<SourceParts, StartError> {
        match self {
            Self::Devices(rings, sides) => Ok(SourceParts::Devices { rings, sides }),
            Self::Files(playlist) => Ok(SourceParts::Files {
                player: Box::new(playlist.play()?),
                memory_budget_bytes,
            }),
        }
    }
}

/// The sources of every shard.
pub(super) fn open(config: &Config, wanted: &Wanted) -> Result<Vec<OpenSource>, StartError> {
    match &config.sources {
        Sources::Devices(devices) => {
            let has_answers = wanted.directions == Directions::Both;
            let sides = has_answers.then(|| Sides::new(&origins(config)));
            let sides = sides.transpose()?;
            let rings = rings(config, devices, wanted)?.into_iter();
            let open = |rings| OpenSource::Devices(rings, sides.clone());
            Ok(rings.map(open).collect())
        }
        Sources::Files(inputs) => (0..config.shards)
            .map(|shard| {
                playlist(config, inputs, wanted, shard)
                    .map(|files| OpenSource::Files(Box::new(files)))
            })
            .collect(),
    }
}

fn playlist(
    config: &Config,
    inputs: &[Input],
    wanted: &Wanted,
    shard: u16,
) -> Result<Playlist, StartError> {
    let choice = Choice {
        filter: Some(wanted.filter.clone()),
        share: (config.shards > 1).then(|| (shard_map(config, wanted), shard)),
    };
    Ok(Playlist::open(inputs, config.schedule.clone(), choice)?)
}

fn shard_map(config: &Config, wanted: &Wanted) -> ShardMap {
    ShardMap::new(config.shards, &origins(config), wanted.directions)
}

/// What is captured, or taken from files.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) filter: CaptureFilter,
    /// Whether the answers of any origin are among it.
    pub(crate) directions: Directions,
}

/// What is wanted where the answers of origins on `answering` ports are.
///
/// # Errors
/// [`StartError::Filter`].
pub(crate) fn wanted(
    config: &Config,
    answering: impl Fn(u16) -> bool,
) -> Result<Wanted, StartError> {
    let own_replay: Vec<Mapping> = match config.sources {
        Sources::Devices(_) => config.mappings().copied().collect(),
        // What a file holds was captured before anything of it was replayed.
        Sources::Files(_) => Vec::new(),
    };
    let user_filter = config.capture.filter.as_deref();
    let origins = origins(config);
    let answering: Vec<OriginFilter> = (origins.iter().copied())
        .filter(|origin| answering(origin.port))
        .collect();
    Ok(Wanted {
        filter: traffic::filter(&origins, &own_replay, user_filter, &answering)?,
        directions: match answering.is_empty() {
            true => Directions::ToOrigin,
            false => Directions::Both,
        },
    })
}

/// Where clients' packets go, each once.
pub(crate) fn origins(config: &Config) -> Vec<OriginFilter> {
    traffic::origins(config.mappings())
}

/// The rings of every shard, one for each device.
fn rings(
    config: &Config,
    devices: &[String],
    wanted: &Wanted,
) -> Result<Vec<Vec<CaptureRing>>, StartError> {
    let map = shard_map(config, wanted);
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
            include_outgoing: wanted.directions == Directions::Both,
            promiscuous: config.capture.promiscuous,
            ..RingConfig::new(wanted.filter.clone())
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
