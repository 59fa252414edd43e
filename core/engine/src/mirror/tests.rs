//! Tests that read like packet traces: `>` is a segment of the mirror, `<` one of the target.
//!
//! Numbers count from each side's initial sequence number; a segment is written
//! `FLAGS FIRST:AFTER-LAST ack N [win N] [sack A:B …]`, times are in milliseconds.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tcpcopy_packet::{Endpoint, SackBlock, TcpOptions};

use super::*;

/// The target's initial sequence number: the stream wraps after 99 bytes.
const ISN: u32 = u32::MAX - 99;
const MSS: u16 = 100;

struct Trace {
    mirror: Mirror,
    now: Instant,
    packet: Vec<u8>,
    gate: u64,
    last: Progress,
}

fn offer() -> SynOffer {
    SynOffer {
        mss: 1460,
        window: 64_240,
        window_scale: None,
        sack: true,
        timestamps: false,
        latency: Duration::ZERO,
        immediate_acks: false,
        follows_client: false,
    }
}

impl Trace {
    fn new(offer: SynOffer) -> Self {
        let source = Endpoint::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 40_000);
        let target = Endpoint::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 80);
        let now = Instant::from_micros(1_000_000_000);
        let mut mirror = Mirror::new(now, FourTuple::new(source, target), offer, 1500, 7);
        mirror.registered(now);
        Self {
            mirror,
            now,
            packet: Vec::new(),
            gate: u64::MAX,
            last: Progress::default(),
        }
    }

    /// After the handshake: the target takes segments of `MSS` bytes.
    fn established() -> Self {
        let mut t = Self::new(offer());
        t.run(&["0 > S 0:0", "0 < S. 0:0 ack 1 win 1000", "0 > . 1:1 ack 1"]);
        assert!(t.last.established);
        t
    }

    fn push(&mut self, length: usize) -> &mut Self {
        self.mirror.push(Bytes::from(vec![b'x'; length]));
        self
    }

    /// Plays lines of a trace. A `>` line must be the mirror's next segment at that time, and
    /// after the last one of that time the mirror must have nothing to add.
    fn run(&mut self, lines: &[&str]) -> &mut Self {
        for (index, line) in lines.iter().enumerate() {
            let mut words = line.splitn(3, ' ');
            let at: u64 = words.next().unwrap().parse().unwrap();
            let direction = words.next().unwrap();
            let text = words.next().unwrap_or_default();
            self.advance_to(at);
            match direction {
                ">" => assert_eq!(
                    self.transmit().as_deref(),
                    Some(text),
                    "line {index}: {line}"
                ),
                "<" => self.receive(text),
                "-" => assert_eq!(self.transmit(), None, "line {index}: {line}"),
                other => panic!("unknown direction {other}"),
            }
        }
        self
    }

    fn advance_to(&mut self, millis: u64) {
        let until = Instant::from_micros(1_000_000_000 + millis * 1000);
        assert!(until >= self.now, "time never goes back");
        self.now = until;
        if self.mirror.deadline().is_some_and(|at| at <= until) {
            self.mirror.timeout(until);
        }
    }

    fn transmit(&mut self) -> Option<String> {
        self.mirror
            .poll_transmit(self.now, self.gate, &mut self.packet)?;
        let segment = Segment::parse(&self.packet).unwrap();
        let first = segment.seq.wrapping_sub(self.mirror.iss().value());
        let mut text = format!(
            "{:?} {first}:{}",
            segment.flags,
            first + segment.payload_len
        );
        if segment.flags.contains(TcpFlags::ACK) {
            write!(text, " ack {}", segment.ack.wrapping_sub(ISN)).unwrap();
        }
        for block in segment.options.sack.as_slice() {
            let (start, end) = (block.start.wrapping_sub(ISN), block.end.wrapping_sub(ISN));
            write!(text, " sack {start}:{end}").unwrap();
        }
        Some(text)
    }

    fn receive(&mut self, text: &str) {
        let mut words = text.split(' ');
        let flags = words
            .next()
            .unwrap()
            .chars()
            .fold(TcpFlags::default(), |flags, c| {
                flags
                    | match c {
                        'S' => TcpFlags::SYN,
                        'F' => TcpFlags::FIN,
                        'R' => TcpFlags::RST,
                        'P' => TcpFlags::PSH,
                        '.' => TcpFlags::ACK,
                        other => panic!("unknown flag {other}"),
                    }
            });
        let range = |word: &str| {
            let (start, end) = word.split_once(':').unwrap();
            (start.parse::<u32>().unwrap(), end.parse::<u32>().unwrap())
        };
        let (start, end) = range(words.next().unwrap());
        let iss = self.mirror.iss().value();
        let mut options = TcpOptions::default();
        let mut segment_ack = 0;
        let mut window = 1000;
        while let Some(word) = words.next() {
            let value = words.next().unwrap();
            match word {
                "ack" => segment_ack = iss.wrapping_add(value.parse().unwrap()),
                "win" => window = value.parse().unwrap(),
                "sack" => {
                    let (start, end) = range(value);
                    let seq = |offset: u32| iss.wrapping_add(offset);
                    options.sack.push(SackBlock {
                        start: seq(start),
                        end: seq(end),
                    });
                }
                other => panic!("unknown word {other}"),
            }
        }
        if flags.contains(TcpFlags::SYN) {
            options.mss = Some(MSS);
            options.sack_permitted = true;
        }
        let segment = Segment {
            tuple: self.mirror.tuple().reversed(),
            seq: ISN.wrapping_add(start),
            ack: segment_ack,
            flags,
            window,
            options,
            hop_limit: 64,
            payload: &[],
            payload_len: end - start,
        };
        self.last = self.mirror.segment(self.now, &segment);
    }
}

#[test]
fn a_request_its_answer_and_the_close_by_the_client() {
    let mut t = Trace::established();
    t.push(50)
        .run(&["1 > P. 1:51 ack 1", "2 < P. 1:201 ack 51"]);
    assert_eq!(
        (t.last.delivered, t.last.received, t.last.pushed),
        (50, 200, true)
    );
    t.mirror.finish();
    t.run(&[
        "3 > FP. 51:51 ack 201",
        "4 < F. 201:201 ack 52",
        "4 > . 52:52 ack 202",
        "4 -",
    ]);
    assert!(t.mirror.is_lingering());
    t.run(&["300 < F. 201:201 ack 52", "300 > . 52:52 ack 202"]);
}

#[test]
fn close_by_the_target_first() {
    let mut t = Trace::established();
    t.push(10).run(&[
        "1 > P. 1:11 ack 1",
        "2 < FP. 1:31 ack 11",
        "2 > . 11:11 ack 32",
    ]);
    t.mirror.finish();
    t.run(&["3 > FP. 11:11 ack 32", "4 < . 32:32 ack 12"]);
    assert_eq!(t.last.ended, Some(Ending::Done));
}

#[test]
fn simultaneous_close() {
    let mut t = Trace::established();
    t.mirror.finish();
    t.run(&[
        "1 > FP. 1:1 ack 1",
        "1 < F. 1:1 ack 1",
        "1 > . 2:2 ack 2",
        "2 < . 2:2 ack 2",
    ]);
    assert!(t.mirror.is_lingering());
}

#[test]
fn data_leaves_in_segments_of_the_targets_size_and_never_beyond_its_window() {
    let mut t = Trace::established();
    t.push(1150).run(&[
        "1 > . 1:101 ack 1",
        "1 > . 101:201 ack 1",
        "1 > . 201:301 ack 1",
        "1 > . 301:401 ack 1",
        "1 > . 401:501 ack 1",
        "1 > . 501:601 ack 1",
        "1 > . 601:701 ack 1",
        "1 > . 701:801 ack 1",
        "1 > . 801:901 ack 1",
        "1 > . 901:1001 ack 1",
        "1 -",
        "2 < . 1:1 ack 1001 win 100",
        "2 > . 1001:1101 ack 1",
        "2 -",
        "3 < . 1:1 ack 1101 win 1000",
        "3 > P. 1101:1151 ack 1",
    ]);
}

#[test]
fn the_gate_holds_bytes_and_the_fin() {
    let mut t = Trace::established();
    t.push(30);
    t.mirror.finish();
    t.gate = 20;
    t.run(&["1 > . 1:21 ack 1", "1 -"]);
    t.gate = 30;
    t.run(&["2 > P. 21:31 ack 1", "2 -"]);
    t.gate = u64::MAX;
    t.run(&["3 > FP. 31:31 ack 1"]);
}

#[test]
fn a_lost_request_is_probed_soon_and_resent_with_back_off() {
    let mut t = Trace::established();
    t.push(50).run(&[
        "1 > P. 1:51 ack 1",
        "60 -",
        "61 > P. 1:51 ack 1",
        "260 -",
        "261 > P. 1:51 ack 1",
        "660 -",
        "661 > P. 1:51 ack 1",
        "700 < P. 1:11 ack 51",
        "700 -",
    ]);
    assert_eq!(t.last.delivered, 50);
}

#[test]
fn the_syn_is_repeated_and_a_silent_target_given_up() {
    let mut t = Trace::new(offer());
    t.run(&[
        "0 > S 0:0",
        "999 -",
        "1000 > S 0:0",
        "3000 > S 0:0",
        "7000 > S 0:0",
    ]);
    t.run(&["15000 > S 0:0", "31000 > S 0:0"]);
    t.now = Instant::from_micros(1_063_000_000);
    assert_eq!(t.mirror.timeout(t.now), Expired::Ended(Ending::Unanswered));
}

#[test]
fn three_duplicates_repair_a_hole_without_a_timeout() {
    let mut t = Trace::established();
    t.push(500).run(&[
        "1 > . 1:101 ack 1",
        "1 > . 101:201 ack 1",
        "1 > . 201:301 ack 1",
        "1 > . 301:401 ack 1",
        "1 > P. 401:501 ack 1",
        "2 < . 1:1 ack 1 sack 101:201",
        "2 -",
        "2 < . 1:1 ack 1 sack 101:301",
        "2 < . 1:1 ack 1 sack 101:401",
        "2 > . 1:101 ack 1",
        "2 -",
        "3 < . 1:1 ack 501",
    ]);
    assert_eq!(t.last.delivered, 500);
}

#[test]
fn a_closed_window_is_probed_until_it_opens() {
    let mut t = Trace::established();
    t.run(&["1 < . 1:1 ack 1 win 0"]);
    t.push(50).run(&[
        "2 -",
        "202 > . 1:2 ack 1",
        "203 < . 1:1 ack 1 win 0",
        "602 > . 1:2 ack 1",
        "603 < . 1:1 ack 1 win 1000",
        "603 > . 1:2 ack 1",
        "603 > P. 2:51 ack 1",
    ]);
}

#[test]
fn a_lost_fin_is_sent_again_although_the_window_was_closed() {
    let mut t = Trace::established();
    t.run(&["1 < . 1:1 ack 1 win 0"]);
    t.push(50).run(&["2 -"]);
    t.mirror.take_from(0);
    t.mirror.finish();
    t.run(&["3 > FP. 1:1 ack 1", "203 > FP. 1:1 ack 1"]);
}

#[test]
fn keep_alive_probes_are_answered() {
    let mut t = Trace::established();
    t.run(&[
        "5000 < . 0:0 ack 1",
        "5000 > . 1:1 ack 1",
        "9000 < . 0:1 ack 1",
        "9000 > . 1:1 ack 1",
    ]);
}

#[test]
fn a_reply_lost_on_the_way_is_asked_for_again() {
    let mut t = Trace::established();
    t.run(&[
        "1 < P. 101:201 ack 1",
        "1 > . 1:1 ack 1 sack 101:201",
        "2 < P. 1:101 ack 1",
        "2 -",
        "42 > . 1:1 ack 201",
    ]);
}

#[test]
fn only_an_exact_reset_counts_and_a_near_one_is_challenged() {
    let mut t = Trace::established();
    t.run(&["1 < R. 5:5 ack 1", "1 > . 1:1 ack 1", "2 < R 1:1"]);
    assert_eq!(t.last.ended, Some(Ending::Reset));
}

#[test]
fn a_refused_connection() {
    let mut t = Trace::new(offer());
    t.run(&["0 > S 0:0", "1 < R. 0:0 ack 1"]);
    assert_eq!(t.last.ended, Some(Ending::Refused));
}

#[test]
fn a_reset_that_answers_another_syn_is_ignored() {
    let mut t = Trace::new(offer());
    t.run(&[
        "0 > S 0:0",
        "1 < R. 0:0 ack 9",
        "1 -",
        "2 < S. 0:0 ack 1",
        "2 > . 1:1 ack 1",
    ]);
}

#[test]
fn an_older_connection_in_the_way_is_reset_and_the_syn_repeated() {
    let mut t = Trace::new(offer());
    t.run(&[
        "0 > S 0:0",
        "1 < . 7:7 ack 5000",
        "1 > R 5000:5000",
        "1001 > S 0:0",
    ]);
}

#[test]
fn our_reset_is_repeated_for_a_target_that_goes_on() {
    let mut t = Trace::established();
    t.push(10).run(&["1 > P. 1:11 ack 1"]);
    t.mirror.abort(t.now);
    t.run(&[
        "1 > R. 11:11 ack 1",
        "1 -",
        "2 < P. 1:51 ack 1",
        "2 > R. 1:1 ack 1",
    ]);
}

#[test]
fn a_syn_ack_that_comes_again_is_acknowledged_again() {
    let mut t = Trace::established();
    t.run(&["1000 < S. 0:0 ack 1", "1000 > . 1:1 ack 1"]);
}

#[test]
fn acknowledgements_follow_the_captured_clients_round_trip_time() {
    let mut t = Trace::new(SynOffer {
        follows_client: true,
        ..offer()
    });
    t.push(10).run(&["0 > S 0:0", "1 < S. 0:0 ack 1", "50 -"]);
    t.mirror.client_established(Duration::from_millis(80));
    t.run(&[
        "80 > P. 1:11 ack 1",
        "81 < P. 1:51 ack 11",
        "160 -",
        "161 > . 11:11 ack 51",
    ]);
}

#[test]
fn nothing_leaves_before_intercept_has_confirmed() {
    let mut t = Trace::new(offer());
    let tuple = t.mirror.tuple();
    t.mirror = Mirror::new(t.now, tuple, offer(), 1500, 7);
    t.run(&["100 -"]);
    t.mirror.registered(t.now);
    t.run(&["100 > S 0:0"]);
}

#[test]
fn a_distant_client_acknowledges_the_handshake_and_the_answer_later() {
    let latency = Duration::from_millis(80);
    let mut t = Trace::new(SynOffer { latency, ..offer() });
    t.mirror.client_established(latency);
    t.run(&["0 > S 0:0", "1 < S. 0:0 ack 1 win 1000", "81 > . 1:1 ack 1"]);
    t.push(50).run(&[
        "81 > P. 1:51 ack 1",
        "82 < P. 1:300 ack 51 win 1000",
        "162 > . 51:51 ack 300",
    ]);
}
