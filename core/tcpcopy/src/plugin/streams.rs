//! Connections of a capture file as a transcript: what clients and origins said, in order.
//!
//! The engine itself puts the streams in order, as it would for a replay; here it has a plugin that
//! only listens, and a target that takes everything and says nothing.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plugin_api::Direction;
use plugin_api::testkit::{Opening, Step, Transcript};
use tcpcopy_engine::plugin::{
    Actions, Direction as EngineDirection, Event, Failure, Needs, Plugins, SessionInfo,
};
use tcpcopy_engine::{
    CaptureEvent, Engine, EngineConfig, Instant, Mapping, Output, SessionId, ShutDown, Upstream,
    UpstreamEvent,
};
use tcpcopy_net::file::{CaptureFile, FileError};
use tcpcopy_packet::{Endpoint, Segment, TcpFlags, strip_link_header};

use crate::player::link_of;

/// Longer than any capture, so that no connection ends for want of a target.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// More captured data than fits a plugin's test.
const MEMORY_BYTES: u64 = 4 << 30;

/// What a capture file came to.
#[derive(Debug)]
pub(super) struct Streams {
    /// All that was said. The target answers what the origin did.
    pub(super) transcript: Transcript,
    /// Connections in it.
    pub(super) connections: usize,
    /// Connections beyond those asked for.
    pub(super) left_out: usize,
}

/// Why a capture file came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum StreamsError {
    /// It can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// All its connections began before.
    #[error("{0} shows no connection from its beginning, which would tell the origin's port")]
    NoBeginning(String),
    /// It is not clear who the origin is.
    #[error("{file} shows connections to several ports: {}", list(ports))]
    SeveralPorts {
        /// The file.
        file: String,
        /// The ports.
        ports: Vec<u16>,
    },
    /// Nobody spoke to the port.
    #[error("{file} shows nothing that a client said to port {port}")]
    NothingSaid {
        /// The file.
        file: String,
        /// The port.
        port: u16,
    },
}

impl StreamsError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File(error) => error.hint(),
            Self::NoBeginning(_) | Self::SeveralPorts { .. } => "name the origin's port with -x",
            Self::NothingSaid { .. } => "name the port that clients connect to with -x",
        }
    }
}

fn list(ports: &[u16]) -> String {
    let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
    ports.join(", ")
}

/// Whether a file is a capture, by its first bytes; a packed one is taken for one.
pub(super) fn is_capture(beginning: &[u8]) -> bool {
    const BEGINNINGS: [[u8; 4]; 6] = [
        [0x0a, 0x0d, 0x0d, 0x0a],
        [0xa1, 0xb2, 0xc3, 0xd4],
        [0xd4, 0xc3, 0xb2, 0xa1],
        [0xa1, 0xb2, 0x3c, 0x4d],
        [0x4d, 0x3c, 0xb2, 0xa1],
        [0x28, 0xb5, 0x2f, 0xfd],
    ];
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    beginning.starts_with(&GZIP) || BEGINNINGS.iter().any(|magic| beginning.starts_with(magic))
}

/// Reads the connections to an origin's port, at most so many; without a port, the one that
/// connections begin to.
pub(super) fn read(path: &Path, port: Option<u16>, most: usize) -> Result<Streams, StreamsError> {
    read_from(|| CaptureFile::open(path), port, most)
}

/// Reads a file that is opened once or twice.
fn read_from(
    open: impl Fn() -> Result<CaptureFile, FileError>,
    port: Option<u16>,
    most: usize,
) -> Result<Streams, StreamsError> {
    let port = match port {
        Some(port) => port,
        None => guess(open()?)?,
    };
    let file = open()?;
    let name = file.name().to_owned();
    let heard = Arc::<Mutex<Heard>>::default();
    heard.lock().unwrap_or_else(PoisonError::into_inner).most = most;
    let mut engine = engine(port, Listener(Arc::clone(&heard)));
    let mut last = Instant::from_micros(0);
    for_each_packet(file, |time_ns, packet| {
        let now = last.max(Instant::from_micros(time_ns / 1_000));
        last = now;
        engine.timeout(now);
        match Segment::parse(packet) {
            Ok(segment) => engine.segment(now, &segment),
            Err(_) => engine.capture_event(CaptureEvent::Malformed),
        }
        obey(&mut engine, now);
    })?;
    engine.shut_down(last, ShutDown::Now);
    obey(&mut engine, last);
    drop(engine);
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let heard = std::mem::take(&mut *heard);
    if heard.steps.is_empty() {
        return Err(StreamsError::NothingSaid { file: name, port });
    }
    Ok(Streams {
        transcript: Transcript { steps: heard.steps },
        connections: heard.opened,
        left_out: heard.left_out,
    })
}

/// The port that connections begin to.
fn guess(file: CaptureFile) -> Result<u16, StreamsError> {
    let name = file.name().to_owned();
    let mut ports = Vec::new();
    for_each_packet(file, |_, packet| {
        if let Ok(segment) = Segment::parse(packet)
            && segment.flags.contains(TcpFlags::SYN)
            && !segment.flags.contains(TcpFlags::ACK)
            && !ports.contains(&segment.tuple.destination.port)
        {
            ports.push(segment.tuple.destination.port);
        }
    })?;
    match ports.as_slice() {
        [] => Err(StreamsError::NoBeginning(name)),
        [port] => Ok(*port),
        _ => Err(StreamsError::SeveralPorts { file: name, ports }),
    }
}

/// Gives all IP packets of a file with their times, in nanoseconds since the Unix epoch.
fn for_each_packet(
    mut file: CaptureFile,
    mut packet: impl FnMut(u64, &[u8]),
) -> Result<(), FileError> {
    while let Some(frame) = file.next_frame()? {
        if let Some(link) = link_of(frame.link_type)
            && let Ok(bytes) = strip_link_header(link, frame.frame)
        {
            packet(frame.time_ns, bytes);
        }
    }
    Ok(())
}

/// An engine that replays nothing, with a plugin that hears everything.
fn engine(port: u16, listener: Listener) -> Engine {
    let config = EngineConfig {
        mappings: vec![Mapping {
            origin_address: None,
            origin_port: port,
            target: Opening::new(1).info().target.into(),
        }],
        upstream: Upstream::Socket,
        session_timeout: NEVER,
        idle_timeout: NEVER,
        memory_budget_bytes: MEMORY_BYTES,
        ..EngineConfig::default()
    };
    Engine::with_plugins(config, 0, Box::new(listener))
}

/// Makes every connection at once.
fn obey(engine: &mut Engine, now: Instant) {
    loop {
        let events = match engine.poll_output(now) {
            Output::Timeout(_) => return,
            Output::Connect { session, .. } => {
                let source = Endpoint::new(std::net::Ipv4Addr::LOCALHOST.into(), 1);
                let connecting = UpstreamEvent::Connecting { session, source };
                [Some(connecting), Some(UpstreamEvent::Connected(session))]
            }
            Output::Send { session, bytes } => {
                let bytes = bytes.len();
                [Some(UpstreamEvent::Taken { session, bytes }), None]
            }
            _ => [None, None],
        };
        for event in events.into_iter().flatten() {
            engine.upstream_event(now, event);
        }
    }
}

/// What was said so far.
#[derive(Debug, Default)]
struct Heard {
    steps: Vec<Step>,
    /// The sessions that are listened to, with what they are called in the transcript.
    openings: HashMap<SessionId, Opening>,
    /// Who spoke last.
    current: Option<u64>,
    /// When that was.
    at: Option<Instant>,
    opened: usize,
    left_out: usize,
    /// Sessions that are listened to at most.
    most: usize,
}

impl Heard {
    fn opens(&mut self, session: SessionId, info: &SessionInfo) {
        if self.opened == self.most {
            self.left_out += 1;
            return;
        }
        self.opened += 1;
        let opening = Opening {
            start_seen: info.start_seen,
            client: Some(info.client.into()),
            origin: Some(info.origin.into()),
            ..Opening::new(self.opened as u64)
        };
        self.openings.insert(session, opening);
    }

    fn hears(&mut self, now: Instant, session: SessionId, steps: impl IntoIterator<Item = Step>) {
        let Some(opening) = self.openings.get(&session) else {
            return;
        };
        if let Some(at) = self.at {
            let passed = Duration::from_millis(now.since(at).as_millis() as u64);
            if !passed.is_zero() {
                self.steps.push(Step::After(passed));
                self.at = Some(at + passed);
            }
        } else {
            self.at = Some(now);
        }
        if self.current != Some(opening.id) {
            self.current = Some(opening.id);
            self.steps.push(Step::Session(opening.clone()));
        }
        self.steps.extend(steps);
    }
}

/// A plugin that only listens.
#[derive(Debug)]
struct Listener(Arc<Mutex<Heard>>);

impl Plugins for Listener {
    fn needs(&self, _origin_port: u16) -> Option<Needs> {
        Some(Needs {
            origin: true,
            target: false,
        })
    }

    fn open(
        &mut self,
        _now: Instant,
        session: SessionId,
        info: &SessionInfo,
        _actions: &mut Actions,
    ) -> Result<(), Failure> {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.opens(session, info);
        Ok(())
    }

    fn event(
        &mut self,
        now: Instant,
        session: SessionId,
        event: Event<'_>,
        _actions: &mut Actions,
    ) -> Result<(), Failure> {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.hears(now, session, steps(event));
        Ok(())
    }

    fn close(&mut self, _session: SessionId) {}
}

/// What an event is in a transcript. What the origin says, the target says too.
fn steps(event: Event<'_>) -> Vec<Step> {
    let data = |direction, bytes: &[u8]| Step::Data {
        direction,
        bytes: bytes.to_vec(),
    };
    let end = |direction| Step::End { direction };
    match event {
        Event::Client(bytes) => vec![data(Direction::Client, bytes)],
        Event::Origin(bytes) => vec![
            data(Direction::Origin, bytes),
            data(Direction::Target, bytes),
        ],
        Event::Gap { direction, missing } => {
            let direction = match direction {
                EngineDirection::Client => Direction::Client,
                EngineDirection::Origin => Direction::Origin,
            };
            vec![Step::Gap { direction, missing }]
        }
        Event::ClientEnd => vec![end(Direction::Client)],
        Event::OriginEnd => vec![end(Direction::Origin), end(Direction::Target)],
        Event::Target(_) | Event::TargetEnd | Event::Timer | Event::Woken => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tcpcopy_net::file::{LINK_TYPE_RAW, PcapngEncoder, RecordedInterface};
    use tcpcopy_packet::{FourTuple, SegmentBuilder};

    use super::*;

    const MS: u64 = 1_000_000;

    /// A recording in the making.
    struct Recording {
        encoder: PcapngEncoder,
        bytes: Vec<u8>,
        time_ns: u64,
    }

    impl Recording {
        fn new() -> Self {
            let interface = RecordedInterface {
                name: "eth0".to_owned(),
                link_type: LINK_TYPE_RAW,
                snaplen: 65535,
                filter: String::new(),
            };
            let encoder = PcapngEncoder::new("test", vec![interface]);
            let mut bytes = Vec::new();
            encoder.header(&mut bytes);
            Self {
                encoder,
                bytes,
                time_ns: 1_700_000_000_000_000_000,
            }
        }

        /// A segment between a client and the origin, a millisecond after the one before.
        fn segment(&mut self, from: u16, to: u16, at: (u32, u32), flags: TcpFlags, text: &str) {
            let end = |port| {
                let last = if port == 80 { 2 } else { 1 };
                Endpoint::new(std::net::Ipv4Addr::new(192, 0, 2, last).into(), port)
            };
            let segment = SegmentBuilder {
                seq: at.0,
                ack: at.1,
                flags,
                window: 1000,
                ..SegmentBuilder::new(FourTuple::new(end(from), end(to)))
            };
            let mut packet = Vec::new();
            let payload = std::iter::once(text.as_bytes());
            segment.write(payload, &mut packet).expect("a packet");
            self.time_ns += MS;
            let length = u32::try_from(packet.len()).expect("short");
            self.encoder
                .packet(0, self.time_ns, &packet, length, &mut self.bytes);
        }

        fn read(&self, port: Option<u16>, most: usize) -> Result<Streams, String> {
            let open = || CaptureFile::from_reader("a".to_owned(), Cursor::new(self.bytes.clone()));
            read_from(open, port, most).map_err(|error| error.to_string())
        }
    }

    const SYN: TcpFlags = TcpFlags::SYN;
    const ACK: TcpFlags = TcpFlags::ACK;

    /// One connection, its second request in two segments that changed places.
    fn conversation(recording: &mut Recording, client: u16) {
        recording.segment(client, 80, (99, 0), SYN, "");
        recording.segment(80, client, (499, 100), SYN | ACK, "");
        recording.segment(client, 80, (100, 500), ACK, "");
        recording.segment(client, 80, (100, 500), ACK, "get\n");
        recording.segment(80, client, (500, 104), ACK, "1\n");
        recording.segment(client, 80, (107, 502), ACK, "\n");
        recording.segment(client, 80, (104, 502), ACK, "put");
        recording.segment(80, client, (502, 108), ACK | TcpFlags::FIN, "2\n");
        recording.segment(client, 80, (108, 505), ACK | TcpFlags::FIN, "");
    }

    #[test]
    fn streams_come_in_order_and_the_target_answers_as_the_origin_did() {
        let mut recording = Recording::new();
        conversation(&mut recording, 5000);
        let streams = recording.read(None, 10).expect("a conversation");
        assert_eq!((streams.connections, streams.left_out), (1, 0));
        let expected = r"session 1 client=192.0.2.1:5000 origin=192.0.2.2:80
C: get\n
after 1 ms
O: 1\n
T: 1\n
after 2 ms
C: put
C: \n
after 1 ms
O: 2\n
T: 2\n
O end
T end
after 1 ms
C end
";
        assert_eq!(streams.transcript.to_string(), expected);
    }

    #[test]
    fn what_is_asked_for_is_taken() {
        let mut recording = Recording::new();
        for client in [5000, 5001, 5002] {
            conversation(&mut recording, client);
        }
        let streams = recording.read(Some(80), 2).expect("conversations");
        assert_eq!((streams.connections, streams.left_out), (2, 1));
        let nothing = recording.read(Some(81), 2).expect_err("nothing is there");
        assert_eq!(nothing, "a shows nothing that a client said to port 81");
        recording.segment(6000, 443, (1, 0), SYN, "");
        let several = recording.read(None, 2).expect_err("two ports");
        assert_eq!(several, "a shows connections to several ports: 80, 443");
    }

    #[test]
    fn captures_are_known_by_their_beginning() {
        assert!(is_capture(&Recording::new().bytes));
        assert!(is_capture(&[0x1f, 0x8b, 8, 0]));
        assert!(!is_capture(b"C: a") && !is_capture(b""));
    }
}
