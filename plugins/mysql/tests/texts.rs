//! Texts that mean another thing at the target, wherever they stand.

mod common;

use common::*;
use plugin_api::{Config, Value};

fn renaming() -> Config {
    let databases = Config::new().with("shop", "shop_test");
    config().with("databases", Value::Table(databases))
}

fn run(id: u32) -> Vec<u8> {
    of_statement(0x17, id, &[0, 1, 0, 0, 0])
}

#[test]
fn the_rest_of_a_text_stays() {
    let mut talk = Talk::usual();
    let more = [ok(0, AUTOCOMMIT | MORE_RESULTS), ok(1, AUTOCOMMIT)];
    talk.query("use shop; insert into t values (1)", &more);
    talk.query("set @a=1; use `shop`; kill 41", &more);
    talk.query("use other", &[ok(0, AUTOCOMMIT)]);
    let expected = [
        query("use `shop_test`; insert into t values (1)"),
        query("set @a=1; use `shop_test`; kill 42"),
        query("use other"),
    ];
    assert_eq!(commands(&talk.play_with(renaming())), expected);
}

#[test]
fn long_texts_keep_their_length() {
    let long = "x".repeat(300_000);
    let mut talk = Talk::usual();
    talk.query(
        &format!("kill 000041; select '{long}'"),
        &[ok(0, AUTOCOMMIT)],
    );
    talk.client(0, &query(&format!("use shop; select '{long}'")))
        .origin_all(&[ok(0, AUTOCOMMIT)]);
    let played = talk.play_with(renaming());
    let expected = query(&format!("kill 42    ; select '{long}'"));
    assert_eq!(commands(&played), [expected]);
    assert_eq!(played.count("queries_too_long_to_change"), 1);
}

#[test]
fn prepared_texts_are_no_way_around() {
    let mut talk = Talk::usual();
    talk.prepare("kill 41", 1, 1, 0);
    talk.client(0, &run(1)).both(&[ok(0, AUTOCOMMIT)]);
    for (id, text) in [(2, "kill 17"), (3, "shutdown")] {
        talk.client(0, &[&[0x16], text.as_bytes()].concat())
            .origin_all(&prepared(id, 0, 0, USUAL));
        talk.client(0, &run(id)).origin_all(&[ok(0, AUTOCOMMIT)]);
    }
    for text in [
        "prepare s from 'shutdown'",
        "execute s",
        "execute immediate 'shutdown'",
        "select 1; kill 17",
    ] {
        talk.client(0, &query(text))
            .origin_all(&[ok(0, AUTOCOMMIT)]);
    }
    talk.query("prepare s from 'use shop'", &[ok(0, AUTOCOMMIT)]);
    talk.query("execute s", &[ok(0, AUTOCOMMIT)]);
    let played = talk.play_with(renaming());
    let expected = [
        b"\x16kill 42".to_vec(),
        run(1),
        query("prepare s from 'use `shop_test`'"),
        query("execute s"),
    ];
    assert_eq!(commands(&played), expected, "{played}");
    assert_eq!(played.count("shutdowns_left_out"), 3);
    assert_eq!(played.count("kills_of_unknown_connections"), 2);
    assert_eq!(played.count("statements_not_prepared"), 3);
}

#[test]
fn a_database_is_renamed_in_what_is_said_as_a_text() {
    let mut talk = Talk::usual();
    talk.client(0, b"\x16use shop")
        .origin_all(&prepared(1, 0, 0, USUAL))
        .target_all(&[error(1295)]);
    talk.client(0, &run(1)).both(&[ok(0, AUTOCOMMIT)]);
    let expected = [b"\x16use `shop_test`".to_vec(), query("use `shop_test`")];
    assert_eq!(commands(&talk.play_with(renaming())), expected);
}

#[test]
fn the_servers_status_tells_where_texts_end() {
    const NO_BACKSLASH_ESCAPES: u16 = 0x0200;
    let text = r"select 'C:\'; delete from t; select '\'";
    let mut talk = Talk::usual();
    let mode = ok(0, AUTOCOMMIT | NO_BACKSLASH_ESCAPES);
    talk.query(text, &rows(1, AUTOCOMMIT, USUAL));
    talk.query("set @x = 1", &[mode]);
    talk.client(0, &query(text))
        .origin_all(&[ok(0, AUTOCOMMIT)]);
    let played = talk.play_with(config().with("read_only", true));
    assert_eq!(commands(&played), [query(text), query("set @x = 1")]);
    assert_eq!(played.count("writers_left_out"), 1);
    assert_eq!(left_out(&played), ["select ?; delete from t; select ?"]);
}
