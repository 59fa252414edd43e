//! How a client's bytes are cut into the segments a capture sees.

use std::ops::Range;

use crate::rng::Rng;

/// Most payload bytes of a super-segment that GRO glues.
const MAX_GLUED: u64 = 65_160;

/// Where segments end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Full segments, a message's last one shorter.
    Mss,
    /// Glued by GRO up to 64 KiB, messages of a turn included.
    Glued,
    /// Anywhere, down to single bytes.
    Anywhere,
}

impl Cut {
    /// Cuts `range`, part of a turn whose messages end at `ends`.
    pub(crate) fn cut(
        self,
        range: Range<u64>,
        ends: &[u64],
        mss: u64,
        rng: &mut Rng,
    ) -> Vec<Range<u64>> {
        let mut segments = Vec::new();
        let mut start = range.start;
        while start < range.end {
            let message_end = ends
                .iter()
                .copied()
                .find(|end| *end > start)
                .unwrap_or(range.end);
            let most = match self {
                Self::Mss => mss.min(message_end - start),
                Self::Glued => MAX_GLUED / mss * mss,
                Self::Anywhere => {
                    let magnitude = rng.range(0, 12);
                    rng.range(1, 1 + mss.min(1 << magnitude))
                }
            };
            let end = range.end.min(start + most);
            segments.push(start..end);
            start = end;
        }
        segments
    }
}
