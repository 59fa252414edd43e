//! The servers other than nginx count what their own load generators ask for.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_lab::{
    Lab, LoginSite, Memcached, Mysql, MysqlClient, MysqlKind, Nginx, NginxConfig, Postgres, Redis,
    Visitors, Wrk, has_mysql9_for_test,
};

const TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn redis_counts_each_command() {
    let Some(lab) = Lab::for_test() else { return };
    let redis = Redis::start(lab.host("origin")).unwrap();
    let load = ["-q", "-t", "set,get", "-n", "2000", "-c", "10", "-P", "4"];
    redis.benchmark(lab.host("client"), &load).unwrap();
    let calls = redis.calls().unwrap();
    assert_eq!((calls["set"], calls["get"]), (2_000, 2_000), "{calls:?}");
}

#[test]
fn memcached_counts_gets_and_sets() {
    let Some(lab) = Lab::for_test() else { return };
    let memcached = Memcached::start(lab.host("origin")).unwrap();
    let client = lab.host("client");
    let load = |test: &str| {
        let load = ["--concurrency=2", "--execute-number=500", test];
        memcached.benchmark(client, &load).unwrap();
    };
    load("--test=set");
    assert_eq!(memcached.counters().unwrap()["cmd_set"], 1_000);
    load("--test=get");
    let counters = memcached.counters().unwrap();
    assert_eq!(counters["cmd_get"], 1_000, "{counters:?}");
}

#[test]
fn postgres_counts_statements_and_knows_its_content() {
    let Some(lab) = Lab::for_test() else { return };
    let postgres = Postgres::start(lab.host("origin")).unwrap();
    let before = postgres.content().unwrap();
    let client = lab.host("client");
    for protocol in ["simple", "extended", "prepared"] {
        let load = ["-S", "-c", "4", "-t", "50", "-M", protocol];
        postgres.pgbench(client, &load).unwrap();
    }
    assert_eq!(postgres.content().unwrap(), before);
    let calls = postgres.calls().unwrap();
    let selects: u64 = calls
        .iter()
        .filter(|line| line.starts_with("SELECT abalance"))
        .filter_map(|line| line.split('|').nth(1)?.parse::<u64>().ok())
        .sum();
    assert_eq!(selects, 600, "{calls:?}");
    postgres.pgbench(client, &["-N", "-t", "1"]).unwrap();
    assert_ne!(postgres.content().unwrap(), before);
}

#[test]
fn a_program_of_another_user_has_no_privilege() {
    let Some(lab) = Lab::for_test() else { return };
    let host = lab.host("origin");
    let directory = lab.directory_of("nobody", "own").unwrap();
    let script = format!("id -un && touch {directory}/file && grep CapBnd /proc/self/status");
    let shell = || host.command("sh").as_user("nobody");
    let output = shell().args(["-c", &script]).run().unwrap();
    let mut lines = output.stdout.lines();
    assert_eq!(lines.next(), Some("nobody"));
    assert!(lines.next().unwrap().ends_with("\t0000000000000000"));
    let forbidden = shell().args(["-c", "touch /run/lab/file"]).run();
    assert!(forbidden.is_err());
    let unknown = host.command("true").as_user("no-such-user").run();
    assert!(unknown.unwrap_err().to_string().contains("no-such-user"));
}

#[test]
fn a_paused_server_answers_only_when_it_goes_on() {
    let Some(lab) = Lab::for_test() else { return };
    let mut nginx = Nginx::start(lab.host("origin"), &NginxConfig::default()).unwrap();
    let url = format!("http://{}/", nginx.ipv4());
    let ask = || {
        let curl = lab.host("client").command("curl");
        curl.args(["-sS", "--max-time", "1", &url]).run()
    };
    assert!(ask().is_ok());
    nginx.pause().unwrap();
    assert!(ask().is_err());
    nginx.resume().unwrap();
    tcpcopy_lab::wait_until("an answer", TIMEOUT, || ask().is_ok()).unwrap();
}

#[test]
fn an_idle_server_has_logged_what_clients_asked_before_they_went() {
    let Some(lab) = Lab::for_test() else { return };
    let nginx = Nginx::start(lab.host("origin"), &NginxConfig::default()).unwrap();
    // It asks late, and goes before there can be an answer.
    let script = "exec 3<>/dev/tcp/$0/80; echo open; sleep 1; \
                  printf 'GET / HTTP/1.1\r\nHost: lab\r\n\r\n' >&3";
    let client = lab.host("client").command("bash").args(["-c", script]);
    let client = client.arg(lab.host("origin").ipv4()).spawn().unwrap();
    tcpcopy_lab::wait_until("the connection", TIMEOUT, || {
        client.stdout().contains("open")
    })
    .unwrap();
    assert_eq!(nginx.request_count().unwrap(), 0);
    nginx.wait_idle().unwrap();
    assert_eq!(nginx.request_count().unwrap(), 1);
}

#[test]
fn a_login_site_takes_posts_of_its_own_sessions_only() {
    let Some(lab) = Lab::for_test() else { return };
    let [one, other] = ["origin", "target"].map(|host| LoginSite::start(lab.host(host), 18));
    let (one, other) = (one.unwrap(), other.unwrap());
    let client = lab.host("client");
    let visitors = Visitors {
        users: 3,
        posts: 6,
        connections: 2,
    };
    one.receive(client, visitors).unwrap();
    let counts = one.counts().unwrap();
    assert_eq!((counts.logins, counts.accepted, counts.refused), (3, 18, 0));
    assert_eq!(one.posts().unwrap().len(), 18);
    // A cookie of the one is nothing to the other.
    let script = "sid=$(curl -sS -c - \"http://$0/site/login\" | awk '/sid/ { print $7 }') && \
                  curl -sS -o /dev/null -w '%{http_code}' -b \"sid=$sid\" \
                  -d csrf_token=x -d text=x \"http://$1/site/posts\"";
    let curl = client.command("sh").args(["-c", script]);
    let curl = curl.arg(one.ipv4()).arg(other.ipv4());
    assert_eq!(curl.run().unwrap().stdout, "403");
    assert_eq!(other.counts().unwrap().refused, 1);
}

#[test]
fn nginx_logs_a_header_and_passes_requests_on() {
    let Some(lab) = Lab::for_test() else { return };
    let config = NginxConfig {
        ports: vec![8080],
        logged_header: Some("X-Lab-Mark".to_owned()),
        passed_on: vec![("/r/on/".to_owned(), 80)],
        ..NginxConfig::default()
    };
    let _behind = Nginx::start(lab.host("origin"), &NginxConfig::default()).unwrap();
    let front = Nginx::start(lab.host("origin"), &config).unwrap();
    let url = format!("http://{}/r/on/x", front.ipv4());
    let curl = lab.host("client").command("curl");
    let curl = curl.args(["-sS", "-H", "x-lab-mark: one two", "-d", "body", &url]);
    assert_eq!(curl.run().unwrap().stdout, "/r/on/x\n");
    let requests = front.requests().unwrap();
    let logged: Vec<_> = requests
        .iter()
        .map(|r| (r.method.as_str(), r.header.as_str()))
        .collect();
    assert_eq!(logged, [("POST", "one two")]);
}

#[test]
fn a_pipelined_load_has_several_requests_in_one_packet() {
    let Some(lab) = Lab::for_test() else { return };
    let nginx = Nginx::start(lab.host("origin"), &NginxConfig::default()).unwrap();
    let load = Wrk::keep_alive(nginx.ipv4(), 4, Duration::from_secs(1));
    let load = load.varied().pipelined(8).at_rate(400);
    let report = load.run(lab.host("client")).unwrap();
    assert_eq!(report.errors, 0);
    assert!(
        report.requests > 100 && report.requests.is_multiple_of(8),
        "{report:?}"
    );
    let requests = nginx.requests().unwrap();
    assert!(requests.iter().any(|request| request.method == "POST"));
    assert!(requests.len() as u64 >= report.requests);
}

#[test]
fn mariadb_and_mysql_9_know_their_users_and_count_their_statements() {
    let Some(lab) = Lab::for_test() else { return };
    if !has_mysql9_for_test() {
        return;
    }
    let servers = [
        (MysqlKind::MariaDb, "ed25519"),
        (MysqlKind::Mysql9, "sha256_password"),
    ];
    for (kind, method) in servers {
        let server = Mysql::start(lab.host("origin"), kind).unwrap();
        server.create_user("app", method, "secret").unwrap();
        server
            .sql("create database shop; create table shop.t (a int)")
            .unwrap();
        let before = (
            server.counters("Com_").unwrap(),
            server.checksums("shop").unwrap(),
        );
        let client = MysqlClient::of(kind);
        let insert = |password| {
            let client = client.connect(lab.host("client"), server.ipv4(), "app", password);
            let statement = "insert into shop.t values (1)";
            client.unwrap().args(["-e", statement]).run()
        };
        insert("secret").unwrap();
        insert("wrong").unwrap_err();
        let after = (
            server.counters("Com_").unwrap(),
            server.checksums("shop").unwrap(),
        );
        assert_eq!(after.0["Com_insert"], before.0["Com_insert"] + 1);
        assert_ne!(after.1, before.1);
    }
}
