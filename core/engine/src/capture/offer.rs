//! What a session takes over from its captured connection: SYN options and round-trip time.

use std::time::Duration;

use tcpcopy_packet::{Endpoint, Segment};

use crate::config::{EngineConfig, RttPolicy};
use crate::connection::Connection;
use crate::mirror::SynOffer;
use crate::time::Instant;

/// Round-trip times below this are not imitated: the replay's own network has one too.
const NEGLIGIBLE_RTT: Duration = Duration::from_millis(1);
/// Longer ones are taken as this: beyond it the client was thinking, not far away.
const MAX_RTT: Duration = Duration::from_secs(1);
/// Window scale offered where the captured client's SYN was not seen.
const DEFAULT_WINDOW_SCALE: u8 = 7;
/// Window offered in a SYN where the client's was not seen: what current systems send.
const DEFAULT_WINDOW: u16 = 64_240;

/// The round-trip time to imitate: from the client's SYN to its answer to the origin's SYN-ACK, and
/// the latency asked for.
pub(super) fn imitated_rtt(
    connection: &Connection,
    now: Instant,
    config: &EngineConfig,
) -> Duration {
    let rtt = match config.rtt {
        RttPolicy::Fixed(rtt) => rtt,
        RttPolicy::Captured if connection.isn.is_none() => Duration::ZERO,
        RttPolicy::Captured => match now.since(connection.began_at).min(MAX_RTT) {
            rtt if rtt < NEGLIGIBLE_RTT => Duration::ZERO,
            rtt => rtt,
        },
    };
    rtt + mean_latency(config)
}

fn mean_latency(config: &EngineConfig) -> Duration {
    config
        .latency
        .map_or(Duration::ZERO, |latency| latency.mean)
}

/// The options of the captured SYN, as far as they fit our path.
pub(super) fn captured_offer(
    segment: &Segment<'_>,
    target: Endpoint,
    config: &EngineConfig,
) -> SynOffer {
    let options = &segment.options;
    SynOffer {
        mss: options
            .mss
            .unwrap_or(config.mss)
            .min(largest_mss(target, config)),
        window: segment.window,
        window_scale: options.window_scale,
        sack: options.sack_permitted,
        timestamps: options.timestamps.is_some(),
        latency: mean_latency(config),
        immediate_acks: config.rtt == RttPolicy::Fixed(Duration::ZERO),
        follows_client: config.rtt == RttPolicy::Captured,
    }
}

/// What current systems offer, for clients whose SYN was not seen.
pub(super) fn default_offer(target: Endpoint, config: &EngineConfig) -> SynOffer {
    SynOffer {
        mss: config.mss.min(largest_mss(target, config)),
        window: DEFAULT_WINDOW,
        window_scale: Some(DEFAULT_WINDOW_SCALE),
        sack: true,
        timestamps: true,
        latency: mean_latency(config),
        immediate_acks: config.rtt == RttPolicy::Fixed(Duration::ZERO),
        follows_client: false,
    }
}

/// The MSS that fits the MTU (RFC 9293 section 3.7.1).
fn largest_mss(target: Endpoint, config: &EngineConfig) -> u16 {
    config
        .mtu
        .saturating_sub(if target.address.is_ipv4() { 40 } else { 60 })
}
