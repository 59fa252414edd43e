//! Where a shard's packets come from: devices, or capture files.

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use super::Clock;
use super::capture::CaptureSource;
use super::files::FileSource;
use super::lane::{Lane, Next};
use crate::player::Player;
use crate::statistics::PlayFigures;
use crate::traffic::Sides;

/// What a shard is given to read.
#[derive(Debug)]
pub enum SourceParts {
    /// Devices.
    Devices {
        /// Capture rings, one for each device.
        rings: Vec<tcpcopy_net::ring::CaptureRing>,
        /// Where the origins' answers are captured as well: tells them from what this host does as
        /// a client itself.
        sides: Option<Sides>,
    },
    /// Capture files.
    Files {
        /// What plays them.
        player: Box<Player>,
        /// The memory budget of one lane, in bytes.
        memory_budget_bytes: u64,
    },
}

#[derive(Debug)]
pub(super) enum Source {
    Devices(CaptureSource),
    Files(Box<FileSource>),
}

impl Source {
    pub(super) fn new(parts: SourceParts) -> Self {
        match parts {
            SourceParts::Devices { rings, sides } => {
                Self::Devices(CaptureSource::new(rings, sides))
            }
            SourceParts::Files {
                player,
                memory_budget_bytes,
            } => Self::Files(Box::new(FileSource::new(*player, memory_budget_bytes))),
        }
    }

    /// Gives every lane what has been captured, or what is due of the files.
    pub(super) fn read(&mut self, lanes: &mut [Lane], clock: Clock) -> Next {
        match self {
            Self::Devices(rings) => match rings.read(lanes, clock.time) {
                true => Next::More,
                false => Next::Until(None),
            },
            Self::Files(files) => files.read(lanes, clock),
        }
    }

    /// Takes what has been captured already, and nothing more.
    pub(super) fn close(&mut self, lanes: &mut [Lane], clock: Clock) {
        match self {
            Self::Devices(rings) => {
                rings.read(lanes, clock.time);
                rings.close(lanes);
            }
            Self::Files(files) => files.close(),
        }
    }

    /// Whether nothing more will ever come.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Devices(_) => false,
            Self::Files(files) => files.is_over(),
        }
    }

    /// Whether a turn may be put off for a moment: devices collect meanwhile, files have a schedule.
    pub(super) fn can_wait(&self) -> bool {
        matches!(self, Self::Devices(_))
    }

    /// Stands still or goes on; false where that is not up to the source.
    pub(super) fn pause(&mut self, now: Instant, is_paused: bool) -> bool {
        match self {
            Self::Devices(_) => false,
            Self::Files(files) => {
                files.pause(now, is_paused);
                true
            }
        }
    }

    /// Whether not everything could be read.
    pub(super) fn is_broken(&self) -> bool {
        match self {
            Self::Devices(_) => false,
            Self::Files(files) => files.is_broken(),
        }
    }

    /// Brings the lanes' accounts up to date.
    pub(super) fn count_drops(&mut self, lanes: &mut [Lane]) {
        if let Self::Devices(rings) = self {
            rings.count_ring_drops(lanes);
        }
    }

    pub(super) fn play_figures(&self, now: Instant) -> Option<PlayFigures> {
        match self {
            Self::Devices(_) => None,
            Self::Files(files) => Some(PlayFigures::new(files.player(), now)),
        }
    }

    /// The descriptors to wait for.
    pub(super) fn interests<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        match self {
            Self::Devices(rings) => {
                let rings = rings.rings().iter();
                fds.extend(rings.map(|ring| PollFd::from_borrowed_fd(ring.as_fd(), PollFlags::IN)));
            }
            Self::Files(files) if !files.is_over() => {
                fds.push(PollFd::new(files.player(), PollFlags::IN));
            }
            Self::Files(_) => {}
        }
    }

    /// A device's descriptor has reported an error.
    pub(super) fn look_at_devices(&mut self) {
        if let Self::Devices(rings) = self {
            rings.look_at_devices();
        }
    }
}
