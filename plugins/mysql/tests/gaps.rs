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
