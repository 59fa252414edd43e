//! Values that both servers issue, each its own: learnt from their answers to the same request,
//! replaced in later requests of any connection.
//!
//! What is known stands in the map that all sessions share, under a key of kind, rule, copy and the
//! origin's value:
//!
//! | kind | value |
//! | --- | --- |
//! | `v` | the target's counterpart |
//! | `s` | nothing: the origin has issued this, so the counterpart is worth a wait |
//! | `n` | nothing: this is not worth a wait, for a while |

pub(crate) mod content;
pub(crate) mod cookie;
pub(crate) mod edit;
pub(crate) mod form;
mod html;
pub(crate) mod json;
mod learn;
mod replace;

use std::borrow::Cow;
use std::time::Duration;

use plugin_api::Context;

use crate::pattern::Pattern;
use crate::place::Place;

pub(crate) use learn::Learnt;
pub(crate) use replace::{Attempt, Resolution};

/// Most rules: each has a bit.
pub(crate) const MAX_RULES: usize = 32;

/// How long a value is waited for that was not seen in an answer of the origin: that answer may just
/// be under way in another thread.
const GRACE: Duration = Duration::from_millis(100);

/// How long it is remembered that a value was waited for in vain.
const VAIN_EXPIRY: Duration = Duration::from_secs(60);

/// All rules of values.
#[derive(Debug, Default)]
pub(crate) struct Values {
    pub(crate) rules: Vec<Rule>,
    /// Bytes of a body that are looked at.
    pub(crate) body_bytes: usize,
}

/// One value.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) from: Source,
    pub(crate) to: Vec<Place>,
    /// Only answers to requests whose path matches are looked at.
    pub(crate) path: Option<Pattern>,
    pub(crate) wait: Duration,
    /// A request whose value has no counterpart is left out, instead of sent as it is.
    pub(crate) drops: bool,
    pub(crate) expiry: Duration,
    pub(crate) counters: Counters,
}

/// Where a value is learnt.
#[derive(Debug)]
pub(crate) enum Source {
    Cookie(Vec<u8>),
    Header(Vec<u8>),
    Json(Vec<Vec<u8>>),
    /// What the first group matches in a body.
    Body(Box<Pattern>),
}

/// The names of a rule's counters.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) learnt: String,
    pub(crate) only_at_origin: String,
    pub(crate) unreadable: String,
    pub(crate) too_large: String,
    pub(crate) replaced: String,
    pub(crate) unknown: String,
    pub(crate) unfit: String,
    pub(crate) dropped: String,
}

impl Counters {
    pub(crate) fn new(rule: &str) -> Self {
        let name = |what: &str| format!("{rule}_{what}");
        Self {
            learnt: name("learnt"),
            only_at_origin: name("only_at_origin"),
            unreadable: name("unreadable"),
            too_large: name("too_large"),
            replaced: name("replaced"),
            unknown: name("unknown"),
            unfit: name("unfit"),
            dropped: name("dropped"),
        }
    }
}

impl Source {
    fn is_in_body(&self) -> bool {
        matches!(self, Self::Json(_) | Self::Body(_))
    }
}

impl Rule {
    /// A value of the origin as it stands in keys. What is the same value in different places must
    /// have the same key: scripts send a cookie without its quotes and `%xx`.
    fn canonical<'a>(&self, value: &'a [u8]) -> Cow<'a, [u8]> {
        match self.from {
            Source::Cookie(_) => form::decode_percent(cookie::unquoted(value)),
            _ => Cow::Borrowed(value),
        }
    }
}

/// What a key of the shared map is for.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Counterpart,
    Seen,
    Vain,
}

fn key(kind: Kind, rule: usize, copy: u16, canonical: &[u8]) -> Vec<u8> {
    let kind = match kind {
        Kind::Counterpart => b'v',
        Kind::Seen => b's',
        Kind::Vain => b'n',
    };
    let [high, low] = copy.to_be_bytes();
    [&[kind, rule as u8, high, low], canonical].concat()
}

impl Values {
    pub(crate) fn is_any(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Which rules look at the answers to a request for this path.
    pub(crate) fn mask(&self, path: &[u8]) -> u32 {
        let matches = |rule: &Rule| (rule.path.as_ref()).is_none_or(|it| it.is_match(path));
        let bits = self.rules.iter().enumerate();
        bits.fold(0, |mask, (at, rule)| mask | u32::from(matches(rule)) << at)
    }

    fn of_mask(&self, mask: u32) -> impl Iterator<Item = (usize, &Rule)> {
        let rules = self.rules.iter().enumerate();
        rules.filter(move |(at, _)| mask >> at & 1 == 1)
    }

    /// The origin has issued these: whoever uses them waits for the counterparts.
    pub(crate) fn announce(&self, copy: u16, learnt: &Learnt, ctx: &mut Context<'_>) {
        for (at, value) in learnt.iter() {
            let rule = &self.rules[at];
            let canonical = rule.canonical(value);
            let seen = key(Kind::Seen, at, copy, &canonical);
            ctx.share().set(&seen, b"", rule.expiry);
            let vain = key(Kind::Vain, at, copy, &canonical);
            let _ = ctx.share().take(&vain);
        }
    }

    /// Both servers have answered the same request.
    pub(crate) fn pair(&self, copy: u16, origin: &Learnt, target: &Learnt, ctx: &mut Context<'_>) {
        for (at, value) in origin.iter() {
            let rule = &self.rules[at];
            let canonical = rule.canonical(value);
            let Some(counterpart) = target.find(at) else {
                ctx.count(&rule.counters.only_at_origin, 1);
                let vain = key(Kind::Vain, at, copy, &canonical);
                ctx.share().set(&vain, b"", VAIN_EXPIRY);
                continue;
            };
            let key = key(Kind::Counterpart, at, copy, &canonical);
            let fits = ctx.share().set(&key, counterpart, rule.expiry);
            let counters = &rule.counters;
            let counter = if fits {
                &counters.learnt
            } else {
                &counters.too_large
            };
            ctx.count(counter, 1);
        }
    }
}
