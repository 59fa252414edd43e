//! The models tested by themselves: a plain client that sends again whatever is not acknowledged
//! must get its stream to the model target, and all answers back, over any link.

use tcpcopy_packet::{Endpoint, FourTuple, Segment, TcpFlags, TcpOptions, Timestamps};

use crate::capture::{CapturedConnection, ClientShape, Disturbance};
use crate::conversation::{Conversation, answer_bytes};
use crate::events::{EventQueue, MINUTE_US, Micros, SECOND_US};
use crate::link::{Link, LinkConfig};
use crate::mix::{Mix, draw_shape};
use crate::rng::Rng;
use crate::scenario::Family;
use crate::target::{End, Finish, Listening, ModelTarget, Reader, TargetConfig};
use crate::wire::Header;

/// The client's only timer.
const RESEND_US: Micros = SECOND_US;
/// Payload of its segments.
const SEGMENT_BYTES: u64 = 500;
/// IP and TCP headers of its packets, roughly; the target checks packets' lengths.
const HEADERS_BYTES: usize = 80;
const CLIENT_SEQ: u32 = u32::MAX - 700;

/// A client that goes back to the first unacknowledged byte each second.
struct PlainClient {
    tuple: FourTuple,
    stream: Vec<u8>,
    connected: bool,
    target_seq: u32,
    /// Offsets as in the target: the SYN is 0, the FIN one after the last byte.
    acknowledged: u64,
    sent: u64,
    edge: u64,
    shift: u8,
    received: u64,
    fin_received: bool,
    reset: bool,
    clock: u32,
    echo: Option<u32>,
}

impl PlainClient {
    fn new(tuple: FourTuple, stream: Vec<u8>) -> Self {
        Self {
            tuple,
            stream,
            connected: false,
            target_seq: 0,
            acknowledged: 0,
            sent: 0,
            edge: 0,
            shift: 0,
            received: 0,
            fin_received: false,
            reset: false,
            clock: 1,
            echo: None,
        }
    }

    fn is_done(&self) -> bool {
        self.reset || (self.fin_received && self.acknowledged == self.end())
    }

    fn end(&self) -> u64 {
        self.stream.len() as u64 + 2
    }

    fn header(&mut self, offset: u64, flags: TcpFlags, payload_len: u64) -> Header {
        self.clock += 1;
        let is_syn = flags.contains(TcpFlags::SYN);
        let timestamps = Timestamps {
            value: self.clock,
            echo: self.echo.unwrap_or(0),
        };
        let mut options = TcpOptions {
            timestamps: (is_syn || self.echo.is_some()).then_some(timestamps),
            ..TcpOptions::default()
        };
        if is_syn {
            options.mss = Some(1200);
            options.window_scale = Some(3);
            options.sack_permitted = true;
        }
        let received = self.received + u64::from(self.fin_received);
        Header {
            tuple: self.tuple,
            seq: CLIENT_SEQ.wrapping_add(low(offset)),
            ack: self.target_seq.wrapping_add(low(1 + received)),
            flags,
            window: 50_000,
            options,
            payload_len: low(payload_len),
        }
    }

    /// All that may be sent from `sent` on.
    fn transmit(&mut self) -> Vec<(Header, std::ops::Range<usize>)> {
        let mut out = Vec::new();
        if !self.connected {
            out.push((self.header(0, TcpFlags::SYN, 0), 0..0));
            return out;
        }
        let data_end = self.end() - 1;
        while self.sent < self.edge.min(data_end) {
            let end = (self.sent + SEGMENT_BYTES).min(self.edge).min(data_end);
            let range = [self.sent, end].map(|at| usize::try_from(at - 1).expect("in memory"));
            out.push((
                self.header(self.sent, TcpFlags::ACK, end - self.sent),
                range[0]..range[1],
            ));
            self.sent = end;
        }
        if self.sent == data_end {
            out.push((
                self.header(self.sent, TcpFlags::ACK | TcpFlags::FIN, 0),
                0..0,
            ));
            self.sent += 1;
        } else if self.sent < data_end && self.sent == self.acknowledged {
            // A closed window: one byte asks for news.
            let start = usize::try_from(self.sent - 1).expect("in memory");
            out.push((self.header(self.sent, TcpFlags::ACK, 1), start..start + 1));
        }
        out
    }

    fn reply(&mut self, reply: &Segment<'_>) -> Option<Header> {
        if reply.flags.contains(TcpFlags::RST) {
            self.reset = true;
            return None;
        }
        if reply.flags.contains(TcpFlags::SYN) && !self.connected {
            self.connected = true;
            self.target_seq = reply.seq;
            self.shift = reply.options.window_scale.unwrap_or(0);
            self.echo = reply.options.timestamps.map(|timestamps| timestamps.value);
            self.acknowledged = 1;
            self.sent = 1;
            self.edge = 1 + u64::from(reply.window);
        }
        if reply.flags.contains(TcpFlags::SYN) {
            let at = self.sent;
            return Some(self.header(at, TcpFlags::ACK, 0));
        }
        let acknowledged = u64::from(reply.ack.wrapping_sub(CLIENT_SEQ));
        if acknowledged <= self.end() && acknowledged >= self.acknowledged {
            self.acknowledged = acknowledged;
            self.sent = self.sent.max(acknowledged);
            self.edge = self
                .edge
                .max(acknowledged + (u64::from(reply.window) << self.shift));
        }
        if reply.sequence_len() == 0 {
            return None;
        }
        let next = self.target_seq.wrapping_add(low(1 + self.received));
        if !self.fin_received && reply.seq == next {
            self.received += u64::from(reply.payload_len);
            self.fin_received = reply.flags.contains(TcpFlags::FIN);
            self.echo = reply.options.timestamps.map(|timestamps| timestamps.value);
        }
        let at = self.sent;
        Some(self.header(at, TcpFlags::ACK, 0))
    }
}

fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).expect("masked")
}

enum Event {
    ToTarget(Header, std::ops::Range<usize>),
    ToClient(Header),
    Resend,
}

/// Plays one stream to a target; returns the client and the target's view.
fn play(
    config: &TargetConfig,
    link: LinkConfig,
    stream: Vec<u8>,
    seed: u64,
) -> (PlainClient, ModelTarget) {
    let mut rng = Rng::new(seed);
    let mut target = ModelTarget::new(config.clone(), rng.fork());
    let [mut there, mut back] = [Link::new(link, rng.fork()), Link::new(link, rng.fork())];
    let source = Endpoint::new(Family::V4.client(7).source.address, 4711);
    let mut client = PlainClient::new(FourTuple::new(source, config.endpoint), stream);
    let mut queue = EventQueue::new();
    queue.push(0, Event::Resend);
    let mut now_us = 0;
    while !client.is_done() {
        assert!(
            now_us < 600 * MINUTE_US,
            "no end: {} of {}",
            client.acknowledged,
            client.end()
        );
        let target_at = target.next_at();
        if target_at.is_some_and(|at| queue.next_at().is_none_or(|event_at| at < event_at)) {
            now_us = now_us.max(target_at.expect("just seen"));
            target.timeout(now_us);
        } else {
            let (at_us, event) = queue.pop().expect("the client always has a timer");
            now_us = now_us.max(at_us);
            let mut send = Vec::new();
            match event {
                Event::ToTarget(header, range) => {
                    let payload = &client.stream[range];
                    let packet_len = payload.len() + HEADERS_BYTES;
                    target.segment(now_us, &header.segment(payload), packet_len);
                }
                Event::ToClient(header) => {
                    send.extend(
                        client
                            .reply(&header.without_payload())
                            .map(|ack| (ack, 0..0)),
                    );
                    if client.connected && !client.reset {
                        send.extend(client.transmit());
                    }
                }
                Event::Resend => {
                    client.sent = client.acknowledged;
                    send.extend(client.transmit());
                    queue.push(now_us + RESEND_US, Event::Resend);
                }
            }
            for (header, range) in send {
                for arrival_us in there.carry(now_us) {
                    queue.push(arrival_us, Event::ToTarget(header, range.clone()));
                }
            }
        }
        for (header, _) in target.take_out() {
            for arrival_us in back.carry(now_us) {
                queue.push(arrival_us, Event::ToClient(header));
            }
        }
    }
    (client, target)
}

fn talk(seed: u64) -> Conversation {
    let mut rng = Rng::new(seed);
    Mix::default().conversation(Family::V4.client(1), 0, &mut rng)
}

/// Plays a drawn conversation and checks both directions.
fn assert_heard(config: &TargetConfig, link: LinkConfig) {
    for seed in 0..12 {
        let conversation = talk(seed);
        let stream = conversation.stream();
        let (client, target) = play(config, link, stream.clone(), seed);
        let (accepted, counts) = target.finish();
        assert_eq!(accepted.len(), 1);
        assert!(
            accepted[0].stream == stream,
            "seed {seed}: the stream differs"
        );
        assert!(accepted[0].client_closed);
        let late = match config.finish {
            Finish::LateData { bytes, .. } => bytes,
            _ => 0,
        };
        let answers: u64 = conversation
            .messages()
            .map(|m| answer_bytes(m.answer))
            .sum();
        assert_eq!(
            client.received,
            config.greeting_bytes + answers + late,
            "seed {seed}: answers"
        );
        assert_eq!(counts.bad_resets, 0);
    }
}

const LOSSY: LinkConfig = LinkConfig {
    delay_us: 2_000,
    jitter_us: 500,
    reorder_permille: 100,
    loss_permille: 100,
    duplicate_permille: 50,
};

#[test]
fn the_target_hears_a_plain_client() {
    assert_heard(
        &TargetConfig::new(Family::V4.target()),
        LinkConfig::default(),
    );
}

#[test]
fn the_target_repairs_a_lossy_link() {
    let plain = TargetConfig::new(Family::V4.target());
    assert_heard(&plain, LOSSY);
    let offload = TargetConfig {
        segmentation_offload: true,
        timestamps: false,
        ..plain.clone()
    };
    assert_heard(&offload, LOSSY);
    let bare = TargetConfig {
        window_scale: None,
        sack: false,
        delayed_ack_us: 0,
        ..plain
    };
    assert_heard(&bare, LOSSY);
}

#[test]
fn the_target_closes_and_opens_its_window() {
    let plain = TargetConfig::new(Family::V4.target());
    let slow = Reader::Slow {
        bytes: 900,
        interval_us: 3_000,
    };
    let narrow = TargetConfig {
        reader: slow,
        receive_buffer_bytes: 2_000,
        ..plain.clone()
    };
    assert_heard(&narrow, LinkConfig::default());
    assert_heard(&narrow, LOSSY);
    let pause = Reader::Pauses {
        after_bytes: 300,
        pause_us: 30 * SECOND_US,
    };
    assert_heard(
        &TargetConfig {
            reader: pause,
            ..plain
        },
        LOSSY,
    );
}

#[test]
fn the_target_speaks_first_and_late() {
    let plain = TargetConfig::new(Family::V4.target());
    let delay_us = 400_000;
    let talkative = TargetConfig {
        greeting_bytes: 100,
        finish: Finish::LateData {
            delay_us,
            bytes: 9_000,
        },
        listening: Listening::Accepts { delay_us },
        ..plain
    };
    assert_heard(&talkative, LinkConfig::default());
    assert_heard(&talkative, LOSSY);
}

#[test]
fn the_target_refuses_and_resets() {
    let plain = TargetConfig::new(Family::V4.target());
    let refusing = TargetConfig {
        listening: Listening::Refuses,
        ..plain.clone()
    };
    let (client, target) = play(&refusing, LinkConfig::default(), talk(1).stream(), 1);
    assert!(client.reset && target.finish().0.is_empty());
    let resetting = TargetConfig {
        finish: Finish::ResetAfter { bytes: 1_000 },
        ..plain.clone()
    };
    let (client, target) = play(&resetting, LinkConfig::default(), vec![b'a'; 5_000], 1);
    assert!(client.reset);
    assert_eq!(target.finish().0[0].end, Some(End::ResetByTarget));
    let closing = TargetConfig {
        finish: Finish::CloseAfter { messages: 0 },
        ..plain
    };
    let (client, _) = play(&closing, LinkConfig::default(), vec![b'a'; 50_000], 1);
    assert!(client.reset, "data after the close is reset");
}

#[test]
fn a_capture_without_holes_covers_the_stream() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let conversation = talk(seed);
        let shape = draw_shape(&mut rng);
        let disturbance = Disturbance {
            late_permille: 50,
            swapped_permille: 100,
            duplicate_permille: 100,
            overlap_permille: 100,
            ..Disturbance::default()
        };
        let captured = CapturedConnection::new(conversation, shape, disturbance, &mut rng);
        let mut seen = vec![false; captured.stream.len()];
        for range in captured
            .segments
            .iter()
            .filter_map(|segment| segment.range.clone())
        {
            let range = range.start as usize..range.end as usize;
            if !range.is_empty() {
                seen[range].fill(true);
            }
        }
        assert!(
            seen.into_iter().all(|seen| seen),
            "seed {seed}: a byte is missing"
        );
        assert!(captured.holes.is_empty() && captured.has_start());
        let times: Vec<Micros> = captured
            .segments
            .iter()
            .map(|segment| segment.at_us)
            .collect();
        assert!(
            times.is_sorted(),
            "seed {seed}: the capture goes back in time"
        );
    }
}

#[test]
fn holes_are_what_the_capture_did_not_see() {
    let mut rng = Rng::new(3);
    let mix = Mix {
        turns: 30,
        ..Mix::default()
    };
    let conversation = mix.conversation(Family::V4.client(1), 0, &mut rng);
    let disturbance = Disturbance {
        hole_permille: 100,
        overlap_permille: 50,
        ..Disturbance::default()
    };
    let shape = ClientShape::default();
    let captured = CapturedConnection::new(conversation, shape, disturbance, &mut rng);
    assert!(!captured.holes.is_empty());
    for segment in captured
        .segments
        .iter()
        .filter_map(|segment| segment.range.clone())
    {
        for hole in &captured.holes {
            assert!(segment.is_empty() || segment.end <= hole.start || segment.start >= hole.end);
        }
    }
}
