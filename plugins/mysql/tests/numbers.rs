//! Numbers of prepared statements: what they meant when they were said, and to whom.

mod common;

use common::*;
use plugin_api::Direction;
use plugin_api::testkit::{Opening, Step};

/// An execution without parameters.
fn run(id: u32) -> Vec<u8> {
    of_statement(0x17, id, &[0, 1, 0, 0, 0])
}

fn prepare(text: &str) -> Vec<u8> {
    [&[0x16], text.as_bytes()].concat()
}

fn opening() -> Opening {
    Opening {
        client: "192.0.2.7:1234".parse().ok(),
        ..Opening::new(1)
    }
}

/// A session of `opening`'s connection that has prepared a statement, number 1.
fn with_statement() -> Talk {
    let mut talk = Talk::usual();
    talk.steps.insert(0, Step::Session(opening()));
    talk.prepare("delete from t where a = ?", 1, 1, 1);
    talk.client(0, &execute(1, true, 4))
        .both(&[ok(1, AUTOCOMMIT)]);
    talk
}

/// Goes on with a connection of the same address and port, which executes number 1.
fn go_on(talk: &mut Talk) {
    talk.step(Step::Close).step(Step::Session(Opening {
        id: 2,
        start_seen: false,
        ..opening()
    }));
    talk.greet_target(43);
    talk.target(2, &ok(0, AUTOCOMMIT));
    talk.client(0, &query("select 1"))
        .origin_all(&[ok(0, AUTOCOMMIT)]);
    talk.client(0, &execute(1, true, 5))
        .origin_all(&[ok(0, AUTOCOMMIT)]);
    talk.target_all(&prepared(1, 1, 0, USUAL))
        .target_all(&[ok(0, AUTOCOMMIT)]);
}

/// Asserts that a second session of the connection does not know its statement.
fn assert_forgotten(mut talk: Talk) {
    go_on(&mut talk);
    let (said, unknown) = second(&talk);
    assert!(
        !said.contains(&prepare("delete from t where a = ?")),
        "{said:?}"
    );
    assert_eq!(unknown, 1);
}

/// What the target heard from the second session, behind the login.
fn second(talk: &Talk) -> (Vec<Vec<u8>>, u64) {
    let played = talk.play_with(config().with("database", "shop"));
    let said = packets(&played.sessions[1].sent).into_iter().skip(1);
    (
        said.map(|(_, payload)| payload).collect(),
        played.count("statements_unknown"),
    )
}

#[test]
fn another_connection_of_the_same_port_has_other_statements() {
    let mut talk = with_statement();
    go_on(&mut talk);
    let (said, unknown) = second(&talk);
    assert_eq!(said[said.len() - 2], prepare("delete from t where a = ?"));
    assert_eq!(unknown, 0, "{said:?}");
    for ends in [
        Step::Data {
            direction: Direction::Client,
            bytes: message(0, b"\x01"),
        },
        Step::End {
            direction: Direction::Client,
        },
    ] {
        let mut talk = with_statement();
        talk.step(ends);
        assert_forgotten(talk);
    }
}

#[test]
fn a_login_forgets_what_the_port_was_before() {
    let mut talk = with_statement();
    talk.end(Direction::Target).step(Step::Close);
    talk.step(Step::Session(Opening { id: 3, ..opening() }));
    talk.steps.extend(Talk::usual().steps);
    go_on(&mut talk);
    let played = talk.play_with(config().with("database", "shop"));
    let said = &played.sessions[2].sent;
    assert!(!said.windows(6).any(|bytes| bytes == b"delete"), "{played}");
    assert_eq!(played.count("statements_unknown"), 1);
}

#[test]
fn a_reset_forgets_statements_for_other_sessions_too() {
    for command in [
        b"\x1f".to_vec(),
        b"\x11app\0\x14aaaaaaaaaaaaaaaaaaaashop\0\x2d\0mysql_native_password\0".to_vec(),
    ] {
        let mut talk = with_statement();
        talk.client(0, &command).both(&[ok(0, AUTOCOMMIT)]);
        talk.end(Direction::Target);
        assert_forgotten(talk);
    }
}

#[test]
fn a_statement_too_long_to_be_kept_is_not_taken_for_the_one_before() {
    let mut talk = with_statement();
    // The number is given again, and nobody has seen the statement closed.
    talk.prepare(&format!("select '{}', ?", "x".repeat(70_000)), 1, 2, 1);
    talk.end(Direction::Target);
    go_on(&mut talk);
    let (said, unknown) = second(&talk);
    assert!(
        !said.contains(&prepare("delete from t where a = ?")),
        "{said:?}"
    );
    assert_eq!(unknown, 1);
}

/// A proxy gives numbers again at once.
#[test]
fn a_number_means_what_it_meant_when_it_was_said() {
    let mut talk = Talk::usual();
    talk.client(0, &prepare("update a set x = 1"))
        .origin_all(&prepared(1, 0, 0, USUAL));
    talk.client(0, &run(1)).origin_all(&[ok(1, AUTOCOMMIT)]);
    talk.client(0, &of_statement(0x19, 1, &[]));
    talk.client(0, &prepare("delete from b"))
        .origin_all(&prepared(1, 0, 0, USUAL));
    talk.client(0, &run(1)).origin_all(&[ok(1, AUTOCOMMIT)]);
    // Only now the target answers.
    talk.target_all(&prepared(11, 0, 0, USUAL))
        .target_all(&[ok(1, AUTOCOMMIT)])
        .target_all(&prepared(12, 0, 0, USUAL))
        .target_all(&[ok(1, AUTOCOMMIT)]);
    let played = talk.play();
    let expected = [
        prepare("update a set x = 1"),
        run(11),
        of_statement(0x19, 11, &[]),
        prepare("delete from b"),
        run(12),
    ];
    assert_eq!(commands(&played), expected, "{played}");
    let labels: Vec<_> = outcomes(&played).into_iter().map(|it| it.0).collect();
    assert_eq!(
        (&*labels[1], &*labels[4]),
        ("update a set x=?", "delete from b")
    );
}

#[test]
fn the_same_holds_when_the_origins_answers_are_late() {
    let mut talk = Talk::usual();
    talk.client(0, &prepare("update a set x = 1"));
    talk.client(0, &run(1))
        .client(0, &of_statement(0x19, 1, &[]));
    talk.client(0, &prepare("delete from b")).client(0, &run(1));
    talk.origin_all(&prepared(1, 0, 0, USUAL))
        .origin_all(&[ok(1, AUTOCOMMIT)])
        .origin_all(&prepared(1, 0, 0, USUAL))
        .origin_all(&[ok(1, AUTOCOMMIT)]);
    talk.target_all(&prepared(11, 0, 0, USUAL))
        .target_all(&[ok(1, AUTOCOMMIT)])
        .target_all(&prepared(12, 0, 0, USUAL))
        .target_all(&[ok(1, AUTOCOMMIT)]);
    let played = talk.play();
    assert_eq!(played.count("statements_unknown"), 0, "{played}");
    assert_eq!(commands(&played)[1], run(11));
    assert_eq!(commands(&played)[4], run(12));
}

#[test]
fn statements_that_failed_take_no_room() {
    let mut talk = Talk::usual();
    for _ in 0..16_400 {
        talk.client(0, &prepare("select nope")).both(&[error(1054)]);
    }
    talk.prepare("select a", 5, 6, 0);
    talk.client(0, &run(5)).both(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    assert_eq!(commands(&played).last(), Some(&run(6)));
    assert_eq!(played.count("statements_not_kept"), 0);
}

#[test]
fn what_only_the_target_has_prepared_is_closed_there() {
    let mut talk = Talk::usual();
    talk.client(0, &prepare("select a"))
        .target_all(&prepared(4, 0, 0, USUAL))
        .origin_all(&[error(1054)]);
    talk.client(0, &prepare("select b"))
        .origin_all(&[error(1054)])
        .target_all(&prepared(5, 0, 0, USUAL));
    talk.query("select 1", &rows(1, AUTOCOMMIT, USUAL));
    // A reset closes them too.
    talk.client(0, &prepare("select c"))
        .origin_all(&[error(1054)])
        .target_all(&prepared(6, 0, 0, USUAL));
    talk.client(0, b"\x1f").both(&[ok(0, AUTOCOMMIT)]);
    talk.client(0, b"\x0e").both(&[ok(0, AUTOCOMMIT)]);
    let expected = [
        prepare("select a"),
        of_statement(0x19, 4, &[]),
        prepare("select b"),
        of_statement(0x19, 5, &[]),
        query("select 1"),
        prepare("select c"),
        b"\x1f".to_vec(),
        b"\x0e".to_vec(),
    ];
    assert_eq!(commands(&talk.play()), expected);
}
