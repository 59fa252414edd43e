//! Where answers end, and what is said of them.

mod common;

use common::*;
use plugin_api::Direction;
use plugin_api::testkit::Step;

fn done(label: &str) -> (String, Option<(bool, u32)>) {
    (label.to_owned(), Some((true, 0)))
}

/// All kinds of answers, one after the other.
fn all_kinds(capabilities: u32) -> Talk {
    let mut talk = Talk::logged_in(capabilities, capabilities);
    talk.query(
        "select a from t where b = 7",
        &rows(3, AUTOCOMMIT, capabilities),
    );
    talk.query("update t set a = 1", &[ok(2, AUTOCOMMIT)]);
    talk.query("select a from nothing", &rows(0, AUTOCOMMIT, capabilities));
    let mut several = rows(2, AUTOCOMMIT | MORE_RESULTS, capabilities);
    several.push(ok(1, AUTOCOMMIT | MORE_RESULTS));
    several.extend(rows(1, AUTOCOMMIT, capabilities));
    talk.query("call several(1)", &several);
    talk.client(0, b"\x0e").both(&[ok(0, AUTOCOMMIT)]);
    talk.client(0, b"\x09").both(&[b"Uptime: 3".to_vec()]);
    talk.client(0, b"\x02other").both(&[ok(0, AUTOCOMMIT)]);
    let fields = [
        column("shop"),
        column("shop"),
        end_of_rows(AUTOCOMMIT, capabilities),
    ];
    talk.client(0, b"\x04t\0").both(&fields);
    talk.client(0, b"\x1b\x01\x00")
        .both(&[end_of_rows(AUTOCOMMIT, capabilities)]);
    // A cursor: the execution opens it, and each fetch has its rows.
    talk.prepare("select a from t where a > ?", 1, 1, 1);
    let opened = match capabilities & DEPRECATE_EOF {
        0 => vec![vec![1], column("shop"), eof(AUTOCOMMIT | CURSOR)],
        _ => vec![
            vec![1],
            column("shop"),
            end_of_rows(AUTOCOMMIT | CURSOR, capabilities),
        ],
    };
    talk.client(0, &execute(1, true, 5)).both(&opened);
    let fetched = [
        b"\0\0\x02".to_vec(),
        b"\0\0\x03".to_vec(),
        end_of_rows(0x80, capabilities),
    ];
    talk.client(0, &of_statement(0x1c, 1, &[2, 0, 0, 0]))
        .both(&fetched);
    talk.client(0, &of_statement(0x1a, 1, &[]))
        .both(&[ok(0, AUTOCOMMIT)]);
    talk.query(
        "select a from t limit 1",
        &rows(1, AUTOCOMMIT, capabilities),
    );
    talk.client(0, b"\x01");
    talk.end(Direction::Client);
    talk
}

#[test]
fn every_answer_ends_where_it_ends_wherever_the_streams_are_cut() {
    let labels = [
        "select a from t where b=?",
        "update t set a=?",
        "select a from nothing",
        "call several(?+)",
        "ping",
        "statistics",
        "init db",
        "field list",
        "set option",
        "prepare: select a from t where a>?",
        "select a from t where a>?",
        "fetch",
        "reset statement",
        "select a from t limit ?",
        "quit",
    ];
    let expected: Vec<_> = labels.into_iter().map(done).collect();
    for capabilities in [
        USUAL,
        USUAL | DEPRECATE_EOF,
        USUAL | DEPRECATE_EOF | SESSION_TRACK,
    ] {
        let talk = all_kinds(capabilities);
        let whole = talk.play();
        assert_eq!(whole.refusal(), None, "{whole}");
        assert_eq!(outcomes(&whole), expected, "{whole}");
        let asked: Vec<u8> = commands(&whole).iter().map(|command| command[0]).collect();
        assert_eq!(
            asked,
            b"\x03\x03\x03\x03\x0e\x09\x02\x04\x1b\x16\x17\x1c\x1a\x03\x01"
        );
        for chunk in [1, 2, 3, 5, 7, 64] {
            let cut = talk.play_cut(chunk);
            assert_eq!(cut.sent(), whole.sent(), "{chunk}");
            assert_eq!(outcomes(&cut), expected, "{chunk}");
        }
    }
}

#[test]
fn the_servers_may_build_answers_differently() {
    let (client, target) = (USUAL, USUAL | DEPRECATE_EOF);
    // Towards the target holds what client and target have in common: no OK in place of EOF.
    let mut talk = Talk::logged_in(client, target);
    talk.client(0, &query("select 1"));
    talk.origin_all(&rows(1, AUTOCOMMIT, client))
        .target_all(&rows(1, AUTOCOMMIT, client));
    assert_eq!(outcomes(&talk.play()), [done("select ?")]);
    // The client knew OK in place of EOF, the target does not.
    let mut talk = Talk::logged_in(target, client);
    talk.client(0, &query("select 1"));
    talk.origin_all(&rows(1, AUTOCOMMIT, target))
        .target_all(&rows(2, AUTOCOMMIT, client));
    let played = talk.play();
    assert_eq!(outcomes(&played), [done("select ?")]);
    assert_eq!(played.count("rows_differ"), 1);
}

#[test]
fn errors_are_compared_with_the_origins() {
    let mut talk = Talk::usual();
    talk.query("select a from nowhere", &[error(1146)]);
    talk.client(0, &query("insert into t values (1)"));
    talk.origin_all(&[ok(1, AUTOCOMMIT)])
        .target_all(&[error(1062)]);
    talk.client(0, &query("insert into t values (2)"));
    talk.origin_all(&[error(1062)])
        .target_all(&[ok(1, AUTOCOMMIT)]);
    talk.client(0, &query("drop table x"));
    talk.origin_all(&[error(1051)]).target_all(&[error(1146)]);
    // The target is first; its error waits for the origin's answer.
    talk.client(0, &query("select b"))
        .target_all(&[error(1054)])
        .origin_all(&[error(1054)]);
    let mut rows = rows(1, AUTOCOMMIT, USUAL);
    *rows.last_mut().expect("an end") = error(1317);
    talk.query("select sleep(9)", &rows);
    let played = talk.play();
    let results: Vec<_> = outcomes(&played)
        .into_iter()
        .map(|(_, outcome)| outcome)
        .collect();
    let expected = [
        Some((true, 1146)),
        Some((false, 1062)),
        Some((true, 0)),
        Some((false, 1146)),
        Some((true, 1054)),
        Some((true, 1317)),
    ];
    assert_eq!(results, expected);
    for name in [
        "errors_only_at_target",
        "errors_only_at_origin",
        "errors_differ",
    ] {
        assert_eq!(played.count(name), 1, "{name}");
    }
}

#[test]
fn an_error_does_not_wait_for_an_origin_that_is_silent() {
    let mut talk = Talk::usual();
    talk.client(0, &query("select b"))
        .target_all(&[error(1054)]);
    assert_eq!(outcomes(&talk.play())[0].1, None);
    talk.step(Step::After(std::time::Duration::from_secs(3)));
    let played = talk.play();
    assert_eq!(outcomes(&played)[0].1, Some((false, 1054)));
    assert_eq!(played.count("origin_answers_missed"), 1);
}

#[test]
fn a_client_that_pipelines_is_followed() {
    let mut talk = Talk::usual();
    for text in ["select 1", "select 2", "insert into t values (3)"] {
        talk.client(0, &query(text));
    }
    for _ in 0..2 {
        talk.both(&rows(1, AUTOCOMMIT, USUAL));
    }
    talk.both(&[ok(1, AUTOCOMMIT)]);
    let played = talk.play();
    assert!(
        outcomes(&played)
            .iter()
            .all(|(_, outcome)| *outcome == Some((true, 0)))
    );
    assert_eq!(commands(&played).len(), 3);
}

#[test]
fn commands_wait_for_the_login() {
    let mut talk = Talk::before_the_target();
    talk.client(0, &query("select 1"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    talk.client(0, &query("select 2, 3"))
        .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    assert!(talk.play().sent().is_empty());
    talk.greet_target(42);
    assert_eq!(packets(talk.play().sent()).len(), 1);
    talk.target(2, &ok(0, AUTOCOMMIT));
    // What had to wait is said one after the other.
    assert_eq!(commands(&talk.play()), [query("select 1")]);
    talk.target_all(&rows(1, AUTOCOMMIT, USUAL));
    assert_eq!(
        commands(&talk.play()),
        [query("select 1"), query("select 2, 3")]
    );
    talk.target_all(&rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    assert_eq!(played.exchanges()[0].label, "login");
    assert_eq!(outcomes(&played), [done("select ?"), done("select ?, ?")]);
}

#[test]
fn logins_that_fail_are_named() {
    let mut talk = Talk {
        steps: Vec::new(),
        client: USUAL,
        target: USUAL,
    };
    talk.origin(0, &greeting(USUAL, 41)).greet_target(42);
    talk.client(1, &handshake_response(USUAL))
        .target(2, &error(1045));
    let played = talk.play();
    assert_eq!(played.refusal(), Some("login_denied"));
    assert_eq!(played.count("login_error_1045"), 1);
    // Where the origin has refused as well, all is as it should be.
    talk.steps.pop();
    talk.origin(2, &error(1045))
        .target(2, &error(1045))
        .end(Direction::Client);
    let played = talk.play();
    assert_eq!(played.refusal(), None);
    assert_eq!(
        played.exchanges()[0]
            .outcome
            .as_ref()
            .map(|it| (it.0, it.1)),
        Some((true, 1045))
    );
}

#[test]
fn a_target_may_be_far_behind() {
    const COMMANDS: usize = 30_000;
    let mut talk = Talk::usual();
    for _ in 0..COMMANDS {
        talk.client(0, b"\x0e").origin(1, &ok(0, AUTOCOMMIT));
    }
    for _ in 0..COMMANDS {
        talk.target(1, &ok(0, AUTOCOMMIT));
    }
    let played = talk.play_with(config());
    assert_eq!(played.refusal(), None);
    assert_eq!(commands(&played).len(), COMMANDS);
    // Not without end.
    let config = config().with("queue_total_bytes", 1 << 20);
    assert_eq!(talk.play_with(config).refusal(), Some("queue_full"));
}

#[test]
fn an_error_of_a_long_statement_that_is_said_in_parts_has_its_label() {
    let mut talk = Talk::before_the_target();
    let long = format!("insert into t values ('{}')", "x".repeat(3_000_000));
    for part in message(0, &query(&long)).chunks(100_000) {
        talk.raw(Direction::Client, part);
    }
    talk.origin(1, &ok(1, AUTOCOMMIT));
    talk.greet_target(42);
    talk.target(2, &ok(0, AUTOCOMMIT));
    for _ in 0..5 {
        talk.step(Step::After(std::time::Duration::from_millis(2)));
    }
    talk.target(1, &error(1062));
    let outcomes = outcomes(&talk.play());
    let failed = |it: &&(String, Option<(bool, u32)>)| it.1 == Some((false, 1062));
    let failed: Vec<_> = outcomes.iter().filter(failed).collect();
    assert_eq!(failed.len(), 1, "{outcomes:?}");
    assert_eq!(failed[0].0, "insert into t values(?+)");
}
