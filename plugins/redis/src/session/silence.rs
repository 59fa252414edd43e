//! `CLIENT REPLY`: which commands the target does not answer.

use crate::kind::Kind;

/// What `CLIENT REPLY` has asked for.
#[derive(Debug, Default)]
pub(super) struct Silence {
    is_off: bool,
    /// The next command is not answered.
    skips: bool,
}

impl Silence {
    /// A command is sent: whether it is left without an answer.
    pub(super) fn swallows(&mut self, kind: Kind) -> bool {
        let skips = std::mem::take(&mut self.skips);
        match kind {
            Kind::ReplyOn => {
                self.is_off = false;
                false
            }
            Kind::ReplyOff => {
                self.is_off = true;
                true
            }
            Kind::ReplySkip => {
                self.skips = !self.is_off;
                true
            }
            Kind::Reset => {
                self.is_off = false;
                skips
            }
            _ => self.is_off || skips,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_lasts_and_skip_does_not() {
        let mut silence = Silence::default();
        let mut swallows = |kinds: &[Kind]| -> Vec<bool> {
            kinds.iter().map(|kind| silence.swallows(*kind)).collect()
        };
        use Kind::{Plain, ReplyOff, ReplyOn, ReplySkip, Reset};
        assert_eq!(
            swallows(&[Plain, ReplySkip, Plain, Plain]),
            [false, true, true, false]
        );
        assert_eq!(
            swallows(&[ReplySkip, ReplySkip, Plain, Plain]),
            [true, true, true, false]
        );
        assert_eq!(
            swallows(&[ReplyOff, Plain, ReplySkip, ReplyOn, Plain]),
            [true, true, true, false, false]
        );
        assert_eq!(swallows(&[ReplySkip, ReplyOn, Plain]), [true, false, false]);
        assert_eq!(swallows(&[ReplyOff, Reset, Plain]), [true, false, false]);
    }
}
