use proptest::prelude::*;

use super::*;

const BACKSLASH: Escapes = Escapes {
    backslash: Some(true),
    has_pairs: false,
};

fn of(text: &str) -> Meaning {
    Meaning::of(text.as_bytes(), BACKSLASH)
}

fn writes(text: &str) -> bool {
    of(text).writes
}

#[test]
fn readers_and_writers_are_told_apart() {
    for text in [
        "select 1",
        "(select 1) union (select 2)",
        "SELECT replace(a, 'x', 'y') FROM t FOR UPDATE",
        "with x as (select 1) select * from x",
        "show tables",
        "/* c */ desc t",
        "explain delete from t",
        "set @a = 1, autocommit = 0",
        "begin; select 1; commit",
        "start transaction read only",
        "select t.update, @update from t",
        "prepare s from 'delete from t'",
        "",
        ";",
        "select 'insert; delete'",
        "set names default",
        "set @a = default, @@session.b = 1",
        r"select 'it\'s; delete from t'",
    ] {
        assert!(!writes(text), "{text}");
    }
    for text in [
        "insert into t values (1)",
        "/*!40000 delete from t */",
        "with x as (select 1) update t set a = 1",
        "select 1 into outfile '/x'",
        "select 1; drop table t",
        "select nextval(s)",
        "set global a = 1",
        "SET @@global.x = 1",
        "set names utf8; delete from t",
        "set @a=1; delete from t",
        "set password = 'x'",
        "call p()",
        "load data infile 'x' into table t",
        "analyze table t",
        "explain analyze delete from t",
        "start slave",
        "truncate t",
        "set @@`global`.x = 2",
        "set @@ global.x = 2",
        "set @a = 1, @@/**/persist.x = 2",
        "set default role a to b",
        "set resource group x",
        "begin not atomic delete from t; end",
        "begin not atomic delete from t; select 1",
        "if 1 then delete from t; end if",
        "desc analyze delete from t",
        "explain analyze insert into t select 1",
        "execute immediate 'delete' ' from t'",
        "execute immediate @a",
        "3",
    ] {
        assert!(writes(text), "{text}");
    }
}

#[test]
fn what_a_session_becomes_is_read() {
    let database = |text: &str| {
        of(text)
            .database
            .map(|name| String::from_utf8(name).expect("utf-8"))
    };
    assert_eq!(database("use `a b`").as_deref(), Some("a b"));
    assert_eq!(database("use a; set @a = 1; use b").as_deref(), Some("b"));
    assert_eq!(database("execute immediate 'use a'").as_deref(), Some("a"));
    assert_eq!(database("prepare s from 'use a'"), None);
    let names = of("SET NAMES 'utf8mb4' collate x").names;
    assert_eq!(names, Some(b"utf8mb4".to_vec()));
    assert!(of("begin work").begins && of("start transaction").begins && of("begin").begins);
    assert!(!of("select 1; begin").begins && !of("begin not atomic select 1; end").begins);
}

#[test]
fn what_means_another_thing_at_the_target_is_found() {
    let changes = |text: &str| {
        let found = of(text).changes.into_iter();
        let shown = found.map(|change| match change.span {
            Some(span) => format!("{}={:?}", &text[span], change.means),
            None => format!("{:?}", change.means),
        });
        shown.collect::<Vec<_>>().join(" ")
    };
    let database = format!("{:?}", Means::Database(b"shop".to_vec()));
    assert_eq!(changes("kill hard query  417 "), "417=Connection(417)");
    assert_eq!(
        changes("select 1; kill 17; use `shop`"),
        format!("17=Connection(17) `shop`={database}")
    );
    assert_eq!(
        changes("prepare s from 'use shop'"),
        format!("shop={database}")
    );
    assert_eq!(changes("prepare s from 'use ' 'shop'"), database);
    assert_eq!(
        changes(r"execute immediate 'kill\n17' using @a"),
        "Connection(17)"
    );
    assert_eq!(changes("/*!40000 kill 17 */"), "17=Connection(17)");
}

#[test]
fn servers_are_not_stopped_and_only_known_connections_killed() {
    for text in [
        "shutdown",
        "restart",
        "select 1; shutdown",
        "prepare s from 'shutdown'",
        r"prepare s from 'shut\down'",
        "execute immediate 'shut' 'down'",
        "begin not atomic if 1 then shutdown; end if; end",
    ] {
        assert_eq!(of(text).left_out, Some("shutdowns_left_out"), "{text}");
    }
    for text in [
        "kill @a",
        "kill ?",
        "kill 99999999999",
        "kill 17 + 1",
        "kill query id 17",
        "kill user app",
        "select 1; kill connection_id()",
    ] {
        assert_eq!(
            of(text).left_out,
            Some("kills_of_unknown_connections"),
            "{text}"
        );
    }
    let long = format!("select '{}'; shutdown", "x".repeat(100_000));
    assert_eq!(of(&long).left_out, Some("shutdowns_left_out"));
    let many = of(&"use a;".repeat(1000));
    assert_eq!(many.left_out, Some("texts_with_too_many_names"));
}

#[test]
fn what_is_prepared_by_name_is_noted() {
    let prepares = |name: &str, writes| ByName::Prepares(name.as_bytes().to_vec(), writes);
    let text = "prepare a from 'select 1'; prepare `b` from '' 'drop table t'; execute a using @x";
    let executes = ByName::Executes(b"a".to_vec());
    assert_eq!(
        of(text).by_name,
        [prepares("a", false), prepares("b", true), executes]
    );
    assert_eq!(of("prepare c from @a").by_name, [prepares("c", true)]);
    assert!(of("prepare c from @a").is_hidden && !of(text).is_hidden);
}

#[test]
fn what_may_be_read_in_two_ways_means_both() {
    let unknown = |text: &[u8]| Meaning::of(text, Escapes::default());
    for text in [
        br"select 'C:\'; delete from t; select '\'".as_slice(),
        b"select '\x83\\'; delete from t; -- '",
        br#"select "C:\"; delete from t; select "\""#,
    ] {
        assert!(unknown(text).writes, "{}", text.escape_ascii());
    }
    assert_eq!(
        unknown(br"select '\'; kill 17; -- '").left_out,
        Some("texts_of_two_meanings")
    );
    assert_eq!(
        unknown(br"select '\'; shutdown; -- '").left_out,
        Some("shutdowns_left_out")
    );
    let plain = Escapes {
        backslash: Some(false),
        ..BACKSLASH
    };
    assert_eq!(Meaning::of(br"select '\'; kill 17", plain).changes.len(), 1);
}

#[test]
fn files_are_expected_only_where_they_are_local() {
    let asks = |text: &str| of(text).may_ask_file;
    assert!(asks("LOAD DATA LOCAL INFILE 'x' INTO TABLE t"));
    assert!(asks("load xml low_priority local infile 'x' into table t"));
    assert!(asks("set @a = 1; load data local infile 'x' into table t"));
    assert!(asks("load data local infile 'x' into table t; select 1"));
    assert!(!asks("load data infile 'x' into table t"));
    assert!(!asks("select local from load_data"));
}

proptest! {
    #[test]
    fn no_text_panics(text in "(use|kill|set|prepare|execute|immediate|from|begin|not|load|with|[ ;'`@=1a(.]){0,12}") {
        let _ = Meaning::of(text.as_bytes(), Escapes::default());
    }
}
