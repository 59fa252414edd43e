use proptest::prelude::*;

use super::*;

fn writes(text: &str) -> bool {
    Meaning::of(text.as_bytes(), true).writes
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
        "3",
    ] {
        assert!(writes(text), "{text}");
    }
}

#[test]
fn statements_that_mean_another_thing_at_the_target_are_found() {
    let verb = |text: &str| Meaning::of(text.as_bytes(), false).verb;
    assert_eq!(verb("use `a b`"), Verb::Use(b"a b".to_vec()));
    assert_eq!(
        verb("SET NAMES 'utf8mb4' collate x"),
        Verb::Names(b"utf8mb4".to_vec())
    );
    assert_eq!(verb("begin work"), Verb::Begin);
    assert_eq!(verb("start transaction"), Verb::Begin);
    assert_eq!(verb("select 1; shutdown"), Verb::Shutdown);
    assert_eq!(verb("execute `s` using @a"), Verb::Execute(b"s".to_vec()));
    assert_eq!(
        verb("prepare s from 'select 1'"),
        Verb::PrepareReading(b"s".to_vec())
    );
    assert_eq!(
        verb("prepare s from 'drop table t'"),
        Verb::PrepareWriting(b"s".to_vec())
    );
    assert_eq!(
        verb("prepare s from @a"),
        Verb::PrepareWriting(b"s".to_vec())
    );
    let text = "kill hard query  417 ";
    let expected = Verb::Kill {
        connection: 417,
        start: 17,
        end: 20,
    };
    assert_eq!(verb(text), expected);
    assert_eq!(&text[17..20], "417");
    assert_eq!(verb("kill @a"), Verb::Other);
    assert_eq!(verb("kill 99999999999"), Verb::Other);
}

#[test]
fn files_are_expected_only_where_they_are_local() {
    let asks = |text: &str| Meaning::of(text.as_bytes(), false).may_ask_file;
    assert!(asks("LOAD DATA LOCAL INFILE 'x' INTO TABLE t"));
    assert!(asks("load xml low_priority local infile 'x' into table t"));
    assert!(asks("set @a = 1; load data local infile 'x' into table t"));
    assert!(!asks("load data infile 'x' into table t"));
    assert!(!asks("select local from load_data"));
}

#[test]
fn a_writer_behind_a_long_reader_is_found_where_it_matters() {
    let text = format!("select '{}'; delete from t", "x".repeat(READ_BYTES));
    assert!(Meaning::of(text.as_bytes(), true).writes);
    assert!(!Meaning::of(text.as_bytes(), false).writes);
}

proptest! {
    #[test]
    fn no_text_panics(text in "(use|kill|set|prepare|load|with|[ ;'`@=1a(.]){0,12}") {
        let _ = Meaning::of(text.as_bytes(), true);
    }
}
