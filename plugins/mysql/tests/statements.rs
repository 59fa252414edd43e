//! Prepared statements, whose numbers differ, and other things that each server has of its own.

mod common;

use common::*;
use plugin_api::Direction;

#[test]
fn statements_have_the_targets_numbers() {
    let mut talk = Talk::usual();
    talk.prepare("select a from t where a = ?", 7, 3, 1);
    talk.client(0, &execute(7, true, 5))
        .both(&rows(1, AUTOCOMMIT, USUAL));
    // Types are told once.
    talk.client(0, &execute(7, false, 6))
        .both(&rows(1, AUTOCOMMIT, USUAL));
    talk.client(0, &of_statement(0x18, 7, b"\0\0long"));
    talk.client(0, &of_statement(0x1a, 7, &[]))
        .both(&[ok(0, AUTOCOMMIT)]);
    talk.client(0, &of_statement(0x19, 7, &[]));
    talk.client(0, &execute(7, true, 8)).both(&[error(1243)]);
    talk.query("select 1", &rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    let expected = [
        b"\x16select a from t where a = ?".to_vec(),
        execute(3, true, 5),
        execute(3, false, 6),
        of_statement(0x18, 3, b"\0\0long"),
        of_statement(0x1a, 3, &[]),
        of_statement(0x19, 3, &[]),
        // What the client has closed, neither of them knows.
        execute(0, true, 8),
        query("select 1"),
    ];
    assert_eq!(commands(&played), expected);
    assert_eq!(played.count("statements_unknown"), 0);
    let all = outcomes(&played);
    assert_eq!(
        (all[3].0.as_str(), all[5].0.as_str()),
        ("long data", "close statement")
    );
    assert_eq!(all[0].0, "prepare: select a from t where a=?");
    assert_eq!(all[1].0, "select a from t where a=?");
    for (number, (label, outcome)) in all.iter().enumerate() {
        // An error that the origin has, too, counts as good.
        let status = if number == 6 { 1243 } else { 0 };
        assert_eq!(*outcome, Some((true, status)), "{label}");
    }
    for chunk in [1, 3, 11] {
        assert_eq!(talk.play_cut(chunk).sent(), played.sent());
    }
}

#[test]
fn an_execution_waits_for_the_number() {
    let mut talk = Talk::usual();
    talk.client(0, b"\x16select ?")
        .origin_all(&prepared(7, 1, 1, USUAL));
    talk.client(0, &execute(7, true, 5));
    assert_eq!(commands(&talk.play()).len(), 1);
    talk.target_all(&prepared(9, 1, 1, USUAL));
    assert_eq!(commands(&talk.play())[1], execute(9, true, 5));
    talk.both(&rows(1, AUTOCOMMIT, USUAL));
    assert_eq!(outcomes(&talk.play())[1].1, Some((true, 0)));
    // The origin's answer has been overtaken by what the client says next.
    let mut talk = Talk::usual();
    talk.client(0, b"\x16select ?")
        .target_all(&prepared(9, 1, 1, USUAL));
    talk.client(0, &execute(7, true, 5));
    assert_eq!(commands(&talk.play()).len(), 1);
    talk.origin_all(&prepared(7, 1, 1, USUAL));
    assert_eq!(commands(&talk.play())[1], execute(9, true, 5));
}

#[test]
fn what_one_server_did_not_prepare_is_not_executed() {
    let mut talk = Talk::usual();
    talk.client(0, b"\x16select b")
        .origin_all(&prepared(1, 0, 1, USUAL))
        .target_all(&[error(1054)]);
    talk.client(0, &of_statement(0x17, 1, &[0, 1, 0, 0, 0]))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.client(0, &of_statement(0x19, 1, &[]));
    // The other way round: what the client calls so is the next one.
    talk.client(0, b"\x16select c").origin_all(&[error(1054)]);
    talk.target_all(&prepared(1, 0, 1, USUAL));
    talk.prepare("select d", 2, 2, 0);
    talk.client(0, &of_statement(0x17, 2, &[0, 1, 0, 0, 0]))
        .both(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    let expected = [
        b"\x16select b".to_vec(),
        b"\x16select c".to_vec(),
        of_statement(0x19, 1, &[]),
        b"\x16select d".to_vec(),
        of_statement(0x17, 2, &[0, 1, 0, 0, 0]),
    ];
    assert_eq!(commands(&played), expected);
    assert_eq!(played.count("statements_not_prepared"), 1);
    assert_eq!(played.count("statements_closed_unprepared"), 1);
    assert_eq!(outcomes(&played)[0].1, Some((false, 1054)));
}

#[test]
fn what_the_target_does_not_prepare_is_said_as_a_text() {
    let mut talk = Talk::usual();
    talk.client(0, b"\x16BEGIN")
        .origin_all(&prepared(1, 0, 0, USUAL))
        .target_all(&[error(1295)]);
    let run = of_statement(0x17, 1, &[0, 1, 0, 0, 0]);
    talk.client(0, &run).both(&[ok(0, IN_TRANSACTION)]);
    talk.client(0, &of_statement(0x19, 1, &[]));
    let played = talk.play();
    assert_eq!(commands(&played), [b"\x16BEGIN".to_vec(), query("BEGIN")]);
    assert_eq!(outcomes(&played)[0].1, Some((true, 0)));
    assert_eq!(outcomes(&played)[1], ("BEGIN".to_owned(), Some((true, 0))));
    assert_eq!(played.count("statements_unpreparable"), 1);
    assert_eq!(played.count("executions_said_as_texts"), 1);
}

#[test]
fn what_neither_server_prepares_is_no_difference() {
    let mut talk = Talk::usual();
    talk.client(0, b"\x16BEGIN").both(&[error(1295)]);
    talk.client(0, &query("BEGIN"))
        .both(&[ok(0, IN_TRANSACTION)]);
    let played = talk.play();
    let word = ("prepare: BEGIN".to_owned(), Some((true, 1295)));
    assert_eq!(outcomes(&played)[0], word);
    for name in ["statements_unpreparable", "errors_only_at_origin"] {
        assert_eq!(played.count(name), 0, "{name}");
    }
}

#[test]
fn mariadbs_last_statement_is_the_last_one() {
    let mut talk = Talk::usual();
    talk.client(0, b"\x16select ?")
        .client(0, &execute(u32::MAX, true, 5));
    talk.origin_all(&prepared(7, 1, 1, USUAL))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.target_all(&prepared(4, 1, 1, USUAL))
        .target_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.client(0, &execute(7, false, 6))
        .both(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    let expected = [
        b"\x16select ?".to_vec(),
        execute(4, true, 5),
        execute(4, false, 6),
    ];
    assert_eq!(commands(&played), expected);
    assert!(
        outcomes(&played)
            .iter()
            .all(|(_, outcome)| *outcome == Some((true, 0)))
    );
}

#[test]
fn a_reset_connection_forgets_its_statements() {
    let mut talk = Talk::usual();
    talk.prepare("select 1", 1, 1, 0);
    talk.client(0, b"\x1f").both(&[ok(0, AUTOCOMMIT)]);
    talk.client(0, &of_statement(0x17, 1, &[0, 1, 0, 0, 0]))
        .both(&[error(1243)]);
    talk.prepare("select 2", 1, 1, 0);
    talk.client(0, &of_statement(0x17, 1, &[0, 1, 0, 0, 0]))
        .both(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    let execution_of = |id| of_statement(0x17, id, &[0, 1, 0, 0, 0]);
    assert_eq!(
        commands(&played)[2..4],
        [execution_of(0), b"\x16select 2".to_vec()]
    );
    assert_eq!(commands(&played)[4..], [execution_of(1)]);
}

#[test]
fn attributes_are_taken_off_for_a_target_without_them() {
    let client = USUAL | QUERY_ATTRIBUTES;
    let attributes = b"\x03\x01\x01\x00\x01\xfd\x00\x01k\x01v";
    let mut talk = Talk::logged_in(client, USUAL);
    talk.client(0, &[&attributes[..], b"select 1"].concat())
        .both(&rows(1, AUTOCOMMIT, USUAL));
    talk.client(0, b"\x03\0\x01select 2")
        .both(&rows(1, AUTOCOMMIT, USUAL));
    talk.prepare("select ?", 1, 1, 1);
    let mut named = of_statement(0x17, 1, &[8, 1, 0, 0, 0, 1, 0, 1, 3, 0, 0]);
    named.extend_from_slice(&5_u32.to_le_bytes());
    talk.client(0, &named).both(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    let expected = [
        query("select 1"),
        query("select 2"),
        b"\x16select ?".to_vec(),
        execute(1, true, 5),
    ];
    assert_eq!(commands(&played), expected);
    // Where the target has them, they stay.
    let mut talk = Talk::logged_in(client, client);
    talk.client(0, &[&attributes[..], b"select 1"].concat())
        .both(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    assert_eq!(commands(&played), [[&attributes[..], b"select 1"].concat()]);
    assert_eq!(outcomes(&played)[0].0, "select ?");
}

#[test]
fn a_replay_that_only_reads_leaves_writers_out() {
    let mut talk = Talk::usual();
    let writing = [ok(1, AUTOCOMMIT)];
    talk.query("begin", &[ok(0, IN_TRANSACTION)]);
    talk.query("insert into t values (1)", &writing);
    talk.query("select 1", &rows(1, AUTOCOMMIT, USUAL));
    talk.query("commit", &[ok(0, AUTOCOMMIT)]);
    talk.client(0, b"\x05new").both(&writing);
    talk.prepare("update t set a = ?", 1, 1, 1);
    talk.client(0, &of_statement(0x18, 1, b"\0\0long"));
    talk.client(0, &execute(1, true, 5)).both(&writing);
    talk.prepare("select ?", 2, 2, 1);
    talk.client(0, &execute(2, true, 5))
        .both(&rows(1, AUTOCOMMIT, USUAL));
    talk.client(0, &of_statement(0x19, 1, &[]));
    // The target is not asked for what is left out, so it does not answer.
    let asks_for_nothing = |step: &plugin_api::testkit::Step| {
        let answer = numbered(&writing);
        matches!(step, plugin_api::testkit::Step::Data { direction: Direction::Target, bytes }
            if *bytes == answer)
    };
    talk.steps.retain(|step| !asks_for_nothing(step));
    let played = talk.play_with(config().with("read_only", true));
    let expected = [
        query("begin"),
        query("select 1"),
        query("commit"),
        b"\x16update t set a = ?".to_vec(),
        b"\x16select ?".to_vec(),
        execute(2, true, 5),
        of_statement(0x19, 1, &[]),
    ];
    assert_eq!(commands(&played), expected, "{played}");
    assert_eq!(played.count("writers_left_out"), 4);
    let expected = [
        "insert into t values(?+)",
        "create db",
        "long data",
        "update t set a=?",
    ];
    assert_eq!(left_out(&played), expected);
}

#[test]
fn connections_are_killed_by_the_targets_number() {
    let mut talk = Talk::usual();
    talk.query("KILL QUERY 41", &[ok(0, AUTOCOMMIT)]);
    talk.client(0, b"\x0c\x29\0\0\0").both(&[ok(0, AUTOCOMMIT)]);
    talk.client(0, &query("kill 17"))
        .origin_all(&[ok(0, AUTOCOMMIT)]);
    talk.client(0, &query("shutdown"))
        .origin_all(&[ok(0, AUTOCOMMIT)]);
    talk.client(0, b"\x08").origin_all(&[ok(0, AUTOCOMMIT)]);
    let played = talk.play();
    assert_eq!(
        commands(&played),
        [query("KILL QUERY 42"), query("KILL 42")]
    );
    assert_eq!(played.count("kills_of_unknown_connections"), 1);
    assert_eq!(played.count("shutdowns_left_out"), 2);
}

#[test]
fn replicas_are_refused() {
    let mut talk = Talk::usual();
    talk.client(0, b"\x15\x01\0\0\0");
    assert_eq!(talk.play().refusal(), Some("replication"));
}

#[test]
fn another_user_logs_in_on_the_same_connection() {
    let mut talk = Talk::usual();
    talk.prepare("select 1", 1, 1, 0);
    let change = b"\x11other\0\x14aaaaaaaaaaaaaaaaaaaashop\0\x2d\0mysql_native_password\0";
    talk.client(0, change);
    // The origin switches the method, the target does not.
    talk.origin(1, b"\xfemysql_native_password\0abcdefghijklmnopqrst\0");
    talk.client(2, b"bbbbbbbbbbbbbbbbbbbb");
    talk.origin(3, &ok(0, AUTOCOMMIT));
    // Some drivers close now what both servers have forgotten.
    talk.client(0, &of_statement(0x19, 1, &[]));
    talk.client(0, &query("select 2"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    let before = commands(&talk.play());
    assert_eq!(before.len(), 2);
    assert_eq!(before[1][0], 0x11);
    talk.target(1, &ok(0, AUTOCOMMIT))
        .target_all(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    let behind = [of_statement(0x19, 0, &[]), query("select 2")];
    assert_eq!(commands(&played)[2..], behind);
    let all = outcomes(&played);
    assert_eq!(all[1], ("change user".to_owned(), Some((true, 0))));
    assert_eq!(all[3].1, Some((true, 0)));
}
