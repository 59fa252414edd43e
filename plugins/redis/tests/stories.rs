//! Connections as transcripts: what the target is sent, and which reply ends which exchange.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use plugin_api::Config;
use plugin_api::testkit::{self, Played, PlayedSession, Step, Transcript};
use tcpcopy_plugin_redis::Redis;

/// What a test may ask about, the same however the streams are cut.
fn outcome(played: &Played) -> Vec<PlayedSession> {
    played.sessions.clone()
}

/// Plays a transcript, also with every stream cut at every byte and into single bytes.
fn play(config: &Config, text: &str) -> Played {
    let transcript: Transcript = text.parse().unwrap();
    let whole = testkit::run::<Redis>(config, &transcript).unwrap();
    let expected = outcome(&whole);
    let bytes = |step: &Step| match step {
        Step::Data { bytes, .. } => bytes.len(),
        _ => 0,
    };
    for (at, step) in transcript.steps.iter().enumerate() {
        for cut in 1..bytes(step) {
            let mut steps = transcript.steps.clone();
            steps.splice(at..=at, split(step, cut));
            let cut = testkit::run::<Redis>(config, &Transcript { steps }).unwrap();
            assert_eq!(
                outcome(&cut),
                expected,
                "step {at}:\n{cut}\nwhole:\n{whole}"
            );
        }
    }
    let single = transcript.steps.iter().flat_map(|step| split(step, 1));
    let steps = single.collect();
    let single = testkit::run::<Redis>(config, &Transcript { steps }).unwrap();
    assert_eq!(outcome(&single), expected, "{single}");
    assert_eq!(single.counts, whole.counts);
    whole
}

/// A step in pieces of this size.
fn split(step: &Step, size: usize) -> Vec<Step> {
    match step {
        Step::Data { direction, bytes } => bytes
            .chunks(size.min(bytes.len()))
            .map(|bytes| Step::Data {
                direction: *direction,
                bytes: bytes.to_vec(),
            })
            .collect(),
        other => vec![other.clone()],
    }
}

fn sent(played: &Played) -> String {
    String::from_utf8_lossy(played.sent()).replace("\r\n", "|")
}

/// Each exchange: its label, and how it ended.
fn ends(played: &Played) -> Vec<String> {
    let end = |exchange: &plugin_api::testkit::Exchange| {
        let how = match &exchange.outcome {
            Some((true, _, _)) => "ok".to_owned(),
            Some((false, _, code)) => code.clone(),
            None if exchange.is_left_out => "left out".to_owned(),
            None => "open".to_owned(),
        };
        format!("{}: {how}", exchange.label)
    };
    assert_eq!(played.sessions[0].surplus_ends, 0, "{played}");
    played.exchanges().iter().map(end).collect()
}

fn password() -> Config {
    Config::new().with("password", "new")
}

#[test]
fn commands_are_counted_by_parsing() {
    let text = r"
        C: *3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n*2\r\n$3\r\nget\r\n$1\r\nk\r\nPING\r\n
        T: +OK\r\n$4\r\na\r\nb\r\n+PONG\r\n
        C: *3\r\n$6\r\nclient\r\n$7\r\nsetname\r\n$1\r\nx\r\n*1\r\n$4\r\nLLEN\r\n*2\r\n$3\r\nGET\r\n$1\r\nx\r\n
        T: +OK\r\n-ERR wrong number of arguments\r\n
    ";
    let played = play(&Config::new(), text);
    let client: Transcript = text.parse().unwrap();
    let said: Vec<u8> = client
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Data {
                direction: plugin_api::Direction::Client,
                bytes,
            } => Some(bytes.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(played.sent(), said, "nothing is changed");
    let wanted = [
        "SET: ok",
        "GET: ok",
        "PING: ok",
        "CLIENT SETNAME: ok",
        "LLEN: ERR",
        "GET: open",
    ];
    assert_eq!(ends(&played), wanted);
    assert_eq!((played.refusal(), played.count("error_err")), (None, 1));
}

#[test]
fn a_login_is_sent_with_the_targets_account() {
    let config = password()
        .with("user", "eve")
        .with("accounts", "app app2 secret two\ndefault ops x\n");
    let login = |command: &str| sent(&play(&config, &format!("C: {command}\nT: +OK\\r\\n\n")));
    assert_eq!(
        login(r"*3\r\n$4\r\nauth\r\n$3\r\napp\r\n$3\r\nold\r\n"),
        "*3|$4|AUTH|$4|app2|$10|secret two|"
    );
    assert_eq!(
        login(r"*2\r\n$4\r\nAUTH\r\n$3\r\nold\r\n"),
        "*3|$4|AUTH|$3|ops|$1|x|"
    );
    assert_eq!(login(r"AUTH bob 'old'\r\n"), "*3|$4|AUTH|$3|eve|$3|new|");
    assert_eq!(
        login(
            r"*7\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$7\r\nSETNAME\r\n$4\r\nAUTH\r\n$4\r\nauth\r\n$3\r\napp\r\n$1\r\no\r\n"
        ),
        "*7|$5|HELLO|$1|3|$7|SETNAME|$4|AUTH|$4|AUTH|$4|app2|$10|secret two|"
    );
    assert_eq!(
        sent(&play(&password(), "C: HELLO 2 AUTH bob old\\r\\n\n")),
        "*5|$5|HELLO|$1|2|$4|AUTH|$7|default|$3|new|"
    );
}

#[test]
fn clients_that_never_log_in_do_it_at_the_target() {
    let text = r"
        C: *2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$1\r\nb\r\n
        T: +OK\r\n
        T: $-1\r\n$-1\r\n
    ";
    let config = password().with("databases", Config::new().with("0", 3));
    let played = play(&password(), text);
    assert!(sent(&played).starts_with("*2|$4|AUTH|$3|new|*2|$3|GET|$1|a|*2"));
    assert_eq!(
        ends(&played),
        ["GET: ok", "GET: ok"],
        "a login is no request"
    );
    assert_eq!(played.count("logins_added"), 1);

    let held = play(&config, "C: *1\\r\\n$4\\r\\nPING\\r\\n\nT: +OK\\r\\n\n");
    assert_eq!(sent(&held), "*2|$4|AUTH|$3|new|*2|$6|SELECT|$1|3|");
    assert_eq!(held.sessions[0].held, b"*1\r\n$4\r\nPING\r\n");
    let refused = play(&password(), "C: PING\\r\\n\nT: -WRONGPASS invalid\\r\\n\n");
    assert_eq!(refused.refusal(), Some("login_failed"));
    assert!(refused.sessions[0].held == b"PING\r\n" && refused.count("error_wrongpass") == 1);
    assert!(
        refused
            .log
            .iter()
            .any(|(_, line)| line.contains("WRONGPASS"))
    );
}

#[test]
fn a_reset_forgets_the_login() {
    let text = r"
        C: AUTH old\r\nRESET\r\n
        T: +OK\r\n+RESET\r\n
        C: PING\r\n
        T: +OK\r\n+PONG\r\n
        C: QUIT\r\n
        T: +OK\r\n
    ";
    let played = play(&password(), text);
    let auth = "*2|$4|AUTH|$3|new|";
    assert_eq!(sent(&played), format!("{auth}RESET|{auth}PING|QUIT|"));
    assert_eq!(
        ends(&played),
        ["AUTH: ok", "RESET: ok", "PING: ok", "QUIT: ok"]
    );
}

#[test]
fn a_client_that_is_far_ahead_is_introduced_again() {
    let text = r"
        C: PING\r\nRESET\r\nPING\r\nRESET\r\n
        T: +OK\r\n
        C: PING\r\n
        T: +PONG\r\n+RESET\r\n+OK\r\n+PONG\r\n+RESET\r\n+OK\r\n+PONG\r\n
        C: RESET\r\n
        C: PING\r\n
    ";
    let played = play(&password(), text);
    let auth = "*2|$4|AUTH|$3|new|";
    let again = format!("{auth}PING|RESET|");
    assert_eq!(sent(&played), format!("{again}{again}{again}{auth}"));
    assert_eq!(
        played.sessions[0].held, b"PING\r\n",
        "the last one is alone again"
    );
    assert!(
        ends(&played)[..5].iter().all(|end| end.ends_with(": ok")),
        "{played}"
    );
}

#[test]
fn without_accounts_logins_pass_or_are_dropped() {
    let text = r"
        C: AUTH old\r\nHELLO 3 AUTH bob old SETNAME me\r\nPING\r\n
    ";
    assert_eq!(
        sent(&play(&Config::new(), text)),
        "AUTH old|HELLO 3 AUTH bob old SETNAME me|PING|"
    );
    let played = play(&Config::new().with("auth", "drop"), text);
    let hello = "*4|$5|HELLO|$1|3|$7|SETNAME|$2|me|";
    assert_eq!(sent(&played), format!("{hello}PING|"));
    assert_eq!(
        ends(&played),
        ["AUTH: left out", "HELLO: open", "PING: open"]
    );
    let named = Config::new().with("accounts", "app app2 x");
    assert_eq!(play(&named, text).refusal(), Some("no_account"));
    let passed = "C: AUTH old\\r\\n\nT: -WRONGPASS no\\r\\n\nC: PING\\r\\n\n";
    assert_eq!(play(&Config::new(), passed).refusal(), None);
    assert_eq!(play(&password(), passed).refusal(), Some("login_failed"));
}

#[test]
fn databases_have_the_targets_numbers() {
    let databases = Config::new().with("1", 11).with("2", 12);
    let config = Config::new().with("databases", databases);
    let text = r"
        C: SELECT 1\r\nSELECT 3\r\nSELECT x\r\nMOVE k 2\r\nMOVE 2 3\r\nSWAPDB 1 2\r\nCOPY 1 2 DB 1 REPLACE\r\nCOPY a b\r\n
    ";
    let wanted = "*2|$6|SELECT|$2|11|SELECT 3|SELECT x|*3|$4|MOVE|$1|k|$2|12|MOVE 2 3|\
        *3|$6|SWAPDB|$2|11|$2|12|*6|$4|COPY|$1|1|$1|2|$2|DB|$2|11|$7|REPLACE|COPY a b|";
    assert_eq!(sent(&play(&config, text)), wanted);
}

#[test]
fn some_commands_are_never_replayed_and_some_if_so_wished() {
    let refusal = |command: &str| {
        let played = play(
            &Config::new(),
            &format!("C: PING\\r\\n{command}\\r\\nPING\\r\\n\n"),
        );
        assert_eq!(sent(&played), "PING|");
        played.refusal().map(str::to_owned)
    };
    for (command, reason) in [
        ("shutdown NOSAVE", "command_shutdown"),
        ("REPLICAOF NO ONE", "command_replicaof"),
        ("PSYNC ? -1", "command_psync"),
        ("SYNC", "command_sync"),
        ("CLUSTER MEET 1.2.3.4 1", "command_cluster_meet"),
        ("migrate a 1 k 0 5", "command_migrate"),
    ] {
        assert_eq!(refusal(command).as_deref(), Some(reason));
    }
    let unless = Config::new().with("drop", vec!["MIGRATE"]);
    let played = play(&unless, "C: migrate a 1 k 0 5\\r\\nPING\\r\\n\n");
    assert_eq!((sent(&played).as_str(), played.refusal()), ("PING|", None));
    let config = Config::new().with("drop", vec!["FLUSHALL", "config set"]);
    let played = play(
        &config,
        r"
        C: FLUSHALL\r\nCONFIG GET x\r\nconfig SET x 1\r\nPING\r\n
        T: *0\r\n+PONG\r\n
    ",
    );
    assert_eq!(sent(&played), "CONFIG GET x|PING|");
    let wanted = [
        "FLUSHALL: left out",
        "CONFIG GET: ok",
        "CONFIG SET: left out",
        "PING: ok",
    ];
    assert_eq!(
        (
            ends(&played),
            played.count("dropped_flushall") + played.count("dropped_config_set")
        ),
        (wanted.map(str::to_owned).to_vec(), 2)
    );
}

#[test]
fn what_nobody_asked_for_answers_nothing() {
    let played = play(
        &Config::new(),
        r"
        C: HELLO 3\r\nGET a\r\n
        T: %1\r\n+proto\r\n:3\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n|1\r\n+ttl\r\n:1\r\n$1\r\nx\r\n
        C: SUBSCRIBE a b\r\nLRANGE l 0 -1\r\n
        T: >3\r\n+subscribe\r\n+a\r\n:1\r\n>3\r\n+message\r\n+a\r\n+x\r\n>3\r\n+subscribe\r\n+b\r\n:2\r\n
        T: *3\r\n+message\r\n+a\r\n+x\r\n
        C: UNSUBSCRIBE\r\nMONITOR\r\nPING\r\n
        T: >3\r\n+unsubscribe\r\n+a\r\n:1\r\n>3\r\n+unsubscribe\r\n+b\r\n:0\r\n
        T: +OK\r\n+1339518083.107412 [0 127.0.0.1:1] \x22keys\x22\r\n+PONG\r\n
        T: +late\r\n
    ",
    );
    let wanted = [
        "HELLO: ok",
        "GET: ok",
        "SUBSCRIBE: ok",
        "LRANGE: ok",
        "UNSUBSCRIBE: ok",
        "MONITOR: ok",
        "PING: ok",
    ];
    assert_eq!(ends(&played), wanted);
    let count = |name| played.count(name);
    assert_eq!((count("pushes"), count("messages")), (1, 1));
    assert_eq!(
        (count("monitored_commands"), count("unexpected_replies")),
        (1, 1)
    );
}

#[test]
fn subscribers_of_resp2() {
    let played = play(
        &Config::new(),
        r"
        C: *3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n*2\r\n$10\r\nPSUBSCRIBE\r\n$1\r\n*\r\n
        T: *3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n
        T: *3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\na\r\n$1\r\nx\r\n
        T: *3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:3\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n
        C: PING\r\nPUNSUBSCRIBE\r\nUNSUBSCRIBE\r\nUNSUBSCRIBE\r\nPING\r\n
        T: *2\r\n$4\r\npong\r\n$0\r\n\r\n*3\r\n$12\r\npunsubscribe\r\n$1\r\n*\r\n:2\r\n
        T: *3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n
        T: *3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n+PONG\r\n
    ",
    );
    let wanted = [
        "SUBSCRIBE: ok",
        "PSUBSCRIBE: ok",
        "PING: ok",
        "PUNSUBSCRIBE: ok",
        "UNSUBSCRIBE: ok",
        "UNSUBSCRIBE: ok",
        "PING: ok",
    ];
    assert_eq!(
        (ends(&played), played.count("messages")),
        (wanted.map(str::to_owned).to_vec(), 2)
    );
}

#[test]
fn commands_without_a_reply_are_over_when_those_before_are() {
    let played = play(
        &Config::new(),
        r"
        C: GET a\r\nCLIENT REPLY SKIP\r\nSET a 1\r\nGET b\r\nCLIENT REPLY OFF\r\nSET b 1\r\n
        T: $-1\r\n
        T: $-1\r\n
        C: SET c 1\r\nCLIENT REPLY ON\r\nGET c\r\n
        T: +OK\r\n$1\r\n1\r\n
    ",
    );
    assert!(
        ends(&played).iter().all(|end| end.ends_with(": ok")),
        "{played}"
    );
    assert_eq!(
        (
            played.exchanges().len(),
            played.count("commands_without_reply")
        ),
        (9, 5)
    );
    let refused = play(&Config::new(), "C: MULTI\\r\\nCLIENT REPLY OFF\\r\\n\n");
    assert_eq!(refused.refusal(), Some("client_reply_in_multi"));
}

#[test]
fn transactions() {
    let played = play(
        &Config::new(),
        r"
        C: WATCH k\r\nMULTI\r\nSET k 1\r\nINCR l\r\nEXEC\r\nMULTI\r\nSUBSCRIBE a b\r\nEXEC\r\nPING\r\n
        T: +OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n-WRONGTYPE no\r\n
        T: +OK\r\n+QUEUED\r\n*1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n
        T: *2\r\n$4\r\npong\r\n$0\r\n\r\n
        C: MULTI\r\nEXEC\r\n
        T: +OK\r\n*-1\r\n
    ",
    );
    assert!(
        ends(&played).iter().all(|end| end.ends_with(": ok")),
        "{played}"
    );
    let count = |name| played.count(name);
    assert_eq!(
        (
            count("errors_in_transactions"),
            count("transactions_aborted")
        ),
        (1, 1)
    );
}

#[test]
fn errors_are_counted_by_name() {
    let played = play(
        &Config::new(),
        r"
        C: GET a\r\nGET b\r\nEVALSHA x 0\r\nGET c\r\nGET d\r\n
        T: -MOVED 1 1.2.3.4:1\r\n-ASK 1 1.2.3.4:1\r\n-NOSCRIPT No\r\n-CLUSTERDOWN no\r\n-\xff no\r\n
    ",
    );
    let wanted = [
        "GET: MOVED",
        "GET: ASK",
        "EVALSHA: NOSCRIPT",
        "GET: CLUSTERDOWN",
        "GET: other",
    ];
    assert_eq!(ends(&played), wanted);
    for name in [
        "error_moved",
        "error_ask",
        "error_noscript",
        "error_clusterdown",
        "error_other",
    ] {
        assert_eq!(played.count(name), 1, "{name}");
    }
    assert!(played.log.iter().any(|(_, line)| line.contains("cluster")));
}

#[test]
fn blocking_commands_wait_no_longer_than_they_may() {
    let config = Config::new().with("block_limit_ms", 1500);
    let text = r"
        C: BLPOP a 0\r\nBLPOP a 1\r\nBLMPOP 9 1 a LEFT\r\nWAIT 1 0\r\nXREAD BLOCK 0 STREAMS BLOCK 0\r\nXREAD STREAMS BLOCK 0\r\n
    ";
    let wanted = "*3|$5|BLPOP|$1|a|$3|1.5|BLPOP a 1|*5|$6|BLMPOP|$3|1.5|$1|1|$1|a|$4|LEFT|\
        *3|$4|WAIT|$1|1|$4|1500|*6|$5|XREAD|$5|BLOCK|$4|1500|$7|STREAMS|$5|BLOCK|$1|0|\
        XREAD STREAMS BLOCK 0|";
    assert_eq!(sent(&play(&config, text)), wanted);
}

#[test]
fn who_joins_late_is_introduced_and_begins_with_a_whole_command() {
    let config = password()
        .with("db", 2)
        .with("databases", Config::new().with("2", 5));
    let text = r"
        session 1 mid-stream
        C: lue\r\n*x\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nEXEC\r\n
        T: +OK\r\n+OK\r\n
        C: *1\r\n$5\r\nMULTI\r\n*1\r\n$4\r\nEXEC\r\n
    ";
    let transcript: Transcript = text.parse().unwrap();
    let played = testkit::run::<Redis>(&config, &transcript).unwrap();
    let hello = "*2|$4|AUTH|$3|new|*2|$6|SELECT|$1|5|";
    let commands = "*1|$5|MULTI|*1|$4|EXEC|";
    assert_eq!(sent(&played), format!("{hello}{commands}"), "{played}");
    assert_eq!(played.count("joined_inside_multi"), 1);
    let inline = play(&Config::new(), "session 1 mid-stream\nC: PING\\r\\n\n");
    assert_eq!(
        sent(&inline),
        "",
        "an inline command may be part of a value"
    );
    // Where no account is known, nobody has logged in.
    let text = r"
        session 1 mid-stream
        C: *1\r\n$4\r\nPING\r\n
        T: -NOAUTH Authentication required.\r\n
    ";
    let unknown = play(&Config::new().with("db", 3), text);
    assert_eq!(unknown.refusal(), Some("login_failed"));
}

#[test]
fn a_hole_costs_the_command_that_it_is_in() {
    let text = r"
        C: *2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGE
        C gap 10
        C: 1\r\nb\r\n*2\r\n$3\r\nGET\r\n$1\r\nc\r\n
        T: $-1\r\n$-1\r\n
    ";
    let played = play(&Config::new(), text);
    assert_eq!(sent(&played), "*2|$3|GET|$1|a|*2|$3|GET|$1|c|");
    assert_eq!(
        (ends(&played), played.count("gaps")),
        (vec!["GET: ok".to_owned(); 2], 1)
    );
    let multi = play(
        &Config::new(),
        r"
        C: MULTI\r\nINCR a\r\n
        T: +OK\r\n+QUEUED\r\n
        C gap unknown
        T: +OK\r\n
        C: *1\r\n$4\r\nPING\r\n
        C: *1\r\n$4\r\nEXEC\r\n
        T: +PONG\r\n
    ",
    );
    assert_eq!(sent(&multi), "MULTI|INCR a|*1|$7|DISCARD|*1|$4|PING|");
    assert_eq!(multi.count("transactions_cut"), 1);
    assert_eq!(ends(&multi)[2..], ["PING: ok", "EXEC: left out"]);
    // What the plugin says behind a command that was left out is none of that one's exchange.
    let left_out = play(
        &Config::new().with("drop", vec!["PUBLISH"]),
        r"
        C: MULTI\r\nPUBLISH c x\r\n
        T: +OK\r\n
        C gap unknown
        T: +OK\r\n
        C: *1\r\n$4\r\nPING\r\n
        T: +PONG\r\n
    ",
    );
    let wanted = ["MULTI: ok", "PUBLISH: left out", "DISCARD: ok", "PING: ok"];
    assert_eq!(ends(&left_out), wanted);
}

#[test]
fn long_values_pass_as_they_come() {
    let value = "v".repeat(100_000);
    let command = format!("*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\nk\\r\\n$100000\\r\\n{value}\\r\\n");
    let run = |config: &Config, text: &str| {
        testkit::run::<Redis>(config, &text.parse().unwrap()).unwrap()
    };
    let (first, second) = command.split_at(70_000);
    let text = format!("C: {first}\nC: {second}PING\\r\\n\nT: +OK\\r\\n+PONG\\r\\n\n");
    let played = run(&Config::new(), &text);
    assert_eq!(
        played.sent().len(),
        command.replace("\\r\\n", "||").len() + 6
    );
    assert_eq!(ends(&played), ["SET: ok", "PING: ok"]);
    let early = run(&Config::new(), &format!("C: {first}\n"));
    assert!(
        early.sent().len() > 60_000,
        "it is sent before it is complete"
    );
    let dropped = run(&Config::new().with("drop", vec!["SET"]), &text);
    assert_eq!(sent(&dropped), "PING|");
    let filled = run(
        &Config::new(),
        &format!("C: {first}\nC gap 5\nC: {}PING\\r\\n\n", &second[5..]),
    );
    assert_eq!(filled.sent().len(), played.sent().len());
    assert!(String::from_utf8_lossy(filled.sent()).contains("v?????v"));
    assert_eq!((ends(&filled).len(), filled.count("bytes_made_up")), (2, 5));
    let cut = run(&Config::new(), &format!("C: {first}\nC gap 50000\n"));
    assert_eq!(cut.refusal(), Some("gap_inside_command"));
    let cut = run(&Config::new(), &format!("C: {first}\nC gap unknown\n"));
    assert_eq!(cut.refusal(), Some("gap_inside_command"));
    let login = format!("C: *2\\r\\n$4\\r\\nAUTH\\r\\n$100000\\r\\n{value}\\r\\n\n");
    assert_eq!(run(&password(), &login).refusal(), Some("command_too_long"));
}

#[test]
fn what_is_not_redis_is_refused() {
    let refusal = |text: &str| {
        let played = play(&Config::new(), text);
        played.refusal().unwrap_or("none").to_owned()
    };
    assert_eq!(refusal("C: \\x16\\x03\\x01\\x02\\x00\n"), "encrypted");
    assert_eq!(refusal("C: *1\\r\\n:1\\r\\n\n"), "malformed_command");
    assert_eq!(refusal("C: SET \"a\\r\\n\n"), "malformed_command");
    assert_eq!(
        refusal("C: PING\\r\\n\nT: HTTP/1.1 400\\r\\n\n"),
        "target_speaks_no_redis"
    );
    let long = "x".repeat(65_536);
    let long = format!("C: {long}\n").parse().unwrap();
    let played = testkit::run::<Redis>(&Config::new(), &long).unwrap();
    assert_eq!(played.refusal(), Some("inline_too_long"));
}

#[test]
fn another_connection_begins_where_the_last_one_was() {
    let config = Config::new().with("accounts", "app app2 x");
    let text = r"
        session 1 client=192.0.2.9:1234
        C: HELLO 3 AUTH app old\r\nSELECT 4\r\n
        T: %0\r\n+OK\r\n
        T end
        session 2 mid-stream client=192.0.2.9:1234
        C: *1\r\n$4\r\nPING\r\n
        session 3 client=192.0.2.9:1234
        session 4 mid-stream client=192.0.2.9:1234
    ";
    let played = play(&config, text);
    let second = played.session(2).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&second.sent).replace("\r\n", "|"),
        "*3|$4|AUTH|$4|app2|$1|x|*2|$5|HELLO|$1|3|*2|$6|SELECT|$1|4|"
    );
    assert_eq!(
        played.session(4).unwrap().sent,
        b"",
        "it was another client"
    );
}

#[test]
fn another_connection_of_a_client_that_selected_nothing_is_not_taken_for_an_old_one() {
    let databases = Config::new().with("0", 8).with("2", 5);
    let config = Config::new().with("db", 2).with("databases", databases);
    let selects = |first: &str| {
        let text = format!(
            r"
        {first}
        T end
        session 2 mid-stream client=192.0.2.9:1234
        "
        );
        let played = play(&config, &text);
        String::from_utf8_lossy(&played.session(2).unwrap().sent).replace("\r\n", "|")
    };
    let new = "session 1 client=192.0.2.9:1234\n";
    let selected = |database| format!("*2|$6|SELECT|$1|{database}|");
    assert_eq!(selects(&format!("{new}C: PING\\r\\n")), selected(8));
    assert_eq!(
        selects(&format!("{new}C: AUTH x\\r\\n\nT: +OK\\r\\n")),
        selected(8)
    );
    let old = "session 1 mid-stream client=192.0.2.9:1234\n";
    assert_eq!(selects(old), selected(5));
    let reset = r"C: *1\r\n$5\r\nRESET\r\n";
    assert_eq!(
        selects(&format!("{old}{reset}\nT: +OK\\r\\n+RESET\\r\\n")),
        selected(8)
    );
}

#[test]
fn a_target_that_knows_no_hello_is_logged_in_to_by_auth() {
    let config = password().with("accounts", "app app2 x");
    let hello = r"C: *5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$3\r\nold\r\n";
    let mapped = "*5|$5|HELLO|$1|3|$4|AUTH|$4|app2|$1|x|";
    let auth = "*3|$4|AUTH|$4|app2|$1|x|";
    let goes_on = |answer: &str, then: &str| {
        let played = play(&config, &format!("{hello}\nT: {answer}\\r\\n\n{then}\n"));
        (
            sent(&played)
                .replace(mapped, "(hello)")
                .replace(auth, "(auth)"),
            played.refusal().map(str::to_owned),
        )
    };
    let unknown = "-ERR unknown command 'HELLO'";
    let went_on = |sent: &str| (sent.to_owned(), None);
    // The origin knew it, so the client says no more of who it is.
    let ping = r"C: PING\r\n";
    assert_eq!(goes_on(unknown, ping), went_on("(hello)(auth)"));
    let answered = "C: PING\\r\\n\nT: +OK\\r\\n";
    assert_eq!(goes_on(unknown, answered), went_on("(hello)(auth)PING|"));
    // The origin did not know it either.
    let login = r"C: AUTH app old\r\nPING\r\n";
    assert_eq!(goes_on("-NOPROTO no", login), went_on("(hello)(auth)PING|"));
    for answer in ["-WRONGPASS no", "-NOPERM no"] {
        let refused = ("(hello)".to_owned(), Some("login_failed".to_owned()));
        assert_eq!(goes_on(answer, ping), refused);
    }
    // The client has logged in before it heard the answer.
    let ahead = format!(
        "{hello}AUTH app old\\r\\nPING\\r\\n\nT: {unknown}\\r\\n+OK\\r\\n+PONG\\r\\n\n{ping}"
    );
    let played = play(&config, &ahead);
    assert_eq!(sent(&played), format!("{mapped}{auth}PING|PING|"));
    let turned_down = "C: AUTH app old\\r\\n\nT: -ERR invalid password\\r\\n\nC: PING\\r\\n";
    let refusal = play(&config, turned_down).refusal().map(str::to_owned);
    assert_eq!(refusal.as_deref(), Some("login_failed"));

    let again = format!(
        "session 1 client=192.0.2.9:1\n{hello}\nT: {unknown}\\r\\n\n{answered}\nT: +PONG\\r\\n\n\
         T end\nsession 2 mid-stream client=192.0.2.9:1\n"
    );
    let next = play(&config, &again).session(2).unwrap().sent.clone();
    assert_eq!(String::from_utf8_lossy(&next).replace("\r\n", "|"), auth);
}

#[test]
fn a_select_that_fails_leaves_the_client_in_its_own_database_0() {
    let databases = Config::new().with("0", 8).with("1", 9);
    let config = Config::new().with("databases", databases);
    let first = "*2|$6|SELECT|$1|8|";
    let text = |select: &str| {
        format!("C: {select}\\r\\nPING\\r\\n\nT: +OK\\r\\n-ERR DB index is out of range\\r\\n")
    };
    let played = play(&config, &text("SELECT 9999"));
    assert_eq!(sent(&played), format!("{first}SELECT 9999|PING|"));
    // It must not become one that does not fail.
    let played = play(&config, &text("SELECT 1 2"));
    assert_eq!(sent(&played), format!("{first}SELECT 1 2|PING|"));
    assert_eq!(ends(&played), ["SELECT: ERR", "PING: open"]);
}

#[test]
fn what_is_queued_in_a_transaction_holds_once_it_is_executed() {
    let databases = Config::new().with("1", 9);
    let config = password().with("databases", databases);
    let next = |commands: &str| {
        let text = format!(
            "session 1 client=192.0.2.9:1\n{commands}\nT end\n\
             session 2 mid-stream client=192.0.2.9:1\n"
        );
        let played = play(&config, &text);
        assert_eq!(played.refusal(), None, "{played}");
        let next = played.session(2).unwrap().sent.clone();
        String::from_utf8_lossy(&next).replace("\r\n", "|")
    };
    let auth = "*2|$4|AUTH|$3|new|";
    let selects = format!("{auth}*2|$6|SELECT|$1|9|");
    let queue = r"C: PING\r\nMULTI\r\nSELECT 1\r\nHELLO 3\r\n
        T: +OK\r\n+PONG\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n";
    assert_eq!(next(queue), auth);
    assert_eq!(
        next(&format!("{queue}\nC: DISCARD\\r\\n\nT: +OK\\r\\n")),
        auth
    );
    assert_eq!(next(&format!("{queue}\nC: EXEC\\r\\n\nT: *-1\\r\\n")), auth);
    let hello = "*2|$5|HELLO|$1|3|";
    assert_eq!(
        next(&format!(
            "{queue}\nC: EXEC\\r\\n\nT: *2\\r\\n+OK\\r\\n%0\\r\\n"
        )),
        selects.replace(auth, &format!("{auth}{hello}"))
    );
    // A login that the target will not queue fails by itself.
    let login = r"C: PING\r\nMULTI\r\nAUTH x\r\n
        T: +OK\r\n+PONG\r\n+OK\r\n-ERR no\r\n";
    assert_eq!(next(login), auth);
    // MULTI has no arguments.
    let no_multi = r"C: PING\r\nMULTI x\r\nSELECT 1\r\n
        T: +OK\r\n+PONG\r\n-ERR wrong number\r\n+OK\r\n";
    assert_eq!(next(no_multi), selects);
}

#[test]
fn nobody_logs_in_within_a_transaction() {
    let config = password();
    let text = r"
        C: HELLO 3 AUTH default old\r\nMULTI\r\n
        T: -ERR unknown command\r\n
        C: GET a\r\nEXEC\r\n
        T: +OK\r\n+QUEUED\r\n*1\r\n$-1\r\n
        C: PING\r\n
    ";
    let played = play(&config, text);
    let wanted = "MULTI|GET a|EXEC|*2|$4|AUTH|$3|new|";
    assert!(sent(&played).ends_with(wanted), "{played}");
}

#[test]
fn long_commands_whose_end_must_be_known_are_refused() {
    let key = "k".repeat(70_000);
    let refusal = |config: &Config, command: &str| {
        let text = format!("C: {}\n", command.replace("|", "\\r\\n"));
        let played = testkit::run::<Redis>(config, &text.parse().unwrap()).unwrap();
        played.refusal().map(str::to_owned)
    };
    let maps = Config::new().with("databases", Config::new().with("1", 9));
    let limits = Config::new().with("block_limit_ms", 5);
    let copy = format!("*5|$4|COPY|$70000|{key}|$1|a|$2|DB|$1|1|");
    let pop = format!("*3|$5|BLPOP|$70000|{key}|$1|0|");
    let too_long = Some("command_too_long".to_owned());
    assert_eq!(refusal(&maps, &copy), too_long);
    assert_eq!(refusal(&limits, &pop), too_long);
    assert_eq!(refusal(&limits, &copy), None);
    assert_eq!(refusal(&maps, &pop), None);
}
