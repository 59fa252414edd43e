//! A scenario: who talks, over what, to what kind of target.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tcpcopy_engine::{Engine, EngineConfig, Instant, Mapping, Tuning};
use tcpcopy_packet::{Endpoint, FourTuple};

use crate::capture::{CapturedConnection, ClientShape, Disturbance};
use crate::conversation::Conversation;
use crate::events::{MINUTE_US, Micros, SECOND_US};
use crate::link::LinkConfig;
use crate::plugins::PluginModel;
use crate::rng::Rng;
use crate::target::TargetConfig;

/// The port the origin listens on.
const ORIGIN_PORT: u16 = 80;
/// The port the target listens on.
const TARGET_PORT: u16 = 8080;
/// Virtual time after which a run has failed, whatever it still does.
const LIMIT_US: Micros = 6 * 60 * MINUTE_US;

/// What happens to the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TunnelChange {
    Up,
    /// Gone for a while; intercept swallows the replies meanwhile.
    Down,
    /// Gone for so long that intercept makes the target forget the connections.
    DownAndForgotten,
    /// It won't come back.
    Lost,
}

/// What the engine is told while it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Control {
    Tune(Tuning),
    /// The capture begins again.
    EndRound,
}

impl Control {
    pub(crate) fn apply(self, engine: &mut Engine, now: Instant) {
        match self {
            Self::Tune(tuning) => engine.tune(now, tuning),
            Self::EndRound => engine.end_round(now),
        }
    }
}

/// How the run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Drains so long after the last captured segment.
    Drain {
        after_us: Micros,
        deadline_us: Micros,
    },
    /// Stops at once so long after the last captured segment.
    Now { after_us: Micros },
    /// Stops at once at this moment.
    NowAt { at_us: Micros },
}

/// Everything a run needs; the same scenario always runs the same way.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) engine: EngineConfig,
    pub(crate) connections: Vec<CapturedConnection>,
    pub(crate) target: TargetConfig,
    pub(crate) to_target: LinkConfig,
    pub(crate) to_intercept: LinkConfig,
    pub(crate) tunnel_delay_us: Micros,
    pub(crate) tunnel: Vec<(Micros, TunnelChange)>,
    pub(crate) controls: Vec<(Micros, Control)>,
    /// What is sent to the target comes to this address too, where it is captured.
    pub(crate) loops_to: Option<Endpoint>,
    pub(crate) stop: Stop,
    pub(crate) limit_us: Micros,
    /// What stands between clients and target.
    pub(crate) plugin: Option<PluginModel>,
    /// Replies of a thousand whose payload, where it is wanted, comes only in part.
    pub(crate) cut_payload_permille: u32,
}

impl Scenario {
    /// A scenario without clients, over perfect links, to a plain target.
    pub(crate) fn new(name: &str, seed: u64, family: Family) -> Self {
        let target = family.target();
        let mapping = Mapping {
            origin_address: Some(family.origin()),
            origin_port: ORIGIN_PORT,
            target,
        };
        Self {
            name: name.to_owned(),
            seed,
            engine: EngineConfig {
                mappings: vec![mapping],
                ..EngineConfig::default()
            },
            connections: Vec::new(),
            target: TargetConfig::new(target),
            to_target: LinkConfig::default(),
            to_intercept: LinkConfig::default(),
            tunnel_delay_us: 150,
            tunnel: vec![(0, TunnelChange::Up)],
            controls: Vec::new(),
            loops_to: None,
            stop: Stop::Drain {
                after_us: SECOND_US,
                deadline_us: LIMIT_US,
            },
            limit_us: LIMIT_US,
            plugin: None,
            cut_payload_permille: 0,
        }
    }

    /// Captures a conversation.
    pub(crate) fn capture(
        &mut self,
        conversation: Conversation,
        shape: ClientShape,
        disturbance: Disturbance,
        rng: &mut Rng,
    ) {
        self.connections.push(CapturedConnection::new(
            conversation,
            shape,
            disturbance,
            rng,
        ));
    }

    /// The most sessions that any connection may have.
    pub(crate) fn most_copies(&self) -> u64 {
        let tuned = self.controls.iter().map(|(_, control)| match control {
            Control::Tune(Tuning::Copies(copies)) => *copies,
            _ => 1.0,
        });
        tuned.fold(self.engine.copies, f64::max).ceil() as u64
    }

    /// Whether the capture never begins again: what a client sends again after that is another
    /// connection's.
    pub(crate) fn is_one_round(&self) -> bool {
        !self.controls.iter().any(|(_, it)| *it == Control::EndRound)
    }

    /// The same trouble on the way to the target and on the way of its replies.
    pub(crate) fn links(&mut self, config: LinkConfig) {
        self.to_target = config;
        self.to_intercept = config;
    }

    /// When the capture sees its last segment.
    pub(crate) fn captured_until_us(&self) -> Micros {
        let last = self
            .connections
            .iter()
            .filter_map(|connection| connection.segments.last());
        last.map(|segment| segment.at_us).max().unwrap_or(0)
    }
}

/// The IP version of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    fn origin(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(192, 0, 2, 1).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1).into(),
        }
    }

    pub(crate) fn target(self) -> Endpoint {
        let address = match self {
            Self::V4 => Ipv4Addr::new(198, 51, 100, 9).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9).into(),
        };
        Endpoint::new(address, TARGET_PORT)
    }

    /// The tuple of the `index`-th client towards the origin.
    pub(crate) fn client(self, index: u16) -> FourTuple {
        let [high, low] = index.to_be_bytes();
        let address = match self {
            Self::V4 => Ipv4Addr::new(203, 0, 113 ^ high, 1 + low % 250).into(),
            Self::V6 => Ipv6Addr::new(
                0x2001,
                0xdb8,
                7,
                0,
                0,
                0,
                u16::from(high),
                1 + u16::from(low),
            )
            .into(),
        };
        let source = Endpoint::new(address, 20_000 + index);
        FourTuple::new(source, Endpoint::new(self.origin(), ORIGIN_PORT))
    }
}
