//! Whether clients' packets come by where they are looked for, and if not, where they are.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tcpcopy_doctor::finding::{Elsewhere, Finding, Here};
use tcpcopy_doctor::report::{Health, Report};
use tcpcopy_doctor::watch::device_name;
use tcpcopy_net::filter::{CaptureFilter, Directions, OriginFilter};
use tcpcopy_net::ring::{CaptureRing, RingConfig};
use tcpcopy_packet::{FourTuple, Segment};

use super::capture_error;
use crate::config::Config;
use crate::error::StartError;
use crate::start::{origins, wanted};

/// Bytes of each ring: a few packets are enough.
const RING_BYTES: usize = 1 << 20;
/// Bytes kept of each packet: the longest IP and TCP headers.
const SNAPLEN: u32 = 128;
/// Packets that are remembered of what comes elsewhere.
const MOST_REMEMBERED: usize = 64;

/// A packet of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Passing {
    tuple: FourTuple,
    device: String,
}

/// Waits for one packet that a replay would capture; returns the tuples of those seen.
///
/// # Errors
/// [`StartError`] when nothing can be captured at all.
pub(super) fn look(
    config: &Config,
    devices: &[String],
    wait: Duration,
    report: &mut Report,
) -> Result<Vec<FourTuple>, StartError> {
    let wanted = wanted(config, |_| false)?.filter;
    let expression = wanted.expression().to_owned();
    let mut narrow = Vec::new();
    let named = devices.iter().cloned().map(Some);
    let any = devices.is_empty().then_some(None);
    for device in named.chain(any) {
        narrow.push(open(device, wanted.clone(), config.capture.promiscuous)?);
    }
    let mut wide = open(None, every_client(config)?, false)?;
    let place = match devices {
        [] => "any device".to_owned(),
        devices => devices.join(", "),
    };
    let start = Instant::now();
    let mut elsewhere: Vec<Passing> = Vec::new();
    loop {
        let seen: Vec<Passing> = narrow.iter_mut().flat_map(passing).collect();
        if let Some(first) = seen.first() {
            let (tuple, after_s) = (first.tuple, start.elapsed().as_secs_f64());
            let text = format!("{tuple} came on {} after {after_s:.1} s", first.device);
            report.hop("capture", Health::Good, text);
            return Ok(seen.into_iter().map(|passing| passing.tuple).collect());
        }
        for passing in passing(&mut wide) {
            if elsewhere.len() < MOST_REMEMBERED && !elsewhere.contains(&passing) {
                elsewhere.push(passing);
            }
        }
        let left = wait.saturating_sub(start.elapsed());
        if left.is_zero() {
            break;
        }
        let rings = narrow.iter().chain([&wide]);
        let mut fds: Vec<PollFd<'_>> = rings.map(|r| PollFd::new(r, PollFlags::IN)).collect();
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
    }
    let finding = Finding::from(Here::NothingCaptured {
        place,
        filter: expression,
        wait_s: wait.as_secs(),
        elsewhere: explain(config, devices, &elsewhere),
    });
    report.hop("capture", Health::Bad, finding.what());
    report.find(finding);
    Ok(Vec::new())
}

/// The filter for what clients send to the ports of the origins, at whatever address, and whatever
/// the user's own filter says.
fn every_client(config: &Config) -> Result<CaptureFilter, StartError> {
    let anywhere = origins(config).into_iter().map(|origin| OriginFilter {
        address: None,
        ..origin
    });
    let anywhere: Vec<OriginFilter> = anywhere.collect();
    CaptureFilter::for_origins(&anywhere, Directions::ToOrigin, None)
        .map_err(|error| StartError::Filter(error.to_string()))
}

fn open(
    device: Option<String>,
    filter: CaptureFilter,
    promiscuous: bool,
) -> Result<CaptureRing, StartError> {
    CaptureRing::open(&RingConfig {
        device,
        ring_bytes: RING_BYTES,
        snaplen: SNAPLEN,
        promiscuous,
        ..RingConfig::new(filter)
    })
    .map_err(capture_error)
}

/// The packets that wait in a ring.
fn passing(ring: &mut CaptureRing) -> Vec<Passing> {
    let mut found = Vec::new();
    for _ in 0..ring.block_count() {
        let Some(block) = ring.next_block() else {
            break;
        };
        for captured in &block {
            if found.len() < MOST_REMEMBERED
                && let Ok((tuple, ..)) = Segment::locate(captured.packet)
            {
                found.push(Passing {
                    tuple,
                    device: device_name(captured.interface_index),
                });
            }
        }
    }
    found
}

/// Why none of these packets was wanted.
fn explain(config: &Config, devices: &[String], elsewhere: &[Passing]) -> Elsewhere {
    let is_target = |passing: &&Passing| {
        let mut mappings = config.mappings();
        mappings.any(|mapping| mapping.target == passing.tuple.destination)
    };
    let clients = || elsewhere.iter().filter(|passing| !is_target(passing));
    let at_origin = |passing: &&Passing| {
        let destination = passing.tuple.destination;
        origins(config).iter().any(|origin| {
            origin.port == destination.port
                && origin
                    .address
                    .is_none_or(|address| address == destination.address)
        })
    };
    let here = |passing: &&Passing| devices.is_empty() || devices.contains(&passing.device);
    if let Some(filter) = &config.capture.filter
        && clients().filter(at_origin).any(|passing| here(&passing))
    {
        let filter = filter.clone();
        return Elsewhere::Excluded { filter };
    }
    if let Some(passing) = clients().filter(at_origin).find(|passing| !here(passing)) {
        return Elsewhere::Device(passing.device.clone());
    }
    clients()
        .find(|passing| !at_origin(passing))
        .map_or(Elsewhere::Nowhere, |passing| {
            Elsewhere::Address(passing.tuple.destination)
        })
}
