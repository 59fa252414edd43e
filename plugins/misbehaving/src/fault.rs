//! What goes wrong, and when.

use std::hint::black_box;
use std::str::FromStr;
use std::time::Duration;

use plugin_api::{Context, Level};

use crate::Misbehaving;

/// One MiB.
const MIB: usize = 1 << 20;

/// What is sent at once when too much is sent, and written when too much is written.
const PIECE: usize = 32 * 1024;

/// How long a value of a flood of values lives.
const EXPIRY: Duration = Duration::from_secs(3600);

/// What the plugin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It works.
    None,
    /// Its call never returns. A native one can't be interrupted.
    Loop,
    /// It panics: in WASM a trap.
    Panic,
    /// It calls itself without end. A native one ends the process.
    Recurse,
    /// It allocates so many MiB at once, and frees them.
    Allocate,
    /// It keeps so many MiB of every session for ever.
    Leak,
    /// It sends so many MiB.
    Output,
    /// It marks exchanges and counts under so many MiB of different names.
    Names,
    /// It sets so many MiB of values in the shared map.
    Share,
    /// It writes so many MiB to the log.
    Log,
}

impl Fault {
    /// The key's documentation.
    pub const DOC: &'static str =
        "what it does: none, loop, panic, recurse, allocate, leak, output, names, share, log";
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "none" => Self::None,
            "loop" => Self::Loop,
            "panic" => Self::Panic,
            "recurse" => Self::Recurse,
            "allocate" => Self::Allocate,
            "leak" => Self::Leak,
            "output" => Self::Output,
            "names" => Self::Names,
            "share" => Self::Share,
            "log" => Self::Log,
            _ => return Err(format!("{name} is no fault")),
        })
    }
}

/// In which callback it does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callback {
    /// `Plugin::configure`.
    Configure,
    /// `Plugin::open`.
    Open,
    /// `Session::on_client`.
    Client,
    /// `Session::on_origin`.
    Origin,
    /// `Session::on_target`.
    Target,
    /// `Session::on_gap`.
    Gap,
    /// `Session::on_client_end`.
    ClientEnd,
    /// `Session::on_timer`, a millisecond after the session has opened.
    Timer,
    /// `Session::on_shared`, a millisecond after the session has opened.
    Shared,
    /// `Session::on_close`.
    Close,
}

impl Callback {
    /// The key's documentation.
    pub const DOC: &'static str = "when: in configure, open, on_client, on_origin, on_target, \
        on_gap, on_client_end, on_timer, on_shared or on_close; what needs a context does nothing \
        in configure and on_close";

    /// Every callback that can misbehave.
    pub const ALL: [Self; 10] = [
        Self::Configure,
        Self::Open,
        Self::Client,
        Self::Origin,
        Self::Target,
        Self::Gap,
        Self::ClientEnd,
        Self::Timer,
        Self::Shared,
        Self::Close,
    ];

    /// Its name, as in the traits.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Open => "open",
            Self::Client => "on_client",
            Self::Origin => "on_origin",
            Self::Target => "on_target",
            Self::Gap => "on_gap",
            Self::ClientEnd => "on_client_end",
            Self::Timer => "on_timer",
            Self::Shared => "on_shared",
            Self::Close => "on_close",
        }
    }
}

impl FromStr for Callback {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|known| known.name() == name);
        found.ok_or_else(|| format!("{name} is no callback"))
    }
}

impl Misbehaving {
    /// Does what it was told.
    pub(crate) fn misbehave(&mut self, ctx: Option<&mut Context<'_>>) {
        match self.fault {
            Fault::None => {}
            Fault::Loop => loop {
                black_box(());
            },
            Fault::Panic => panic!("as I was told, in {}", self.callback.name()),
            Fault::Recurse => {
                black_box(recurse(black_box(0)));
            }
            Fault::Allocate => {
                let all: Vec<_> = (0..self.mib).map(|_| vec![1_u8; MIB]).collect();
                black_box(all);
            }
            Fault::Leak => self.leaked.extend((0..self.mib).map(|_| vec![1_u8; MIB])),
            Fault::Output | Fault::Names | Fault::Share | Fault::Log => {
                if let Some(ctx) = ctx {
                    self.flood(ctx);
                }
            }
        }
    }

    /// Asks for too much of what a context gives.
    fn flood(&self, ctx: &mut Context<'_>) {
        let piece = vec![b'x'; PIECE];
        let text = "x".repeat(PIECE);
        for at in 0..self.mib * (MIB / PIECE) {
            match self.fault {
                Fault::Output => ctx.send(&piece),
                Fault::Share => {
                    ctx.share().set(&at.to_le_bytes(), &piece, EXPIRY);
                }
                Fault::Log => ctx.log(Level::Warn, &text),
                // A name of 64 bytes each: a thousand for a piece.
                _ => (0..PIECE / 64).for_each(|n| {
                    let name = format!("{:0>62}", at * (PIECE / 64) + n);
                    ctx.begin_exchange(&name);
                    ctx.count(&name, 1);
                }),
            }
        }
    }
}

/// Calls itself until something stops it; what it adds up is needed after each call.
#[allow(
    unconditional_recursion,
    reason = "that is what it is for: the compiler must not see an end"
)]
fn recurse(depth: u64) -> u64 {
    let kept = black_box([depth; 8]);
    recurse(black_box(depth + 1)) + black_box(kept)[3]
}
