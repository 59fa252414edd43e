//! What must hold after a run.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use tcpcopy_engine::{DropReason, Ledger};
use tcpcopy_packet::Endpoint;

use crate::capture::CapturedConnection;
use crate::conversation::Ending;
use crate::harness::Outcome;
use crate::scenario::Scenario;
use crate::target::Accepted;

/// More of the memory budget than a connection takes for itself.
const SESSION_ROOM_BYTES: u64 = 4096;

/// What is expected of the streams at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    /// Every stream arrived whole, once for each copy.
    Whole,
    /// What arrived are pieces of the streams, each from a request boundary on.
    Pieces,
    /// What arrived are whole messages in the order of the streams, each from a request boundary on;
    /// some may be missing between others.
    Messages,
    /// Only the ledger is looked at.
    Any,
}

/// What is expected of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) streams: Streams,
    /// The only reasons for which something may be dropped.
    pub(crate) drops: &'a [DropReason],
}

impl Expected<'static> {
    /// Everything arrives.
    pub(crate) const ALL: Self = Self {
        streams: Streams::Whole,
        drops: &[],
    };
}

/// Checks a run against what is expected of it, and against what must hold of any.
pub(crate) fn check(scenario: &Scenario, outcome: &Outcome, expected: Expected<'_>) {
    check_ledger(scenario, outcome, expected.drops);
    match expected.streams {
        Streams::Whole => {
            check_whole(scenario, outcome);
            assert_eq!(outcome.ledger.bytes.dropped_total(), 0, "bytes dropped");
            assert_eq!(
                outcome.ledger.requests.dropped_total(),
                0,
                "requests dropped"
            );
        }
        Streams::Pieces => check_pieces(scenario, outcome),
        Streams::Messages => check_messages(scenario, outcome),
        Streams::Any => {}
    }
}

/// The identity: captured = delivered + Σ dropped, nothing in flight; and that it counts what
/// really was captured and really was received.
fn check_ledger(scenario: &Scenario, outcome: &Outcome, drops: &[DropReason]) {
    let ledger = &outcome.ledger;
    assert!(
        ledger.balance().is_zero(),
        "the balance is not zero: {}",
        summary(ledger)
    );
    for (name, account) in [
        ("connections", ledger.connections),
        ("requests", ledger.requests),
        ("bytes", ledger.bytes),
    ] {
        for (reason, &count) in account.dropped.iter() {
            assert!(
                count == 0 || drops.contains(&reason),
                "{count} {name} dropped unexpectedly: {reason:?}"
            );
        }
    }
    let received: u64 = outcome
        .accepted
        .iter()
        .map(|accepted| accepted.stream.len() as u64)
        .sum();
    assert!(
        ledger.bytes.delivered <= received,
        "{} bytes counted as delivered, the target has {received}",
        ledger.bytes.delivered
    );
    check_captured(scenario, ledger);
}

/// No more was captured than was said.
pub(crate) fn check_captured(scenario: &Scenario, ledger: &Ledger) {
    let most_copies = scenario.most_copies();
    // Bytes that only the origin saw count as well: they are a loss. Where there is no room to
    // hold what is out of order, bytes may count as missing and come later.
    let streams = scenario
        .connections
        .iter()
        .map(|connection| connection.stream.len() as u64);
    let said: u64 = streams.sum();
    let sessions = scenario.connections.len() as u64;
    let most_held = most_copies * (said + sessions * SESSION_ROOM_BYTES);
    let has_room = scenario.engine.memory_budget_bytes > most_held;
    // What loops is captured, but was said by nobody.
    let captured = ledger.bytes.captured - ledger.bytes.dropped[DropReason::OwnReplay];
    assert!(
        captured <= most_copies * said || !has_room || !scenario.is_one_round(),
        "{captured} bytes counted as captured, only {most_copies} times {said} were said"
    );
}

/// The accounts without their zeros.
pub(crate) fn summary(ledger: &Ledger) -> String {
    let sections = ["connections", "requests", "bytes"];
    let rows = ledger.rows().filter(|row| {
        row.value > 0
            && sections
                .iter()
                .any(|section| row.section.starts_with(section))
    });
    rows.map(|row| format!("{}.{} {}, ", row.section, row.name, row.value))
        .collect()
}

/// Every captured stream is at the target byte for byte, as often as there are copies.
fn check_whole(scenario: &Scenario, outcome: &Outcome) {
    let copies = scenario.engine.copies as u16;
    let expected_bytes: u64 = scenario
        .connections
        .iter()
        .map(|connection| connection.stream.len() as u64)
        .sum();
    assert_eq!(
        outcome.ledger.bytes.captured,
        expected_bytes * u64::from(copies),
        "captured bytes"
    );
    if copies == 1 {
        check_whole_by_client(scenario, outcome);
    }
    let mut wanted: BTreeMap<&[u8], i64> = BTreeMap::new();
    for connection in &scenario.connections {
        *wanted.entry(&connection.stream).or_default() += i64::from(copies);
    }
    for accepted in &outcome.accepted {
        *wanted.entry(&accepted.stream).or_default() -= 1;
    }
    let wrong = wanted.iter().find(|(_, count)| **count != 0);
    if let Some((stream, count)) = wrong {
        panic!(
            "a stream of {} bytes is missing {count} times at the target",
            stream.len()
        );
    }
    check_closed(scenario, outcome);
}

/// The same client by client: says which byte is wrong.
fn check_whole_by_client(scenario: &Scenario, outcome: &Outcome) {
    for (source, connections) in by_client(&scenario.connections) {
        let accepted = accepted_from(outcome, source);
        assert_eq!(
            accepted.len(),
            connections.len(),
            "{source}: connections at the target (received {:?} bytes, sent {:?})",
            accepted
                .iter()
                .map(|accepted| accepted.stream.len())
                .collect::<Vec<_>>(),
            connections
                .iter()
                .map(|connection| connection.stream.len())
                .collect::<Vec<_>>(),
        );
        for (connection, accepted) in connections.iter().zip(accepted) {
            assert_same(source, &connection.stream, &accepted.stream);
        }
    }
}

fn assert_same(source: Endpoint, sent: &[u8], received: &[u8]) {
    let wrong = sent
        .iter()
        .zip(received)
        .position(|(sent, received)| sent != received);
    assert!(wrong.is_none(), "{source}: byte {wrong:?} differs");
    assert_eq!(received.len(), sent.len(), "{source}: bytes received");
}

/// Where the client closed, the target has seen it close.
fn check_closed(scenario: &Scenario, outcome: &Outcome) {
    let copies = scenario.engine.copies as usize;
    let closing = scenario.connections.iter().filter(|connection| {
        !matches!(
            connection.conversation.ending,
            Ending::Reset | Ending::Abort | Ending::Open
        )
    });
    let closed = outcome
        .accepted
        .iter()
        .filter(|accepted| accepted.client_closed);
    let [closing, closed] = [closing.count() * copies, closed.count()];
    assert!(
        closed >= closing,
        "{closing} clients closed, the target saw {closed} do so"
    );
}

/// Each stream at the target is a piece of a client's; a piece begins where a request begins, and
/// no byte is in two of them.
///
/// Their order is free: what waits for an answer in one session may be overtaken by what comes
/// after a hole, in another.
fn check_pieces(scenario: &Scenario, outcome: &Outcome) {
    for (client, connections) in by_client(&scenario.connections) {
        let mut streams: Vec<Pieces<'_>> = connections.iter().map(|it| Pieces::new(it)).collect();
        // The longest first: a short piece may look like part of another message.
        let mut pieces = accepted_from(outcome, client);
        pieces.sort_by_key(|accepted| Reverse(accepted.stream.len()));
        for accepted in pieces {
            let placed = streams
                .iter_mut()
                .any(|stream| stream.place(&accepted.stream));
            assert!(
                placed,
                "{client}: {}",
                stray(&accepted.stream, &connections)
            );
        }
    }
}

/// Each stream at the target consists of messages of one of its client's streams.
fn check_messages(scenario: &Scenario, outcome: &Outcome) {
    for (client, connections) in by_client(&scenario.connections) {
        for accepted in accepted_from(outcome, client) {
            let is_made_of = |connection: &&&CapturedConnection| {
                consists_of_messages(&accepted.stream, connection)
            };
            assert!(
                connections.iter().any(|it| is_made_of(&it)),
                "{client}: {}",
                stray(&accepted.stream, &connections)
            );
        }
    }
}

/// Whether `received` is what is left of a connection's stream when some messages are taken out of
/// it; its last one may be cut short.
fn consists_of_messages(received: &[u8], connection: &CapturedConnection) -> bool {
    // Where in `received` the messages so far may have ended: small ones are alike.
    let mut ends = vec![0];
    let mut start = 0;
    for message in connection.conversation.messages() {
        let length = usize::try_from(message.bytes).expect("in memory");
        let said = &connection.stream[start..start + length];
        start += length;
        let mut later = Vec::new();
        for &end in &ends {
            let rest = &received[end..];
            if rest.len() < said.len() && said.starts_with(rest) {
                return true;
            }
            if rest.starts_with(said) {
                later.push(end + length);
            }
        }
        ends.extend(later);
        ends.sort_unstable();
        ends.dedup();
    }
    ends.contains(&received.len())
}

/// The parts of one client's stream that were found at the target.
struct Pieces<'a> {
    stream: &'a [u8],
    starts: Vec<u64>,
    placed: Vec<Range<usize>>,
}

impl<'a> Pieces<'a> {
    fn new(connection: &'a CapturedConnection) -> Self {
        let starts = connection.conversation.message_starts();
        Self {
            stream: &connection.stream,
            starts,
            placed: Vec::new(),
        }
    }

    /// Finds a place for `piece` at a message's start and beside the pieces placed before.
    fn place(&mut self, piece: &[u8]) -> bool {
        let starts = self
            .starts
            .iter()
            .map(|start| usize::try_from(*start).expect("in memory"));
        let free = |start: usize| {
            let end = start + piece.len();
            self.placed
                .iter()
                .all(|other| end <= other.start || start >= other.end)
        };
        let mut fitting = starts.filter(|start| self.stream[*start..].starts_with(piece));
        let found = fitting.find(|start| free(*start));
        self.placed
            .extend(found.map(|start| start..start + piece.len()));
        found.is_some()
    }
}

fn stray(piece: &[u8], connections: &[&CapturedConnection]) -> String {
    let mut text = format!(
        "{} bytes at the target that begin at no request;",
        piece.len()
    );
    for connection in connections {
        let found = find(&connection.stream, piece);
        let starts = connection.conversation.message_starts();
        let holes = &connection.holes;
        write!(
            text,
            " found at {found:?}, messages at {starts:?}, holes {holes:?};"
        )
        .expect("a string takes everything");
    }
    text
}

/// Where `piece` stands in `stream`, or its first bytes if it isn't there as a whole.
fn find(stream: &[u8], piece: &[u8]) -> Option<usize> {
    let position = |part: &[u8]| stream.windows(part.len()).position(|window| window == part);
    position(piece).or_else(|| position(&piece[..piece.len().min(32)]))
}

/// Connections by the client's endpoint, each in order of time.
pub(crate) fn by_client(
    connections: &[CapturedConnection],
) -> BTreeMap<Endpoint, Vec<&CapturedConnection>> {
    let mut map: BTreeMap<Endpoint, Vec<&CapturedConnection>> = BTreeMap::new();
    for connection in connections {
        map.entry(connection.conversation.tuple.source)
            .or_default()
            .push(connection);
    }
    map.values_mut()
        .for_each(|list| list.sort_by_key(|connection| connection.conversation.start_us));
    map
}

/// The target's connections that stood for one client, in the order they began.
pub(crate) fn accepted_from(outcome: &Outcome, client: Endpoint) -> Vec<&Accepted> {
    let stood_for = |source: Endpoint| {
        let mut records = outcome.records.iter();
        records
            .find(|record| record.tuple.source == source)
            .map(|record| record.client)
    };
    let accepted = outcome.accepted.iter();
    accepted
        .filter(|accepted| stood_for(accepted.source) == Some(client))
        .collect()
}
