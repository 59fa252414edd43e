//! What a capture at the origin sees of a conversation: a real client's segments, with everything
//! that real networks and real captures do to them.

mod segmenter;
mod writer;

use std::borrow::Cow;
use std::ops::Range;

use tcpcopy_packet::{FourTuple, TcpFlags, TcpOptions};

use crate::content::origin_said;
use crate::conversation::Conversation;
use crate::events::{MILLISECOND_US, Micros};
use crate::rng::Rng;
use crate::wire::Header;
pub(crate) use segmenter::Cut;

/// What the origin's captured bytes are where nobody looks at them.
static ORIGIN_BYTES: [u8; 1 << 16] = [0; 1 << 16];

/// How the captured client's TCP looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientShape {
    pub(crate) client_seq: u32,
    pub(crate) origin_seq: u32,
    pub(crate) round_trip_us: Micros,
    pub(crate) mss: u16,
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack: bool,
    pub(crate) timestamps: bool,
    pub(crate) cut: Cut,
    /// Answers are acknowledged by the next request only.
    pub(crate) piggybacked_acks: bool,
    /// The client probes an idle connection.
    pub(crate) keepalive: bool,
    /// The capture also sees what the origin sends.
    pub(crate) origin_visible: bool,
}

impl Default for ClientShape {
    fn default() -> Self {
        Self {
            client_seq: 1_000_000,
            origin_seq: 5_000_000,
            round_trip_us: 2 * MILLISECOND_US,
            mss: 1460,
            window_scale: Some(7),
            sack: true,
            timestamps: true,
            cut: Cut::Mss,
            piggybacked_acks: false,
            keepalive: false,
            origin_visible: false,
        }
    }
}

/// What happens to the client's data before and in the capture, per thousand data segments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Disturbance {
    /// Lost on the way and seen only when the client sends it again, after what followed.
    pub(crate) late_permille: u32,
    /// Seen after the segment that followed it.
    pub(crate) swapped_permille: u32,
    /// Seen twice.
    pub(crate) duplicate_permille: u32,
    /// Sent again with other boundaries.
    pub(crate) overlap_permille: u32,
    /// Never seen, though the origin got it.
    pub(crate) hole_permille: u32,
    /// So many thousandths of the segments come before the capture begins.
    pub(crate) joined_permille: u32,
    /// Segments of the origin of a thousand that are never seen.
    pub(crate) origin_hole_permille: u32,
}

/// One captured segment; the client's payload is a range of its stream.
#[derive(Clone, Debug)]
pub(crate) struct CapturedSegment {
    pub(crate) at_us: Micros,
    pub(crate) header: Header,
    /// `None` for the origin's segments.
    pub(crate) range: Option<Range<u64>>,
}

/// One connection as captured.
#[derive(Clone, Debug)]
pub(crate) struct CapturedConnection {
    pub(crate) conversation: Conversation,
    pub(crate) stream: Vec<u8>,
    /// In order of time.
    pub(crate) segments: Vec<CapturedSegment>,
    /// Ranges of the stream that the capture never saw.
    pub(crate) holes: Vec<Range<u64>>,
    /// The number of the origin's first byte.
    origin_start: u32,
}

impl CapturedConnection {
    pub(crate) fn new(
        conversation: Conversation,
        shape: ClientShape,
        disturbance: Disturbance,
        rng: &mut Rng,
    ) -> Self {
        let stream = conversation.stream();
        let mut writer = writer::Writer::new(&conversation, shape, disturbance, rng);
        writer.write();
        let (mut segments, mut holes) = writer.finish();
        let first_seen = segments.len() * disturbance.joined_permille as usize / 1000;
        for missed in segments.drain(..first_seen) {
            holes.extend(missed.range.filter(|range| !range.is_empty()));
        }
        if disturbance.origin_hole_permille > 0 {
            let is_lost = |segment: &CapturedSegment, rng: &mut Rng| {
                let is_data = segment.range.is_none() && segment.header.payload_len > 0;
                is_data && rng.permille(disturbance.origin_hole_permille)
            };
            segments.retain(|segment| !is_lost(segment, rng));
        }
        let seen: Vec<Range<u64>> = segments
            .iter()
            .filter_map(|segment| segment.range.clone())
            .collect();
        let holes = subtract(holes, &seen);
        Self {
            conversation,
            stream,
            segments,
            holes,
            origin_start: shape.origin_seq.wrapping_add(1),
        }
    }

    /// The bytes of a captured segment; those of the origin are all alike unless somebody looks at
    /// them.
    pub(crate) fn payload(&self, segment: &CapturedSegment, is_looked_at: bool) -> Cow<'_, [u8]> {
        let length = segment.header.payload_len;
        match &segment.range {
            _ if length == 0 => Cow::Borrowed(&[]),
            Some(range) => {
                let start = usize::try_from(range.start).expect("in memory");
                Cow::Borrowed(&self.stream[start..start + length as usize])
            }
            None if is_looked_at => {
                let offset = segment.header.seq.wrapping_sub(self.origin_start);
                Cow::Owned(origin_said(u64::from(offset), u64::from(length)))
            }
            None => Cow::Borrowed(&ORIGIN_BYTES[..length as usize]),
        }
    }

    /// Whether the capture saw the SYN.
    pub(crate) fn has_start(&self) -> bool {
        self.segments
            .first()
            .is_some_and(|first| first.header.flags.contains(TcpFlags::SYN))
    }
}

/// What is left of `holes` without `seen`, in order and without overlap.
fn subtract(holes: Vec<Range<u64>>, seen: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = holes;
    for cover in seen.iter().filter(|cover| !cover.is_empty()) {
        left = left
            .into_iter()
            .flat_map(|hole| {
                let before = hole.start..hole.end.min(cover.start);
                let after = hole.start.max(cover.end)..hole.end;
                [before, after]
                    .into_iter()
                    .filter(|part| part.start < part.end)
            })
            .collect();
    }
    left.sort_by_key(|hole| hole.start);
    left.dedup();
    left
}

/// A header with the client's usual fields.
fn header(tuple: FourTuple, flags: TcpFlags, options: TcpOptions) -> Header {
    Header {
        tuple,
        seq: 0,
        ack: 0,
        flags,
        window: 502,
        options,
        payload_len: 0,
    }
}
