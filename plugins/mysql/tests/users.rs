//! Whose a session is and which database it is in, and what of that the target is told.

mod common;

use common::*;
use plugin_api::testkit::{Played, Step};
use plugin_api::{Config, Direction};

const CHANGE: &[u8] = b"\x11other\0\x14aaaaaaaaaaaaaaaaaaaashop\0\x2d\0mysql_native_password\0";

fn gap(direction: Direction) -> Step {
    Step::Gap {
        direction,
        missing: None,
    }
}

/// The target logs a late session in.
fn late() -> Talk {
    let mut talk = Talk::late(1);
    talk.greet_target(42);
    talk.target(2, &ok(0, AUTOCOMMIT));
    talk
}

/// An answer that tells nothing of a database.
fn one_row() -> Vec<Vec<u8>> {
    vec![
        vec![1],
        column(""),
        eof(AUTOCOMMIT),
        text(b"1"),
        eof(AUTOCOMMIT),
    ]
}

/// What the target heard, changes of user without their proofs.
fn heard(played: &Played) -> Vec<Vec<u8>> {
    let all = commands(played).into_iter();
    all.map(|command| match command.as_slice() {
        [0x11, ..] => vec![0x11],
        _ => command,
    })
    .collect()
}

/// Pools do so when they hand a connection out.
#[test]
fn a_change_of_user_is_where_a_session_can_begin() {
    let mut talk = late();
    talk.client(0, CHANGE);
    talk.both(&[ok(0, AUTOCOMMIT)]);
    talk.query("insert into t values (1)", &[ok(1, AUTOCOMMIT)]);
    let played = talk.play_with(config().with("database", "elsewhere"));
    let insert = query("insert into t values (1)");
    assert_eq!(heard(&played), [vec![0x11], insert], "{played}");
    let change = &commands(&played)[0];
    assert!(change.windows(5).any(|bytes| bytes == b"shop\0"));
    assert_eq!(played.count("commands_before_joining"), 0);
    assert_eq!(played.count("database_unknown"), 0);
}

#[test]
fn so_is_a_reset() {
    let mut talk = late();
    talk.client(0, b"\x1f").both(&[ok(0, AUTOCOMMIT)]);
    talk.query("insert into t values (1)", &[ok(1, AUTOCOMMIT)]);
    let played = talk.play_with(config().with("database", "shop"));
    let insert = query("insert into t values (1)");
    assert_eq!(heard(&played), [vec![0x1f], insert], "{played}");
    assert_eq!(played.count("commands_before_joining"), 0);
}

#[test]
fn what_is_restored_is_what_another_user_has() {
    let mut talk = Talk::usual();
    talk.client(0, b"\x02other").both(&[ok(0, AUTOCOMMIT)]);
    talk.query("set names latin1", &[ok(0, AUTOCOMMIT)]);
    talk.client(0, CHANGE).both(&[ok(0, AUTOCOMMIT)]);
    talk.step(gap(Direction::Client));
    talk.client(0, &query("select 1")).origin_all(&one_row());
    talk.client(0, &query("insert into t values (2)"))
        .origin_all(&[ok(1, AUTOCOMMIT)]);
    talk.target(1, &ok(0, AUTOCOMMIT));
    let expected = [
        b"\x02other".to_vec(),
        query("set names latin1"),
        vec![0x11],
        b"\x02shop".to_vec(),
        query("insert into t values (2)"),
    ];
    let played = talk.play();
    assert_eq!(heard(&played), expected, "{played}");
}

#[test]
fn a_reset_leaves_the_database_and_forgets_the_character_set() {
    let mut talk = Talk::usual();
    talk.client(0, b"\x02other").both(&[ok(0, AUTOCOMMIT)]);
    talk.query("set names latin1", &[ok(0, AUTOCOMMIT)]);
    talk.client(0, b"\x1f").both(&[ok(0, AUTOCOMMIT)]);
    talk.step(gap(Direction::Client));
    talk.client(0, &query("select 1")).origin_all(&one_row());
    talk.client(0, &query("insert into t values (2)"))
        .origin_all(&[ok(1, AUTOCOMMIT)]);
    talk.target(1, &ok(0, AUTOCOMMIT));
    let played = talk.play();
    let restored = [b"\x02other".to_vec(), query("insert into t values (2)")];
    assert_eq!(heard(&played)[3..], restored, "{played}");
}

#[test]
fn a_database_that_a_client_has_come_back_from_is_left_at_the_target_too() {
    let mut talk = Talk::usual();
    talk.client(0, b"\x02other").both(&[ok(0, AUTOCOMMIT)]);
    talk.step(gap(Direction::Client));
    talk.client(0, b"\x02shop").origin_all(&[ok(0, AUTOCOMMIT)]);
    talk.client(0, &query("insert into t values (2)"))
        .origin_all(&[ok(1, AUTOCOMMIT)]);
    talk.target(1, &ok(0, AUTOCOMMIT));
    assert_eq!(heard(&talk.play())[1], b"\x02shop");
}

#[test]
fn columns_of_another_database_do_not_tell_where_a_session_is() {
    let mut far = rows(1, AUTOCOMMIT, USUAL);
    far[1] = column("audit");
    let mut talk = Talk::usual();
    talk.query("select a from audit.log", &far);
    talk.step(gap(Direction::Client));
    talk.client(0, &query("select a from audit.log"))
        .origin_all(&far);
    talk.client(0, &query("insert into t values (1)"))
        .origin_all(&[ok(1, AUTOCOMMIT)]);
    let insert = query("insert into t values (1)");
    assert_eq!(heard(&talk.play()).pop(), Some(insert.clone()));
    assert_eq!(commands(&talk.play()).len(), 2);
    // Where the configuration tells, it is asked; else they are better than nothing.
    let mut talk = late();
    talk.client(0, &query("select a from audit.log"))
        .origin_all(&far);
    talk.client(0, &query("insert into t values (1)"))
        .origin_all(&[ok(1, AUTOCOMMIT)]);
    let played = talk.play_with(config().with("database", "shop"));
    assert_eq!(heard(&played), [insert]);
    assert_eq!(played.count("database_guessed"), 0);
    let played = talk.play();
    assert_eq!(heard(&played), [b"\x02audit"]);
    assert_eq!(played.count("database_guessed"), 1);
}

#[test]
fn what_follows_a_change_that_only_the_target_denies_is_not_said_by_the_user_before() {
    let insert = query("insert into t values (1)");
    let mut talk = Talk::usual();
    talk.client(0, CHANGE);
    talk.origin(1, &ok(0, AUTOCOMMIT)).target(1, &error(1044));
    talk.client(0, &insert).both(&[ok(1, AUTOCOMMIT)]);
    let played = talk.play();
    assert_eq!(played.refusal(), Some("login_denied"));
    assert_eq!(heard(&played), [vec![0x11]]);
    // The same when the origin is heard later, or not at all: that is waited for.
    let mut talk = Talk::usual();
    talk.client(0, CHANGE).client(0, &insert);
    assert!(heard(&talk.play()).is_empty());
    for answer in [
        Step::Data {
            direction: Direction::Origin,
            bytes: message(1, &ok(0, AUTOCOMMIT)),
        },
        Step::After(std::time::Duration::from_secs(3)),
        gap(Direction::Origin),
    ] {
        let at = talk.steps.len();
        talk.step(answer).target(1, &error(1044));
        let played = talk.play();
        assert_eq!(played.refusal(), Some("login_denied"), "{played}");
        assert_eq!(heard(&played), [vec![0x11]]);
        talk.steps.truncate(at);
    }
}

#[test]
fn a_change_that_the_origin_denies_is_not_told() {
    let insert = query("insert into t values (1)");
    let deny = |mut talk: Talk| {
        talk.query("begin", &[ok(0, IN_TRANSACTION | AUTOCOMMIT)]);
        talk.client(0, CHANGE).origin(1, &error(1045));
        talk.client(0, &insert);
        talk
    };
    // MySQL ends the connection.
    let played = deny(Talk::usual()).play();
    assert_eq!(played.count("changes_of_user_denied_at_origin"), 1);
    assert_eq!((played.refusal(), heard(&played).len()), (None, 1));
    // MariaDB, whose first capability is off, goes on with the user before and without transaction.
    let mut talk = deny(Talk::usual());
    talk.steps[0] = Step::Data {
        direction: Direction::Origin,
        bytes: message(0, &greeting(USUAL & !1, 41)),
    };
    talk.origin(1, &ok(1, AUTOCOMMIT))
        .target(1, &ok(0, AUTOCOMMIT));
    let played = talk.play();
    assert_eq!(played.refusal(), None);
    assert_eq!(
        heard(&played),
        [query("begin"), query("ROLLBACK"), insert.clone()],
        "{played}"
    );
}

/// Clients say that their queries may have attributes whether the origin takes them or not.
#[test]
fn without_the_origins_greeting_texts_are_still_found() {
    let capabilities = USUAL | QUERY_ATTRIBUTES;
    let mut talk = Talk {
        steps: Vec::new(),
        client: capabilities,
        target: USUAL,
    };
    talk.step(gap(Direction::Origin));
    talk.greet_target(42);
    talk.client(1, &handshake_response(capabilities));
    talk.origin(2, &ok(0, AUTOCOMMIT))
        .target(2, &ok(0, AUTOCOMMIT));
    talk.query("insert into t values (1)", &[ok(1, AUTOCOMMIT)]);
    // One that does have them, of which there are none.
    talk.client(0, b"\x03\0\x01select 1")
        .both(&[ok(0, AUTOCOMMIT)]);
    let expected = [query("insert into t values (1)"), query("select 1")];
    assert_eq!(commands(&talk.play()), expected);
}

#[test]
fn a_text_whose_attributes_cannot_be_read_is_said_whole() {
    let capabilities = USUAL | QUERY_ATTRIBUTES;
    let mut talk = Talk::logged_in(capabilities, USUAL);
    talk.query("insert into t values (1)", &[ok(1, AUTOCOMMIT)]);
    assert_eq!(
        commands(&talk.play_with(Config::new().with("password", "secret"))),
        [query("insert into t values (1)")]
    );
}
