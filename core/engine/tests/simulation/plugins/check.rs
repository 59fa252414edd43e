//! What must have come of the clients' streams.

use std::collections::BTreeMap;

use tcpcopy_engine::DropReason;

use super::model::Behaviour;
use super::session::{LOGIN, PASSWORD, RESPONSE};
use crate::capture::CapturedConnection;
use crate::check::{accepted_from, by_client, check_captured, summary};
use crate::conversation::{UNANSWERED, message_end};
use crate::harness::Outcome;
use crate::scenario::Scenario;

/// The ledger's identity, and that nothing was dropped for other reasons than these.
pub(super) fn check_ledger(scenario: &Scenario, outcome: &Outcome, drops: &[DropReason]) {
    let ledger = &outcome.ledger;
    assert!(ledger.balance().is_zero(), "{}", summary(ledger));
    for account in [&ledger.connections, &ledger.requests, &ledger.bytes] {
        for (reason, &count) in account.dropped.iter() {
            let is_expected = count == 0 || drops.contains(&reason);
            assert!(is_expected, "{count} dropped: {reason:?}");
        }
    }
    check_captured(scenario, ledger);
}

/// Everything arrived that the plugin makes of the streams, and is in the account as it should be.
pub(super) fn check_whole(scenario: &Scenario, outcome: &Outcome, behaviour: Behaviour) {
    let copies = scenario.engine.copies as u64;
    let mut wanted: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    let (mut requests, mut dropped) = (0, 0);
    for connection in &scenario.connections {
        let made = make(behaviour, connection);
        *wanted.entry(made.stream).or_default() += copies.cast_signed();
        requests += copies * made.requests;
        dropped += copies * made.dropped;
    }
    for accepted in &outcome.accepted {
        let stream = match behaviour {
            Behaviour::Answers => without_responses(&accepted.stream),
            _ => accepted.stream.clone(),
        };
        *wanted.entry(stream).or_default() -= 1;
    }
    for (stream, count) in wanted {
        let bytes = stream.len();
        assert_eq!(count, 0, "streams of {bytes} bytes missing at the target");
    }
    let ledger = &outcome.ledger;
    let said: u64 = (scenario.connections.iter())
        .map(|it| it.stream.len() as u64)
        .sum();
    assert_eq!(ledger.bytes.captured, copies * said, "bytes captured");
    if !matches!(
        behaviour,
        Behaviour::RelaysUnmarked | Behaviour::PassesThrough(_)
    ) {
        assert_eq!(ledger.requests.captured, requests, "requests captured");
        assert_eq!(ledger.requests.delivered, requests - dropped, "delivered");
        assert_eq!(ledger.answered_requests, requests - dropped, "answered");
        assert_eq!(ledger.plugin.stray_ends, 0, "stray ends");
    }
    check_sightings(scenario, outcome, behaviour);
}

/// The plugin has seen all there was to see.
fn check_sightings(scenario: &Scenario, outcome: &Outcome, behaviour: Behaviour) {
    let copies = scenario.engine.copies as usize;
    let sightings = &outcome.observed;
    assert_eq!(sightings.len(), copies * scenario.connections.len());
    if matches!(behaviour, Behaviour::PassesThrough(_)) {
        return;
    }
    for sighting in sightings {
        assert!(sighting.info.start_seen, "{sighting:?}");
        assert_eq!(sighting.missing_answers, 0, "{sighting:?}");
    }
    let client: u64 = sightings.iter().map(|it| it.client_bytes).sum();
    assert_eq!(client, outcome.ledger.bytes.captured);
    let target: u64 = sightings.iter().map(|it| it.target_bytes).sum();
    assert_eq!(target, outcome.ledger.plugin.target_bytes);
    assert!(target <= outcome.ledger.upstream.reply_bytes);
    let origin: u64 = sightings.iter().map(|it| it.origin_bytes).sum();
    assert!(origin == 0 || behaviour == Behaviour::Compares);
}

/// What a plugin makes of a stream.
struct Made {
    stream: Vec<u8>,
    requests: u64,
    /// Those of them that it leaves out.
    dropped: u64,
}

fn make(behaviour: Behaviour, connection: &CapturedConnection) -> Made {
    let mut made = Made {
        stream: Vec::new(),
        requests: 0,
        dropped: 0,
    };
    if behaviour == Behaviour::LogsIn {
        made.stream.extend_from_slice(LOGIN);
        made.stream.extend_from_slice(PASSWORD);
    }
    let mut request = Vec::new();
    for message in messages(&connection.stream) {
        request.extend_from_slice(message);
        if behaviour == Behaviour::Doubles {
            request.extend_from_slice(message);
        }
        let class = message.last().copied().and_then(message_end);
        if class.is_some_and(|class| class != UNANSWERED) {
            made.requests += 1;
            let drops = behaviour == Behaviour::DropsThird && made.requests.is_multiple_of(3);
            made.dropped += u64::from(drops);
            if !drops {
                made.stream.append(&mut request);
            }
            request.clear();
        }
    }
    made
}

/// The messages of a stream; the last may be cut off.
fn messages(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    stream.split_inclusive(|byte| message_end(*byte).is_some())
}

fn is_complete(message: &[u8]) -> bool {
    message.last().copied().and_then(message_end).is_some()
}

fn without_responses(stream: &[u8]) -> Vec<u8> {
    messages(stream)
        .filter(|message| *message != RESPONSE)
        .flatten()
        .copied()
        .collect()
}

/// Each stream at the target is made of messages of one connection of its client, in their order, and
/// of what the plugin says itself; and no message is there more often than it should be.
pub(super) fn check_pieces(scenario: &Scenario, outcome: &Outcome, behaviour: Behaviour) {
    let copies = scenario.most_copies().cast_signed();
    for (client, connections) in by_client(&scenario.connections) {
        let mut left: BTreeMap<&[u8], i64> = BTreeMap::new();
        for message in connections.iter().flat_map(|it| messages(&it.stream)) {
            *left.entry(message).or_default() += copies;
        }
        for accepted in accepted_from(outcome, client) {
            let said = own_removed(&accepted.stream, behaviour);
            let fits = connections.iter().any(|it| is_subsequence(&said, it));
            let bytes = accepted.stream.len();
            assert!(
                fits,
                "{client}: {bytes} bytes that no plugin would send: {}",
                places(&said, &connections)
            );
            for message in said.iter().filter(|it| is_complete(it)) {
                *left.entry(message).or_default() -= 1;
            }
        }
        let twice = left.iter().find(|(_, count)| **count < 0);
        let bytes = twice.map(|(message, _)| message.len());
        assert!(
            bytes.is_none() || !scenario.is_one_round(),
            "{client}: a message is there too often"
        );
    }
}

/// The client's messages of a stream at the target.
fn own_removed(stream: &[u8], behaviour: Behaviour) -> Vec<&[u8]> {
    let mut said: Vec<&[u8]> = messages(stream).collect();
    let own: &[&[u8]] = match behaviour {
        Behaviour::LogsIn => &[LOGIN, PASSWORD],
        _ => &[],
    };
    for (at, expected) in own.iter().enumerate() {
        let Some(first) = said.first() else {
            return said;
        };
        let is_cut = said.len() == 1 && !is_complete(first) && expected.starts_with(first);
        assert!(first == expected || is_cut, "part {at} of the login");
        said.remove(0);
    }
    match behaviour {
        Behaviour::Answers => {
            let is_cut = |it: &[u8]| !is_complete(it) && RESPONSE.starts_with(it);
            said.retain(|it| *it != RESPONSE && !is_cut(it));
        }
        Behaviour::Doubles => {
            let (whole, cut): (Vec<_>, Vec<_>) = said.iter().partition(|it| is_complete(it));
            let pairs = whole.chunks(2).inspect(|pair| {
                let are_same = pair.iter().all(|it| it == &pair[0]);
                assert!(are_same, "two messages that differ");
            });
            let firsts: Vec<&[u8]> = pairs.map(|pair| pair[0]).collect();
            let is_second = whole.len() % 2 == 1
                && (cut.first()).is_some_and(|cut| whole[whole.len() - 1].starts_with(cut));
            let cut = cut.into_iter().filter(|_| !is_second);
            said = firsts.into_iter().chain(cut).collect();
        }
        _ => {}
    }
    said
}

/// Whether these are messages of the connection, in order, the last perhaps cut off.
fn is_subsequence(said: &[&[u8]], connection: &CapturedConnection) -> bool {
    let mut all = messages(&connection.stream);
    said.iter().all(|message| {
        all.any(|candidate| match is_complete(message) {
            true => candidate == *message,
            false => candidate.starts_with(message),
        })
    })
}

/// Where the messages stand in their client's, for the report of a failure.
fn places(said: &[&[u8]], connections: &[&CapturedConnection]) -> String {
    let place = |message: &&[u8]| {
        let all = connections.iter().flat_map(|it| messages(&it.stream));
        let found = all.enumerate().find(|(_, it)| it == message);
        match found {
            Some((index, _)) => format!("{index}, "),
            None => format!("{} bytes, ", message.len()),
        }
    };
    said.iter().map(place).collect()
}
