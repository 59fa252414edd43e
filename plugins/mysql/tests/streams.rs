//! Files, long messages, compression, holes, and connections that were there before.

mod common;

use common::*;
use plugin_api::Direction;
use plugin_api::testkit::{Opening, Step};

const LOAD: &str = "load data local infile 'x' into table t";

fn file_request() -> Vec<u8> {
    b"\xfbx".to_vec()
}

#[test]
fn a_file_is_sent_when_the_target_asks_for_it() {
    let mut talk = Talk::usual();
    talk.client(0, &query(LOAD)).origin(1, &file_request());
    talk.client(2, b"1\n2\n")
        .client(3, b"3\n")
        .client(4, b"")
        .origin(5, &ok(3, AUTOCOMMIT));
    talk.client(0, &query("select 1"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    assert_eq!(told(&talk.play()).len(), 1);
    talk.target(1, &file_request());
    let expected = [
        (0, query(LOAD)),
        (2, b"1\n2\n".to_vec()),
        (3, b"3\n".to_vec()),
        (4, Vec::new()),
    ];
    assert_eq!(told(&talk.play()), expected);
    talk.target(5, &ok(3, AUTOCOMMIT))
        .target_all(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    assert_eq!(told(&played)[4], (0, query("select 1")));
    assert_eq!(outcomes(&played).len(), 2);
    assert!(
        outcomes(&played)
            .iter()
            .all(|(_, outcome)| *outcome == Some((true, 0)))
    );
    for chunk in [1, 4, 9] {
        assert_eq!(talk.play_cut(chunk).sent(), played.sent());
    }
}

#[test]
fn a_file_that_the_target_does_not_want_is_left_out() {
    let mut talk = Talk::usual();
    talk.client(0, &query(LOAD)).origin(1, &file_request());
    talk.client(2, b"1\n2\n")
        .client(3, b"")
        .origin(4, &ok(2, AUTOCOMMIT));
    talk.target(1, &error(3948));
    talk.query("select 1", &rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    assert_eq!(commands(&played), [query(LOAD), query("select 1")]);
    assert_eq!(played.count("files_left_out"), 1);
    assert_eq!(outcomes(&played)[0].1, Some((false, 3948)));
}

#[test]
fn a_file_that_only_the_target_wants_is_empty() {
    let mut talk = Talk::usual();
    talk.client(0, &query(LOAD)).origin(1, &error(3948));
    // The next command must not be taken for the file.
    talk.client(0, &query("select 1"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    assert_eq!(told(&talk.play()).len(), 1);
    talk.target(1, &file_request());
    assert_eq!(told(&talk.play())[1], (2, Vec::new()));
    talk.target(3, &ok(0, AUTOCOMMIT))
        .target_all(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    assert_eq!(told(&played)[2], (0, query("select 1")));
    assert_eq!(played.count("files_not_sent_by_the_client"), 1);
    assert_eq!(played.count("errors_only_at_origin"), 1);
}

#[test]
fn long_messages_go_by_as_they_come() {
    for length in [300_000, 0xff_fffe, 0xff_ffff, 0x100_0005, 2 * 0xff_ffff] {
        let statement = format!("insert into t values ('{}", "x".repeat(length - 24));
        let statement = query(&statement);
        assert_eq!(statement.len(), length);
        let mut talk = Talk::usual();
        let first = packets(&message(0, &statement)).len() as u8;
        talk.client(0, &statement);
        talk.origin(first, &ok(1, AUTOCOMMIT))
            .target(first, &ok(1, AUTOCOMMIT));
        talk.query("select 1", &rows(1, AUTOCOMMIT, USUAL));
        let played = talk.play_cut(100_000);
        let mut expected = message(0, &statement);
        expected.extend(message(0, &query("select 1")));
        let login = packets(played.sent())[0].1.len() + 4;
        assert!(played.sent()[login..] == expected, "{length}");
        assert_eq!(outcomes(&played)[0].0, "insert into t values(?+)");
        assert_eq!(outcomes(&played)[1].1, Some((true, 0)));
    }
}

#[test]
fn what_waits_is_said_in_several_calls() {
    let statement = query(&format!("select '{}'", "x".repeat(17 << 20)));
    let mut talk = Talk::before_the_target();
    talk.client(0, &statement);
    talk.greet_target(42);
    talk.target(2, &ok(0, AUTOCOMMIT));
    talk.step(Step::After(std::time::Duration::from_millis(100)));
    talk.origin(2, &ok(0, AUTOCOMMIT))
        .target(2, &ok(0, AUTOCOMMIT));
    let played = talk.play_cut(1 << 16);
    assert_eq!(played.refusal(), None);
    let login = packets(played.sent())[0].1.len() + 4;
    assert!(played.sent()[login..] == message(0, &statement));
    let calls = played
        .exchanges()
        .iter()
        .map(|exchange| exchange.request.len());
    assert!(calls.max().expect("some") < 2 << 20);
    assert!(
        played
            .exchanges()
            .iter()
            .all(|exchange| exchange.outcome.is_some())
    );
}

#[test]
fn a_long_execution_and_long_data_get_the_targets_number() {
    let mut talk = Talk::usual();
    talk.prepare("insert into t values (?)", 7, 3, 1);
    let long = vec![b'x'; 0x100_0005];
    let mut run = of_statement(0x17, 7, &[0, 1, 0, 0, 0, 0, 1, 0xfc, 0]);
    run.push(0xfe);
    run.extend_from_slice(&(long.len() as u64).to_le_bytes());
    run.extend_from_slice(&long);
    let data = of_statement(0x18, 7, &[&[0, 0], &long[..]].concat());
    talk.client(0, &run)
        .origin(2, &ok(1, AUTOCOMMIT))
        .target(2, &ok(1, AUTOCOMMIT));
    talk.client(0, &data);
    let played = talk.play_cut(1 << 16);
    for (at, mut command) in [(1, run), (3, data)] {
        command[1..5].copy_from_slice(&[3, 0, 0, 0]);
        let sent: Vec<u8> = told(&played)[at..at + 2]
            .iter()
            .flat_map(|(_, part)| part.clone())
            .collect();
        assert!(sent == command, "{at}");
    }
    assert_eq!(outcomes(&played)[1].1, Some((true, 0)));
}

#[test]
fn long_queries_lose_their_attributes_without_changing_their_length() {
    let client = USUAL | QUERY_ATTRIBUTES;
    let statement = format!("select '{}'", "x".repeat(300_000));
    let mut talk = Talk::logged_in(client, USUAL);
    talk.client(0, &[b"\x03\0\x01", statement.as_bytes()].concat());
    let played = talk.play();
    assert!(commands(&played)[0] == query(&format!("  {statement}")));
}

/// A compressed packet that holds its bytes as they are.
fn packed(sequence: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u32).to_le_bytes().to_vec();
    out[3] = sequence;
    out.extend_from_slice(&[0; 3]);
    out.extend_from_slice(bytes);
    out
}

#[test]
fn compressed_streams_are_unpacked() {
    let mut talk = Talk::logged_in(USUAL | COMPRESS, USUAL);
    let answer = rows(2, AUTOCOMMIT, USUAL);
    talk.raw(
        Direction::Client,
        &packed(0, &message(0, &query("select 1"))),
    );
    let (head, tail) = numbered(&answer)
        .split_at_checked(20)
        .map(|(a, b)| (a.to_vec(), b.to_vec()))
        .expect("long");
    talk.raw(Direction::Origin, &packed(1, &head))
        .raw(Direction::Origin, &packed(2, &tail));
    talk.target_all(&answer);
    talk.raw(Direction::Client, &packed(0, &message(0, b"\x0e")));
    talk.raw(
        Direction::Origin,
        &packed(1, &message(1, &ok(0, AUTOCOMMIT))),
    );
    talk.target(1, &ok(0, AUTOCOMMIT));
    let played = talk.play();
    assert_eq!(commands(&played), [query("select 1"), b"\x0e".to_vec()]);
    assert!(
        outcomes(&played)
            .iter()
            .all(|(_, outcome)| *outcome == Some((true, 0)))
    );
    assert_eq!(
        played.count("rows_differ") + played.count("origin_answers_unreadable"),
        0
    );
    for chunk in [1, 2, 7, 13] {
        assert_eq!(talk.play_cut(chunk).sent(), played.sent());
    }
    talk.raw(Direction::Client, b"\x05\0\0\0\x09\0\0hello");
    assert_eq!(talk.play().refusal(), Some("compression_corrupt"));
}

/// A session that has joined: its first command told that no transaction is open.
fn joined() -> Talk {
    let mut talk = Talk::late(1);
    talk.greet_target(42);
    talk.target(2, &ok(0, AUTOCOMMIT));
    talk.client(0, &query("select 1"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    talk
}

#[test]
fn a_connection_is_joined_outside_a_transaction() {
    let mut talk = Talk::late(1);
    talk.greet_target(42);
    talk.target(2, &ok(0, AUTOCOMMIT));
    talk.raw(Direction::Client, b"the rest of something");
    talk.client(0, &query("update t set a = 1"))
        .origin_all(&[ok(1, IN_TRANSACTION)]);
    talk.client(0, &query("commit"))
        .origin_all(&[ok(0, AUTOCOMMIT)]);
    talk.query("select 1", &rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play_with(config().with("database", "shop"));
    assert_eq!(commands(&played), [query("select 1")], "{played}");
    assert_eq!(played.count("commands_before_joining"), 2);
    assert_eq!(left_out(&played), ["update t set a=?", "commit"]);
    assert_eq!(played.count("bytes_between_messages"), 21);
    // A transaction that begins is a good beginning.
    let mut talk = Talk::late(1);
    talk.greet_target(42);
    talk.target(2, &ok(0, AUTOCOMMIT));
    talk.client(0, &query("begin"))
        .both(&[ok(0, IN_TRANSACTION)]);
    let played = talk.play_with(config().with("database", "shop"));
    assert_eq!(commands(&played), [query("begin")]);
}

#[test]
fn what_a_session_is_made_of_is_restored() {
    let mut talk = joined();
    // Columns have told the database.
    talk.client(0, &query("select 2"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    assert_eq!(commands(&talk.play()), [b"\x02shop".to_vec()]);
    talk.target(1, &ok(0, AUTOCOMMIT));
    talk.target_all(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    assert_eq!(commands(&played), [b"\x02shop".to_vec(), query("select 2")]);
    assert_eq!(
        outcomes(&played),
        [("select ?".to_owned(), Some((true, 0)))]
    );
    for chunk in [1, 5] {
        // The beginning of a message is only found where a segment begins with it.
        assert!(talk.play_cut(chunk).refusal().is_none());
    }
}

#[test]
fn statements_prepared_before_are_prepared_again_where_their_text_is_known() {
    let mut talk = joined();
    talk.client(0, &query("select 2"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.target(1, &ok(0, AUTOCOMMIT))
        .target_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.client(0, &execute(7, false, 5))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    assert_eq!(commands(&played).len(), 2);
    assert_eq!(played.count("statements_unknown"), 1);

    // Another session of this connection has seen it prepared.
    let mut first = Talk::usual();
    let opening = Opening {
        client: "192.0.2.7:1234".parse().ok(),
        ..Opening::new(1)
    };
    first.steps.insert(0, Step::Session(opening.clone()));
    first.prepare("select ?", 7, 1, 1);
    first
        .client(0, &execute(7, true, 4))
        .both(&rows(1, AUTOCOMMIT, USUAL));
    first.step(Step::Close);
    let again = Opening {
        id: 2,
        start_seen: false,
        ..opening
    };
    first.step(Step::Session(again));
    first.greet_target(43);
    first.target(2, &ok(0, AUTOCOMMIT));
    first
        .client(0, &query("select 1"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    first
        .client(0, &execute(7, false, 5))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    first
        .target_all(&prepared(1, 1, 1, USUAL))
        .target_all(&rows(1, AUTOCOMMIT, USUAL));
    let played = first.play();
    let second = &played.sessions[1];
    let said: Vec<_> = packets(&second.sent)
        .into_iter()
        .skip(1)
        .map(|(_, it)| it)
        .collect();
    assert_eq!(
        said,
        [b"\x16select ?".to_vec(), execute(1, true, 5)],
        "{played}"
    );
    assert_eq!(played.count("prepared_on_demand"), 1);
    assert_eq!(played.count("joined_known"), 1);
    let last = second.exchanges.last().expect("one");
    assert_eq!(last.label, "select ?");
    assert_eq!(last.outcome.as_ref().map(|it| it.0), Some(true));
}

#[test]
fn a_session_that_goes_on_between_transactions_loses_nothing() {
    let mut talk = Talk::usual();
    talk.query("select 1", &rows(1, AUTOCOMMIT, USUAL));
    talk.end(Direction::Target).step(Step::Close);
    let client = Opening::new(1).info().client;
    let again = Opening {
        start_seen: false,
        client: Some(client),
        ..Opening::new(2)
    };
    talk.step(Step::Session(again)).greet_target(43);
    talk.target(2, &ok(0, AUTOCOMMIT));
    talk.client(0, &query("select 2"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.target_all(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    let said = packets(&played.sessions[1].sent);
    assert_eq!(said[1..], [(0, query("select 2"))], "{played}");
    assert_eq!(played.count("commands_before_joining"), 0);
}

#[test]
fn what_waits_when_the_client_ends_is_said_before_the_end() {
    let mut talk = Talk::before_the_target();
    talk.client(0, &query("select 1"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.client(0, b"\x01").end(Direction::Client);
    talk.greet_target(42);
    talk.target(2, &ok(0, AUTOCOMMIT))
        .target_all(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    assert_eq!(commands(&played), [query("select 1"), b"\x01".to_vec()]);
    let story = played.to_string();
    assert!(story.rfind("release") > story.rfind("    hold"), "{story}");
    assert!(story.rfind("send") > story.rfind("    hold"), "{story}");
}

#[test]
fn an_encrypted_connection_that_is_joined_late_is_refused() {
    let mut talk = Talk::late(1);
    talk.raw(Direction::Client, b"\x17\x03\x03\x00\x20abcdefgh");
    assert_eq!(talk.play().refusal(), Some("tls"));
}

#[test]
fn behind_a_hole_the_session_goes_on_outside_a_transaction() {
    let mut talk = Talk::usual();
    talk.query("begin", &[ok(0, AUTOCOMMIT | IN_TRANSACTION)]);
    talk.step(Step::Gap {
        direction: Direction::Client,
        missing: None,
    });
    talk.raw(Direction::Origin, &numbered(&[ok(0, AUTOCOMMIT)]));
    talk.client(0, &query("select 1"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.client(0, &query("select 2"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.target_all(&[ok(0, AUTOCOMMIT)])
        .target_all(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    assert_eq!(
        commands(&played),
        [query("begin"), query("ROLLBACK"), query("select 2")]
    );
    assert_eq!(played.count("transactions_cut"), 1);
    assert_eq!(played.count("client_gaps"), 1);
    assert_eq!(outcomes(&played)[1].1, Some((true, 0)));
}

#[test]
fn a_hole_in_a_message_that_is_half_said_ends_the_session() {
    let mut talk = Talk::usual();
    let long = message(0, &query(&format!("select '{}'", "x".repeat(300_000))));
    talk.raw(Direction::Client, &long[..200_000]);
    talk.step(Step::Gap {
        direction: Direction::Client,
        missing: Some(10),
    });
    assert_eq!(talk.play().refusal(), Some("capture_gap"));
}

#[test]
fn a_hole_in_the_origins_answers_costs_only_the_comparison() {
    let mut talk = Talk::usual();
    // Within rows that nobody reads, nothing at all.
    let answer = [
        vec![vec![1], column("shop"), eof(AUTOCOMMIT)],
        vec![text(&[7; 200])],
    ]
    .concat();
    let bytes = numbered(&answer);
    talk.client(0, &query("select a"))
        .raw(Direction::Origin, &bytes[..bytes.len() - 100]);
    talk.step(Step::Gap {
        direction: Direction::Origin,
        missing: Some(50),
    });
    talk.raw(Direction::Origin, &bytes[bytes.len() - 50..]);
    talk.origin(5, &eof(AUTOCOMMIT))
        .target_all(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    assert_eq!(
        played.count("origin_gaps") + played.count("rows_differ"),
        0,
        "{played}"
    );
    // Elsewhere, what was to come.
    talk.client(0, b"\x16select ?")
        .target_all(&prepared(1, 1, 1, USUAL));
    talk.step(Step::Gap {
        direction: Direction::Origin,
        missing: None,
    });
    talk.client(0, &execute(1, true, 5))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.query("select 1", &rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    assert_eq!(played.count("origin_gaps"), 1);
    assert_eq!(played.count("statements_unknown"), 1);
    assert_eq!(commands(&played).last(), Some(&query("select 1")));
    assert!(
        outcomes(&played)
            .iter()
            .all(|(_, outcome)| *outcome == Some((true, 0)))
    );
    assert_eq!(played.count("rows_differ"), 0);
}
