//! Holes in what the client said: what the target is told before the session goes on.

mod common;

use common::*;
use plugin_api::Direction;
use plugin_api::testkit::Step;

fn gap() -> Step {
    Step::Gap {
        direction: Direction::Client,
        missing: None,
    }
}

#[test]
fn nothing_is_restored_before_what_was_said_before_the_hole() {
    let both = IN_TRANSACTION | AUTOCOMMIT;
    let mut talk = Talk::usual();
    talk.query("begin", &[ok(0, both)]);
    talk.client(0, b"\x16insert into t values (?)");
    talk.origin_all(&prepared(1, 1, 0, USUAL));
    talk.client(0, &execute(1, true, 5)).origin(1, &ok(1, both));
    talk.client(0, &query("commit"))
        .origin(1, &ok(0, AUTOCOMMIT));
    // The target is still preparing.
    talk.step(gap());
    for text in ["select 1", "select 2"] {
        talk.client(0, &query(text))
            .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    }
    talk.target_all(&prepared(3, 1, 0, USUAL));
    talk.target(1, &ok(1, both)).target(1, &ok(0, AUTOCOMMIT));
    talk.target_all(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    let expected = [
        query("begin"),
        b"\x16insert into t values (?)".to_vec(),
        execute(3, true, 5),
        query("commit"),
        // What the target knows of its parameters may be wrong behind the hole.
        of_statement(0x19, 3, b""),
        query("select 2"),
    ];
    assert_eq!(commands(&played), expected, "{played}");
    assert_eq!(played.count("transactions_cut"), 0);
}

#[test]
fn whether_a_transaction_is_open_tells_the_last_answer() {
    let both = IN_TRANSACTION | AUTOCOMMIT;
    let mut talk = Talk::usual();
    for text in ["begin", "insert into t values (1)"] {
        talk.client(0, &query(text)).origin(1, &ok(0, both));
    }
    // The commit is missing, and the target has answered nothing yet.
    talk.step(gap());
    talk.client(0, &query("select 1"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.client(0, &query("insert into t values (2)"))
        .origin(1, &ok(1, AUTOCOMMIT));
    assert_eq!(commands(&talk.play()).len(), 2);
    talk.target(1, &ok(0, both)).target(1, &ok(1, both));
    assert_eq!(commands(&talk.play())[2..], [query("ROLLBACK")]);
    talk.target(1, &ok(0, AUTOCOMMIT));
    let played = talk.play();
    assert_eq!(commands(&played)[3..], [query("insert into t values (2)")]);
    assert_eq!(played.count("transactions_cut"), 1);
}

#[test]
fn autocommit_is_restored_either_way() {
    for (before, after) in [(0, AUTOCOMMIT), (AUTOCOMMIT, 0)] {
        let mut talk = Talk::usual();
        talk.query("set autocommit=@before", &[ok(0, before)]);
        talk.step(gap());
        talk.client(0, &query("select 1"))
            .origin_all(&rows(1, after, USUAL));
        talk.client(0, &query("insert into t values (2)"))
            .origin(1, &ok(1, after));
        let restored = format!("SET autocommit={}", u8::from(after > 0));
        assert_eq!(commands(&talk.play())[1..], [query(&restored)]);
        talk.target(1, &ok(0, after));
        let last = query("insert into t values (2)");
        assert_eq!(commands(&talk.play())[2..], [last]);
    }
}

#[test]
fn what_is_restored_is_what_held_where_the_session_went_on() {
    let mut talk = Talk::usual();
    talk.client(0, &query("select 0"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL))
        .step(gap());
    for text in ["select 1", "select 2"] {
        talk.client(0, &query(text))
            .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    }
    // The target has not answered to anything, and the client goes elsewhere.
    talk.client(0, b"\x02other").origin(1, &ok(0, AUTOCOMMIT));
    for _ in 0..2 {
        talk.target_all(&rows(1, AUTOCOMMIT, USUAL));
    }
    let expected = ["select 0", "select 2"].map(query);
    let said = commands(&talk.play());
    assert_eq!(said[..2], expected);
    assert_eq!(said[2..], [b"\x02other".to_vec()]);
}

#[test]
fn exchanges_do_not_pile_up_behind_a_lost_origin() {
    const COMMANDS: usize = 40_000;
    let mut talk = Talk::usual();
    talk.step(Step::Gap {
        direction: Direction::Origin,
        missing: None,
    });
    // The answer to the first can't be told from that to the second.
    talk.client(0, b"\x0e").client(0, b"\x0e");
    for _ in 0..2 {
        talk.origin(1, &ok(0, AUTOCOMMIT));
        talk.target(1, &ok(0, AUTOCOMMIT));
    }
    for _ in 0..COMMANDS {
        talk.client(0, b"\x0e")
            .origin(1, &ok(0, AUTOCOMMIT))
            .target(1, &ok(0, AUTOCOMMIT));
    }
    let config = config().with("queue_total_bytes", 1 << 20);
    let played = talk.play_with(config);
    assert_eq!(played.refusal(), None);
    assert_eq!(outcomes(&played).len(), COMMANDS + 2);
}

/// A command that tells a part of the first parameter's value.
fn long_data(id: u32, bytes: &[u8]) -> Vec<u8> {
    of_statement(0x18, id, &[b"\0\0", bytes].concat())
}

/// An execution with one parameter, whose type is told or not and whose bytes may be empty.
fn execute_with(id: u32, kind: Option<u8>, value: &[u8]) -> Vec<u8> {
    let told = kind.map_or_else(|| vec![0], |kind| vec![1, kind, 0]);
    of_statement(0x17, id, &[&[0, 1, 0, 0, 0, 0], &told[..], value].concat())
}

const FLOAT: u8 = 4;
const BLOB: u8 = 0xfc;

#[test]
fn types_that_were_told_behind_a_hole_hold_there() {
    let mut talk = Talk::usual();
    talk.prepare("insert into t values (?)", 7, 3, 1);
    talk.client(0, &execute(7, true, 5))
        .both(&[ok(1, AUTOCOMMIT)]);
    talk.step(gap());
    let told = execute_with(7, Some(FLOAT), &1.5f32.to_le_bytes());
    talk.client(0, &told).origin_all(&[ok(1, AUTOCOMMIT)]);
    let relies = execute_with(7, None, &2.5f32.to_le_bytes());
    talk.client(0, &relies).origin_all(&[ok(1, AUTOCOMMIT)]);
    talk.target_all(&prepared(4, 1, 0, USUAL));
    let played = talk.play();
    let commands = commands(&played);
    let expected = execute_with(4, Some(FLOAT), &2.5f32.to_le_bytes());
    assert_eq!(commands.last(), Some(&expected), "{played}");
}

#[test]
fn types_that_a_hole_may_have_told_are_unknown() {
    let mut talk = Talk::usual();
    talk.prepare("insert into t values (?)", 7, 3, 1);
    talk.client(0, &execute(7, true, 5))
        .both(&[ok(1, AUTOCOMMIT)]);
    talk.step(gap());
    talk.client(0, &query("select 1"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.client(0, &execute_with(7, None, &2.5f32.to_le_bytes()))
        .origin_all(&[ok(1, AUTOCOMMIT)]);
    talk.target_all(&prepared(4, 1, 0, USUAL));
    let played = talk.play();
    assert_eq!(played.count("parameter_types_unknown"), 1, "{played}");
    let executions = commands(&played)
        .into_iter()
        .filter(|it| it[0] == 0x17)
        .count();
    assert_eq!(executions, 1, "{played}");
}

#[test]
fn values_from_before_a_hole_are_not_the_next_executions() {
    let mut talk = Talk::usual();
    talk.prepare("insert into t values (?)", 7, 3, 1);
    talk.client(0, &long_data(7, b"stale"));
    talk.step(gap());
    let execution = execute_with(7, Some(BLOB), b"");
    talk.client(0, &execution).origin_all(&[ok(1, AUTOCOMMIT)]);
    talk.client(0, &query("select 1"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL))
        .target_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.client(0, &long_data(7, b"fresh"));
    talk.target_all(&prepared(4, 1, 0, USUAL));
    talk.client(0, &execution).origin_all(&[ok(1, AUTOCOMMIT)]);
    let played = talk.play();
    let commands = commands(&played);
    let end = [long_data(4, b"fresh"), execute_with(4, Some(BLOB), b"")];
    assert!(commands.ends_with(&end), "{played}");
    assert!(commands.contains(&of_statement(0x19, 3, b"")), "{played}");
}

#[test]
fn a_value_of_which_a_part_was_passed_over_is_not_told() {
    let mut talk = Talk::usual();
    talk.prepare("insert into t values (?)", 7, 3, 1);
    talk.step(gap());
    for part in [b"1", b"2", b"3", b"4", b"5", b"6"] {
        talk.client(0, &long_data(7, part));
    }
    talk.client(0, &execute_with(7, Some(BLOB), b""))
        .origin_all(&[ok(1, AUTOCOMMIT)]);
    talk.client(0, &execute_with(7, Some(BLOB), b"\x01x"))
        .origin_all(&[ok(1, AUTOCOMMIT)]);
    talk.target_all(&prepared(4, 1, 0, USUAL));
    let played = talk.play();
    let told = commands(&played);
    assert!(told.iter().all(|it| it[0] != 0x18), "{played}");
    let expected = execute_with(4, Some(BLOB), b"\x01x");
    let executions: Vec<_> = told.iter().filter(|it| it[0] == 0x17).collect();
    assert_eq!(executions, [&expected], "{played}");
}
