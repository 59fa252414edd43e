//! Which requests are replayed.

use plugin_api::SessionInfo;

use super::path_of;
use crate::head::Head;
use crate::pattern::Pattern;
use crate::place::Place;
use crate::values::{cookie, form};

/// Parts of a hundred percent that a share can be told in.
pub(crate) const SHARES: u64 = 10_000;

/// The counter of requests that no rule keeps.
const NOT_KEPT: &str = "dropped_not_kept";

/// The counter of requests that are not in the sample.
const NOT_IN_SAMPLE: &str = "dropped_not_in_sample";

/// All rules that leave requests out.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Whoever matches one of these is left out, and counted under its name.
    pub(crate) drop: Vec<(Match, String)>,
    /// If there are any, whoever matches none of them is left out.
    pub(crate) keep: Vec<Match>,
    pub(crate) sample: Option<Sample>,
}

/// What a request must be like. What is not said is not looked at.
#[derive(Debug, Default)]
pub(crate) struct Match {
    pub(crate) methods: Vec<Vec<u8>>,
    pub(crate) path: Option<Pattern>,
    pub(crate) header: Option<Vec<u8>>,
    /// What a value of that header matches.
    pub(crate) value: Option<Pattern>,
}

/// A part of the requests: all with the same value, or none of them.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) by: Place,
    /// In parts of [`SHARES`].
    pub(crate) share: u64,
    pub(crate) without: Without,
}

/// What becomes of requests that have no value to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Without {
    /// The client's address takes its place.
    Client,
    Keep,
    Drop,
}

impl Filter {
    /// The counter under which a request is left out, if it is.
    pub(crate) fn judge(&self, head: &Head, session: &SessionInfo) -> Option<&str> {
        if let Some((_, counter)) = self.drop.iter().find(|(it, _)| it.fits(head)) {
            return Some(counter);
        }
        if !self.keep.is_empty() && !self.keep.iter().any(|it| it.fits(head)) {
            return Some(NOT_KEPT);
        }
        let sample = self.sample.as_ref()?;
        (!sample.takes(head, session)).then_some(NOT_IN_SAMPLE)
    }
}

impl Match {
    fn fits(&self, head: &Head) -> bool {
        let has_method =
            self.methods.is_empty() || self.methods.iter().any(|it| it == head.method());
        let path = path_of(head.target());
        has_method && self.path.as_ref().is_none_or(|it| it.is_match(path)) && self.has_header(head)
    }

    fn has_header(&self, head: &Head) -> bool {
        let Some(name) = &self.header else {
            return true;
        };
        let mut fields = head.fields();
        fields.any(|(it, value)| {
            it.eq_ignore_ascii_case(name) && self.value.as_ref().is_none_or(|it| it.is_match(value))
        })
    }
}

impl Sample {
    fn takes(&self, head: &Head, session: &SessionInfo) -> bool {
        if let Some(hash) = self.hash(head) {
            return hash % SHARES < self.share;
        }
        match self.without {
            Without::Keep => true,
            Without::Drop => false,
            Without::Client => {
                let address = session.client.ip().to_string();
                hash(address.as_bytes()) % SHARES < self.share
            }
        }
    }

    /// The hash of the value to go by.
    fn hash(&self, head: &Head) -> Option<u64> {
        match &self.by {
            Place::Cookie(name) => {
                let mut values = head.values("cookie");
                values.find_map(|it| Some(hash(&it[cookie::find(it, name).next()?])))
            }
            Place::Header(name) => {
                let mut fields = head.fields();
                let field = fields.find(|(it, _)| it.eq_ignore_ascii_case(name))?;
                Some(hash(field.1))
            }
            Place::Query(name) => {
                let target = head.target();
                let query = &target[memchr::memchr(b'?', target)? + 1..];
                Some(hash(&query[form::find(query, name).next()?]))
            }
            Place::Form(_) | Place::Json(_) => None,
        }
    }
}

/// FNV-1a, and a mixing step: the lowest digits are to depend on all bytes. It must never change, or
/// two runs would not take the same users.
fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (fnv ^ fnv >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ mixed >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_even_and_never_changes() {
        let taken =
            (0..10_000).filter(|user| hash(format!("user{user}").as_bytes()) % SHARES < 1000);
        let taken = taken.count();
        assert!((900..1100).contains(&taken), "{taken}");
        assert_eq!(hash(b""), 17_058_014_651_485_797_458);
        assert_eq!(hash(b"alice"), hash(b"alice"));
    }
}
