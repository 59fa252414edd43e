use std::collections::BTreeMap;

use proptest::prelude::*;
use tcpcopy_packet::ClientSeq;

use super::*;

const ISN: u32 = u32::MAX - 20;

/// What a piece brought, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Delivered {
    payload: Vec<u8>,
    ack: u32,
    fin: bool,
}

fn piece(payload: &[u8], ack: u32) -> Delivered {
    Delivered {
        payload: payload.to_vec(),
        ack,
        fin: false,
    }
}

fn last_piece(payload: &[u8], ack: u32) -> Delivered {
    Delivered {
        fin: true,
        ..piece(payload, ack)
    }
}

/// A stream that numbers its bytes from 0, on a sequence space that soon wraps.
struct Fixture {
    stream: Reassembly<ClientSeq>,
    first: ClientSeq,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self::starting_at(ISN)
    }

    fn starting_at(first: u32) -> Self {
        let first = ClientSeq::new(first);
        Self {
            stream: Reassembly::new(first),
            first,
            now: Instant::ZERO,
        }
    }

    fn insert_segment(
        &mut self,
        at: i64,
        payload: &[u8],
        ack: u32,
        fin: bool,
    ) -> (Inserted, Vec<Delivered>) {
        self.now += std::time::Duration::from_micros(1);
        let segment = StreamSegment {
            seq: self.first + at as u32,
            ack,
            payload,
            fin,
        };
        let mut out = Vec::new();
        let inserted = self
            .stream
            .insert(self.now, segment, &mut collect(&mut out));
        let sum = inserted.delivered_bytes
            + inserted.held_bytes
            + inserted.duplicate_bytes
            + inserted.after_fin_bytes
            + inserted.over_limit_bytes
            + inserted.outlandish_bytes;
        assert_eq!(sum as usize, payload.len(), "{inserted:?}");
        (inserted, out)
    }

    fn data(&mut self, at: i64, payload: &[u8], ack: u32) -> Vec<Delivered> {
        self.insert_segment(at, payload, ack, false).1
    }

    fn fin(&mut self, at: i64, payload: &[u8], ack: u32) -> Vec<Delivered> {
        self.insert_segment(at, payload, ack, true).1
    }

    fn skip_gap(&mut self) -> (Option<u32>, Vec<Delivered>) {
        let mut out = Vec::new();
        let hole = self.stream.skip_gap(&mut collect(&mut out));
        (hole, out)
    }

    fn next(&self) -> i64 {
        self.stream.next().since(self.first).into()
    }
}

fn collect(out: &mut Vec<Delivered>) -> impl FnMut(Piece<'_>) {
    |Piece { payload, ack, fin }| {
        out.push(Delivered {
            payload: payload.to_vec(),
            ack,
            fin,
        })
    }
}

#[test]
fn bytes_in_order_are_handed_on_as_they_come() {
    let mut f = Fixture::new();
    assert_eq!(f.data(0, b"abc", 1), [piece(b"abc", 1)]);
    assert_eq!(f.data(3, b"", 2), []);
    assert_eq!(
        f.data(3, b"defghijklmnopqrstuvwxyz", 3),
        [piece(b"defghijklmnopqrstuvwxyz", 3)]
    );
    assert_eq!(f.fin(26, b"!", 4), [last_piece(b"!", 4)]);
    assert!(f.stream.is_finished());
    assert_eq!(
        (f.next(), f.stream.held_bytes(), f.stream.gap_since()),
        (27, 0, None)
    );
}

#[test]
fn a_hole_is_filled_by_what_was_missing() {
    let mut f = Fixture::new();
    assert_eq!(f.data(6, b"ghi", 7), []);
    assert_eq!(f.data(3, b"def", 8), []);
    assert_eq!(
        (f.stream.held_bytes(), f.stream.gap_since()),
        (6, Some(Instant::from_micros(1)))
    );
    assert_eq!(
        f.data(0, b"abc", 9),
        [piece(b"abc", 9), piece(b"def", 8), piece(b"ghi", 7)]
    );
    assert_eq!((f.stream.held_bytes(), f.stream.gap_since()), (0, None));
}

#[test]
fn the_age_of_a_hole_is_that_of_the_oldest_byte_beyond_it() {
    let mut f = Fixture::new();
    f.data(1, b"b", 0);
    f.data(5, b"f", 0);
    f.data(3, b"d", 0);
    assert_eq!(f.stream.gap_since(), Some(Instant::from_micros(1)));
    f.data(0, b"a", 0);
    assert_eq!(
        f.stream.gap_since(),
        Some(Instant::from_micros(2)),
        "the hole before `d`"
    );
}

#[test]
fn retransmissions_bring_only_what_is_new() {
    let mut f = Fixture::new();
    f.data(0, b"abcdef", 1);
    let (inserted, out) = f.insert_segment(3, b"XXXghi", 2, false);
    assert_eq!(out, [piece(b"ghi", 2)]);
    assert_eq!((inserted.duplicate_bytes, inserted.delivered_bytes), (3, 3));
    // A keep-alive probe repeats the last byte (RFC 9293 section 3.8.4).
    let (inserted, out) = f.insert_segment(8, b"\0", 2, false);
    assert_eq!((inserted.duplicate_bytes, out), (1, vec![]));
}

#[test]
fn the_first_bytes_of_a_position_win() {
    let mut f = Fixture::new();
    f.data(2, b"CC", 1);
    f.data(6, b"GG", 2);
    let (inserted, out) = f.insert_segment(0, b"aabbccddee", 3, false);
    assert_eq!((inserted.delivered_bytes, inserted.duplicate_bytes), (6, 4));
    let expected = [
        piece(b"aa", 3),
        piece(b"CC", 1),
        piece(b"cc", 3),
        piece(b"GG", 2),
        piece(b"ee", 3),
    ];
    assert_eq!(out, expected);
}

#[test]
fn an_early_fin_waits_for_its_place() {
    let mut f = Fixture::new();
    assert_eq!(f.fin(3, b"", 5), []);
    assert!(!f.stream.is_finished());
    assert_eq!(f.stream.gap_since(), Some(Instant::from_micros(1)));
    assert_eq!(f.data(0, b"abc", 4), [piece(b"abc", 4), last_piece(b"", 5)]);
    assert!(f.stream.is_finished());

    let mut f = Fixture::new();
    assert_eq!(f.fin(3, b"def", 5), []);
    assert_eq!(
        f.data(0, b"abc", 4),
        [piece(b"abc", 4), last_piece(b"def", 5)]
    );
}

#[test]
fn nothing_comes_after_the_fin() {
    let mut f = Fixture::new();
    f.fin(3, b"", 1);
    let (inserted, out) = f.insert_segment(1, b"bcd", 1, false);
    assert_eq!(
        (inserted.held_bytes, inserted.after_fin_bytes, out),
        (2, 1, vec![])
    );
    assert_eq!(f.data(0, b"a", 2).len(), 2);
    let (inserted, out) = f.insert_segment(2, b"cde", 1, true);
    assert_eq!(
        (inserted.duplicate_bytes, inserted.after_fin_bytes, out),
        (1, 2, vec![])
    );
    assert_eq!(f.fin(3, b"", 1), []);
    assert_eq!(f.next(), 3);
}

#[test]
fn a_fin_that_contradicts_earlier_bytes_is_ignored() {
    let mut f = Fixture::new();
    f.data(0, b"abc", 1);
    assert_eq!(f.fin(1, b"b", 1), [], "before bytes handed on");
    f.data(6, b"g", 1);
    assert_eq!(f.fin(5, b"", 1), [], "before bytes held");
    assert_eq!(f.fin(8, b"", 1), []);
    assert_eq!(f.fin(9, b"", 1), [], "another than the first");
    let out = f.data(3, b"defgh", 2);
    assert_eq!(
        out,
        [
            piece(b"def", 2),
            piece(b"g", 1),
            piece(b"h", 2),
            last_piece(b"", 1)
        ]
    );
}

#[test]
fn a_hole_can_be_given_up() {
    let mut f = Fixture::new();
    assert_eq!(f.skip_gap(), (None, vec![]));
    f.data(3, b"def", 1);
    f.data(8, b"i", 2);
    f.fin(10, b"", 3);
    assert_eq!(f.skip_gap(), (Some(3), vec![piece(b"def", 1)]));
    assert_eq!(f.data(0, b"abc", 1), [], "too late");
    assert_eq!(f.skip_gap(), (Some(2), vec![piece(b"i", 2)]));
    assert_eq!(f.skip_gap(), (Some(1), vec![last_piece(b"", 3)]));
    assert_eq!(f.skip_gap(), (None, vec![]));
    assert!(f.stream.is_finished());
}

#[test]
fn the_limits_hold_and_are_reported() {
    let mut f = Fixture::new();
    let chunk = vec![0; MAX_HELD_BYTES / 16];
    let mut at = 1;
    for _ in 0..16 {
        f.data(at, &chunk, 0);
        at += chunk.len() as i64 + 1;
    }
    assert_eq!(f.stream.held_bytes(), MAX_HELD_BYTES);
    assert_eq!(f.insert_segment(at, b"x", 0, false).0.over_limit_bytes, 1);
    let (inserted, _) = f.insert_segment(0, &[0; 8], 0, false);
    assert_eq!((inserted.delivered_bytes, inserted.duplicate_bytes), (1, 7));
    assert_eq!(f.insert_segment(at, b"x", 0, false).0.held_bytes, 1);

    let mut f = Fixture::new();
    for index in 0..MAX_HELD_SEGMENTS as i64 {
        assert_eq!(
            f.insert_segment(2 * index + 1, b"x", 0, false).0.held_bytes,
            1
        );
    }
    let (inserted, _) = f.insert_segment(2, b"y", 0, false);
    assert_eq!(inserted.over_limit_bytes, 1);
    assert_eq!(f.data(0, b"z", 0), [piece(b"z", 0), piece(b"x", 0)]);
}

#[test]
fn segments_outside_every_window_are_refused() {
    let mut f = Fixture::new();
    let far = i64::from(MAX_DISTANCE);
    for at in [far + 1, -far - 1, 1 << 31] {
        let (inserted, out) = f.insert_segment(at, b"far", 0, true);
        assert_eq!((inserted.outlandish_bytes, out), (3, vec![]));
    }
    assert_eq!(f.stream.gap_since(), None);
    assert_eq!(f.insert_segment(far, b"edge", 0, false).0.held_bytes, 4);
    assert_eq!(
        f.insert_segment(-far, b"edge", 0, false).0.duplicate_bytes,
        4
    );
}

#[test]
fn a_million_streams_fit() {
    assert_eq!(size_of::<Reassembly<ClientSeq>>(), 16);
}

/// A stream as a map from position to the first byte that came for it, with ack and arrival.
#[derive(Debug, Default)]
struct Model {
    bytes: BTreeMap<i64, (u8, u32, Instant)>,
    next: i64,
    fin: Option<(i64, Instant)>,
    is_finished: bool,
}

impl Model {
    /// Returns the counts and the bytes in order now, each with its ack.
    fn insert(&mut self, now: Instant, segment: &Random) -> (Inserted, Vec<(u8, u32)>) {
        let end = segment.at + segment.payload.len() as i64;
        let known_end = self
            .bytes
            .last_key_value()
            .map_or(self.next, |(at, _)| at + 1);
        if segment.fin && self.fin.is_none() && end >= known_end.max(self.next) {
            self.fin = Some((end, now));
        }
        let before = self.next;
        let mut inserted = Inserted::default();
        let mut novel = Vec::new();
        for (at, &byte) in (segment.at..).zip(&segment.payload) {
            if at < before || self.bytes.contains_key(&at) {
                inserted.duplicate_bytes += 1;
            } else if self.fin.is_some_and(|(fin, _)| at >= fin) {
                inserted.after_fin_bytes += 1;
            } else {
                self.bytes.insert(at, (byte, segment.ack, now));
                novel.push(at);
            }
        }
        let out = self.advance();
        inserted.delivered_bytes = novel.iter().filter(|at| **at < self.next).count() as u32;
        inserted.held_bytes = novel.len() as u32 - inserted.delivered_bytes;
        (inserted, out)
    }

    fn skip_gap(&mut self) -> (Option<u32>, Vec<(u8, u32)>) {
        let resume = self.bytes.range(self.next..).next().map(|(at, _)| *at);
        let Some(resume) = resume
            .or(self.fin.map(|(at, _)| at))
            .filter(|at| *at > self.next)
        else {
            return (None, Vec::new());
        };
        let hole = (resume - self.next) as u32;
        self.next = resume;
        (Some(hole), self.advance())
    }

    fn advance(&mut self) -> Vec<(u8, u32)> {
        let mut out = Vec::new();
        while let Some((byte, ack, _)) = self.bytes.get(&self.next) {
            out.push((*byte, *ack));
            self.next += 1;
        }
        self.is_finished = self.fin.is_some_and(|(at, _)| at == self.next);
        out
    }

    fn gap_since(&self) -> Option<Instant> {
        let beyond = self
            .bytes
            .range(self.next..)
            .map(|(_, (_, _, arrived))| *arrived);
        let fin = self
            .fin
            .filter(|(at, _)| *at > self.next)
            .map(|(_, arrived)| arrived);
        beyond.chain(fin).min()
    }
}

#[derive(Clone, Debug)]
struct Random {
    at: i64,
    payload: Vec<u8>,
    ack: u32,
    fin: bool,
}

/// A segment, or (`None`) giving up the hole.
fn step() -> impl Strategy<Value = Option<Random>> {
    let payload = prop::collection::vec(any::<u8>(), 0..30);
    let segment = (-20..150i64, payload, 0..3u32, prop::bool::weighted(0.05)).prop_map(
        |(at, payload, ack, fin)| {
            Some(Random {
                at,
                payload,
                ack,
                fin,
            })
        },
    );
    prop_oneof![30 => segment, 1 => Just(None)]
}

/// Numbers about to wrap, about to change sign, and any.
fn first_number() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        (0..200u32).prop_map(|back| 0u32.wrapping_sub(back)),
        (0..200u32).prop_map(|back| (1 << 31) - back),
    ]
}

proptest! {
    #[test]
    fn agrees_with_a_byte_map(
        first in first_number(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut f = Fixture::starting_at(first);
        let mut model = Model::default();
        for step in steps {
            let was_finished = model.is_finished;
            let out = match step {
                Some(segment) => {
                    let Random { at, payload, ack, fin } = &segment;
                    let (inserted, out) = f.insert_segment(*at, payload, *ack, *fin);
                    let (expected, bytes) = model.insert(f.now, &segment);
                    prop_assert_eq!(inserted, expected);
                    check_pieces(&out, &bytes)?;
                    out
                }
                None => {
                    let (hole, out) = f.skip_gap();
                    let (expected, bytes) = model.skip_gap();
                    prop_assert_eq!(hole, expected);
                    check_pieces(&out, &bytes)?;
                    out
                }
            };
            let ends = out.last().is_some_and(|piece| piece.fin);
            prop_assert_eq!(out.iter().filter(|piece| piece.fin).count(), usize::from(ends));
            prop_assert_eq!(ends, model.is_finished && !was_finished);
            prop_assert_eq!(f.stream.is_finished(), model.is_finished);
            prop_assert_eq!(f.next(), model.next);
            prop_assert_eq!(f.stream.held_bytes(), model.bytes.range(model.next..).count());
            prop_assert_eq!(f.stream.gap_since(), model.gap_since());
        }
    }

    #[test]
    fn every_segmentation_gives_the_stream(
        first in first_number(),
        stream in prop::collection::vec(any::<u8>(), 0..5000),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 1..1460usize), 0..60),
        order in any::<u64>(),
    ) {
        // Every byte is covered once by the even split; the random cuts overlap and repeat it.
        let even = (0..stream.len()).step_by(997).map(|from| (from, 997));
        let random = cuts.iter().map(|(at, len)| (at.index(stream.len() + 1), *len));
        let mut segments: Vec<(usize, usize)> = even.chain(random).collect();
        segments.push((stream.len(), 0));
        segments.sort_by_key(|(at, len)| foldhash_of(order, *at, *len));

        let mut f = Fixture::starting_at(first);
        let mut received = Vec::new();
        for (from, len) in segments {
            let to = stream.len().min(from + len);
            let is_last = to == stream.len();
            for piece in f.insert_segment(from as i64, &stream[from..to], 0, is_last).1 {
                received.extend_from_slice(&piece.payload);
            }
        }
        prop_assert_eq!(received, stream);
        prop_assert!(f.stream.is_finished());
        prop_assert_eq!(f.stream.held_bytes(), 0);
    }
}

fn foldhash_of(seed: u64, at: usize, len: usize) -> u64 {
    use std::hash::BuildHasher;
    foldhash::fast::FixedState::with_seed(seed).hash_one((at, len))
}

/// The pieces are the bytes, with their acks, and only a FIN comes without bytes.
fn check_pieces(out: &[Delivered], bytes: &[(u8, u32)]) -> Result<(), TestCaseError> {
    let flat: Vec<(u8, u32)> = out
        .iter()
        .flat_map(|p| p.payload.iter().map(|byte| (*byte, p.ack)))
        .collect();
    prop_assert_eq!(&flat, bytes);
    prop_assert!(
        out.iter()
            .all(|piece| piece.fin || !piece.payload.is_empty())
    );
    Ok(())
}
