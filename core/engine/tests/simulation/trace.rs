//! The record of a run: a hash of everything the engine put out, and its last lines in words.

use std::collections::VecDeque;

use tcpcopy_packet::TcpFlags;

use crate::events::Micros;
use crate::wire::Header;

/// Lines kept for the report of a failure; `SIMULATION_LINES` keeps more.
const KEPT_LINES: usize = 120;

/// Where a traced segment was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Captured,
    Sent,
    ReachedTarget,
    Answered,
    Reported,
}

impl Place {
    fn label(self) -> &'static str {
        match self {
            Self::Captured => "captured  ",
            Self::Sent => "engine  > ",
            Self::ReachedTarget => "      > target",
            Self::Answered => "target  < ",
            Self::Reported => "engine  < ",
        }
    }
}

#[derive(Debug)]
enum Line {
    Segment(Micros, Place, Header),
    Note(Micros, String),
}

/// What happened, in order. Printed when the test that holds it panics.
#[derive(Debug)]
pub(crate) struct Trace {
    title: String,
    hash: u64,
    lines: VecDeque<Line>,
    /// Only segments of this source port (either side), when set.
    port: Option<u16>,
    kept_lines: usize,
}

impl Trace {
    pub(crate) fn new(title: String) -> Self {
        Self {
            title,
            hash: 0xcbf2_9ce4_8422_2325,
            lines: VecDeque::new(),
            port: variable("SIMULATION_PORT"),
            kept_lines: variable("SIMULATION_LINES").unwrap_or(KEPT_LINES),
        }
    }

    pub(crate) fn segment(&mut self, now_us: Micros, place: Place, header: &Header) {
        let ports = [header.tuple.source.port, header.tuple.destination.port];
        if self.port.is_none_or(|port| ports.contains(&port)) {
            self.push(Line::Segment(now_us, place, *header));
        }
    }

    pub(crate) fn note(&mut self, now_us: Micros, text: String) {
        self.hash_bytes(now_us, text.as_bytes());
        self.push(Line::Note(now_us, text));
    }

    /// Adds bytes of the engine's output to the hash (FNV-1a).
    pub(crate) fn hash_bytes(&mut self, now_us: Micros, bytes: &[u8]) {
        for byte in now_us.to_le_bytes().iter().chain(bytes) {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    fn push(&mut self, line: Line) {
        if self.lines.len() == self.kept_lines {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn print(&self) {
        eprintln!("--- {}: the last {} lines", self.title, self.lines.len());
        for line in &self.lines {
            match line {
                Line::Segment(at_us, place, header) => {
                    let mark = if header.flags.contains(TcpFlags::RST) {
                        " !"
                    } else {
                        ""
                    };
                    eprintln!("{} {} {header}{mark}", clock(*at_us), place.label());
                }
                Line::Note(at_us, text) => eprintln!("{} -- {text}", clock(*at_us)),
            }
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print();
        }
    }
}

/// A number from the environment.
pub(crate) fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is not such a number")),
    )
}

fn clock(at_us: Micros) -> String {
    format!("{:>5}.{:06}", at_us / 1_000_000, at_us % 1_000_000)
}
