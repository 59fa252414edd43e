//! The origin's answers: which one is whose, also where some of them were missed.

mod common;

use common::*;
use plugin_api::Direction;
use plugin_api::testkit::Step;

fn gap() -> Step {
    Step::Gap {
        direction: Direction::Origin,
        missing: None,
    }
}

/// Whether an error of the target alone is seen as one: both answers belong to the same command.
fn compares_well(mut talk: Talk) -> bool {
    talk.client(0, &query("insert into t values (1)"));
    talk.origin_all(&[ok(1, AUTOCOMMIT)]);
    talk.target_all(&[error(1062)]);
    talk.client(0, &query("insert into t values (2)"));
    talk.origin_all(&[error(1062)]);
    talk.target_all(&[ok(1, AUTOCOMMIT)]);
    let played = talk.play();
    let counts = ["errors_only_at_target", "errors_only_at_origin"].map(|name| played.count(name));
    played.refusal().is_none() && counts == [1, 1]
}

#[test]
fn results_without_columns_are_known_where_the_login_was_not_seen() {
    // MariaDB leaves out the columns of a statement that was executed before.
    let end = |status| end_of_rows(status, DEPRECATE_EOF);
    let mut talk = Talk::late(1);
    talk.greet_target(42);
    talk.target(2, &ok(0, AUTOCOMMIT));
    talk.client(0, &query("set @a=1"))
        .origin_all(&[ok(0, AUTOCOMMIT)]);
    talk.client(0, b"\x16select a from t where a = ?");
    talk.origin_all(&prepared(5, 1, 0, DEPRECATE_EOF))
        .target_all(&prepared(1, 1, 0, USUAL));
    for head in [vec![vec![1, 1], column("shop")], vec![vec![1, 0]]] {
        let answer = [head, vec![b"\0\0\x01".to_vec(), end(AUTOCOMMIT)]].concat();
        talk.client(0, &execute(5, true, 5));
        talk.origin_all(&answer)
            .target_all(&rows(1, AUTOCOMMIT, USUAL));
    }
    let played = talk.play();
    for name in ["origin_answers_unreadable", "rows_differ"] {
        assert_eq!(played.count(name), 0, "{name}: {played}");
    }
    assert!(compares_well(talk));
}

#[test]
fn an_eof_that_could_not_be_expected_belongs_to_no_other_answer() {
    let mut talk = Talk::late(1);
    talk.greet_target(42);
    talk.target(2, &ok(0, AUTOCOMMIT));
    talk.client(0, &query("set @a=1"))
        .origin_all(&[ok(0, AUTOCOMMIT)]);
    // An EOF stands behind the parameter; nothing has told that there are any. The client goes on at
    // once.
    let answer = numbered(&prepared(5, 1, 0, USUAL));
    let (all, eof) = answer.split_at(answer.len() - 9);
    talk.client(0, b"\x16select a from t where a = ?")
        .raw(Direction::Origin, all);
    talk.client(0, b"\x0e")
        .raw(Direction::Origin, eof)
        .origin(1, &ok(0, AUTOCOMMIT));
    talk.target_all(&prepared(1, 1, 0, USUAL))
        .target(1, &ok(0, AUTOCOMMIT));
    let played = talk.play();
    for name in ["origin_answers_unreadable", "origin_answers_unasked"] {
        assert_eq!(played.count(name), 0, "{name}: {played}");
    }
    assert!(compares_well(talk));
}

#[test]
fn an_answer_that_is_read_wrong_does_not_shift_those_behind_it() {
    let mut talk = Talk::usual();
    // One packet of the answer is missing, and nobody says so.
    let answer = numbered(&rows(2, AUTOCOMMIT, USUAL));
    talk.client(0, &query("select 1"))
        .target_all(&rows(2, AUTOCOMMIT, USUAL));
    talk.raw(Direction::Origin, &answer[..answer.len() - 9]);
    talk.query("select 2", &rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    assert_eq!(played.count("origin_answers_unreadable"), 1, "{played}");
    assert!(compares_well(talk));
}

#[test]
fn an_answer_that_overtakes_its_command_is_nobodys() {
    let mut talk = Talk::usual();
    talk.origin(1, &error(1054)).client(0, &query("select b"));
    talk.target(1, &error(1054));
    let played = talk.play();
    assert_eq!(played.count("origin_answers_unasked"), 1);
    assert!(compares_well(talk));
}

#[test]
fn behind_a_hole_the_next_first_packet_is_waited_for() {
    let mut talk = Talk::usual();
    talk.client(0, &query("select 1"))
        .target_all(&rows(9, AUTOCOMMIT, USUAL));
    let answer = numbered(&rows(9, AUTOCOMMIT, USUAL));
    talk.raw(Direction::Origin, &answer[..30]).step(gap());
    // The rest of the answer begins a segment while the next command is under way already.
    talk.client(0, &query("select 2"));
    talk.raw(Direction::Origin, &answer[answer.len() - 9..]);
    talk.origin_all(&rows(1, AUTOCOMMIT, USUAL))
        .target_all(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    assert_eq!(played.count("rows_differ"), 0);
    assert!(compares_well(talk));
}

/// The response of a client that has no password.
fn without_password() -> Vec<u8> {
    let mut response = handshake_response(USUAL);
    let proof = text(&[9; 20]);
    let at = response
        .windows(proof.len())
        .position(|window| window == proof);
    let at = at.expect("a proof");
    response.splice(at..at + proof.len(), [0]);
    response
}

fn begins() -> Talk {
    Talk {
        steps: Vec::new(),
        client: USUAL,
        target: USUAL,
    }
}

#[test]
fn a_change_of_user_hears_what_the_origin_has_said_for_it_before() {
    let mut talk = begins();
    talk.origin(0, &greeting(USUAL, 41)).greet_target(42);
    talk.client(1, &without_password())
        .origin(2, &ok(0, AUTOCOMMIT))
        .target(2, &ok(0, AUTOCOMMIT));
    // The target is still answering something else.
    talk.client(0, &query("select 1"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.client(0, b"\x11other\0\0shop\0\x2d\0mysql_native_password\0");
    talk.origin(1, &ok(0, AUTOCOMMIT));
    talk.target_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.target(1, &ok(0, AUTOCOMMIT));
    talk.query("select 2", &rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play_with(plugin_api::Config::new());
    let said = commands(&played);
    assert_eq!(said.len(), 3, "{played}");
    assert!(said[1].starts_with(b"\x11other\0\0shop\0"), "{played}");
    assert_eq!(said[2], query("select 2"));
    assert_eq!(played.count("origin_answers_missed"), 0);
}

#[test]
fn a_login_does_not_wait_for_ever_for_an_origin_that_is_silent() {
    let mut talk = begins();
    talk.greet_target(42);
    talk.client(1, &without_password());
    assert!(talk.play_with(plugin_api::Config::new()).sent().is_empty());
    talk.step(Step::After(std::time::Duration::from_secs(3)));
    talk.target(2, &ok(0, AUTOCOMMIT));
    talk.client(0, &query("select 1"));
    let played = talk.play_with(plugin_api::Config::new());
    assert_eq!(commands(&played), [query("select 1")], "{played}");
    assert_eq!(played.count("origin_answers_missed"), 1);
}
