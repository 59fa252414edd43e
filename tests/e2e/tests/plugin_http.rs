//! The HTTP plugin changes a header of every request on its way to the target, whatever the shape of
//! the load, and loses none: both forms, both ways to the target.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_e2e::{Form, Recording, Replay, load_time, plug, programs, scaled};
use tcpcopy_lab::{
    Lab, Mode, Nginx, NginxConfig, PYTHON, Process, Programs, Report, Request, Setup, Wrk,
    WrkReport, wait_until,
};

const TRAFFIC: &str = env!("CARGO_BIN_EXE_lab-traffic");
const TIMEOUT: Duration = Duration::from_secs(90);

/// The header that requests get, and its value: no client says anything like it.
const HEADER: &str = "X-Lab-Mark";
const VALUE: &str = "e2e 4711";

/// The port of the server behind nginx that writes down the hashes of bodies.
const BODIES_PORT: u16 = 8081;

fn marking() -> String {
    format!("[http]\nset = {{ {HEADER} = \"{VALUE}\" }}\n")
}

/// Changes of every kind.
const CHANGES: &str = r#"
[http]
path_prefix = "/r/moved"
rewrite = [{ in = "path", pattern = '/r/(\d+)/(\d+)$', with = "/a-longer-way/${2}/${1}" }]
host = "staging.example:8080"
rename = { "Trailer" = "X-Trailer" }
set = { "X-Port" = "{client_port}", "User-Agent" = "none" }
add = { "Via" = "1.1 lab" }
"#;

/// nginx that logs the mark and passes uploads on.
fn nginx() -> NginxConfig {
    NginxConfig {
        logged_header: Some(HEADER.to_owned()),
        passed_on: vec![("/up/".to_owned(), BODIES_PORT)],
        ..NginxConfig::default()
    }
}

/// A replay whose targets' requests are to carry the mark, and the servers that take bodies.
struct Marked {
    replay: Replay,
    _bodies: Vec<Process>,
}

impl Marked {
    fn prepare(setup: Setup, name: &str, form: Form, configuration: &str) -> Option<Self> {
        let mut replay = Replay::prepare_with(setup, |_| nginx())?;
        let serve = |host| serve_bodies(&replay.lab, host);
        let bodies = ["origin", "target"].map(serve).into();
        replay.plug(name, form, configuration);
        Some(Self {
            replay,
            _bodies: bodies,
        })
    }

    fn start(setup: Setup, form: Form) -> Option<Self> {
        let mut marked = Self::prepare(setup, "http", form, &marking())?;
        marked.replay.start_tcpcopy();
        Some(marked)
    }

    fn requests(&self) -> [Vec<Request>; 2] {
        [&self.replay.origin, &self.replay.target].map(|nginx| nginx.requests().unwrap())
    }

    /// How many of the target's requests lack the mark.
    fn unmarked(&self) -> usize {
        let [_, target] = self.requests();
        target
            .iter()
            .filter(|request| request.header != VALUE)
            .count()
    }

    /// Asserts that every request is at the target, with its mark and its body, and none else.
    fn finish(mut self, copies: u64) -> Report {
        let report = if copies == 1 {
            self.replay.finish_without_loss()
        } else {
            self.replay.catch_up(copies);
            let report = self.replay.finish();
            report.assert_nothing_lost();
            report
        };
        let [origin, target] = self.requests();
        assert!(origin.iter().all(|request| request.header == "-"));
        assert_eq!(self.unmarked(), 0, "of {}\n{report}", target.len());
        let what = |request: Request| (request.method, request.path, request.status);
        let origin = times(copies, origin.into_iter().map(what));
        let target = times(1, target.into_iter().map(what));
        assert!(origin == target, "as many requests, but not the same");
        let bodies = |host| bodies(&self.replay.lab, host);
        let (sent, received) = (times(copies, bodies("origin")), bodies("target"));
        assert!(
            sent == received,
            "{} bodies, {}",
            sent.len(),
            received.len()
        );
        report
    }
}

/// Everything so many times, sorted.
fn times<T: Clone + Ord>(copies: u64, all: impl IntoIterator<Item = T>) -> Vec<T> {
    let all: Vec<T> = all.into_iter().collect();
    let mut all: Vec<T> = (0..copies).flat_map(|_| all.clone()).collect();
    all.sort_unstable();
    all
}

fn serve_bodies(lab: &Lab, host: &str) -> Process {
    let serve = lab.host(host).command(TRAFFIC);
    let serve = serve.args(["serve", "--port", &BODIES_PORT.to_string(), "--journal"]);
    let mut server = serve
        .arg(lab.path(&format!("{host}-bodies")))
        .spawn()
        .unwrap();
    server.wait_listening(BODIES_PORT).unwrap();
    server
}

/// What the server behind nginx received, sorted.
fn bodies(lab: &Lab, host: &str) -> Vec<String> {
    let text = lab.read(&format!("{host}-bodies")).unwrap_or_default();
    times(1, text.lines().map(str::to_owned))
}

/// Uploads with every framing, and pipelined questions between them.
fn upload(lab: &Lab, server: impl ToString) {
    let upload = lab
        .host("client")
        .command(TRAFFIC)
        .args(["upload", "--server"]);
    let upload = upload
        .arg(server)
        .args(["--max-bytes", "300000", "--bodies"]);
    upload.arg(scaled(60, 600)).run().unwrap();
}

/// A large body that curl asks leave for, once with its length and once in chunks.
fn curl(lab: &Lab, server: impl ToString) {
    let body = lab.write("large-body", vec![b'x'; 2_000_000]).unwrap();
    let url = format!("http://{}/up/curl", server.to_string());
    for framing in [&[][..], &["-H", "Transfer-Encoding: chunked"]] {
        let curl = lab.host("client").command("curl");
        let curl = curl.args(["-sS", "--fail", "-H", "Expect: 100-continue"]);
        curl.args(framing).args(["-T", &body, &url]).run().unwrap();
    }
}

/// Every shape of load, one after the other.
fn every_request_is_marked(setup: Setup, form: Form) {
    let Some(marked) = Marked::start(setup, form) else {
        return;
    };
    let replay = &marked.replay;
    let (server, third) = (replay.server(), load_time() / 3);
    let mut requests = 0;
    for load in [
        Wrk::keep_alive(server, 64, third).at_rate(3_000),
        Wrk::keep_alive(server, 16, third)
            .pipelined(8)
            .at_rate(4_000),
        Wrk::short(server, 32, third).at_rate(2_000),
    ] {
        requests += replay.load(&load.varied()).requests;
    }
    upload(&replay.lab, server);
    curl(&replay.lab, server);
    assert!(requests > 1_000, "{requests} is no load");
    marked.finish(1);
}

#[test]
fn every_request_is_marked_in_the_clients_names_native() {
    every_request_is_marked(Setup::new(Mode::Target), Form::Native);
}

#[test]
fn every_request_is_marked_in_the_clients_names_wasm() {
    every_request_is_marked(Setup::new(Mode::Target), Form::Wasm);
}

#[test]
fn every_request_is_marked_with_intercept_on_an_assistant() {
    every_request_is_marked(Setup::new(Mode::Assistant), Form::Wasm);
}

#[test]
fn every_request_is_marked_over_sockets_native() {
    every_request_is_marked(Setup::new(Mode::Socket), Form::Native);
}

#[test]
fn every_request_is_marked_over_ipv6_sockets_wasm() {
    every_request_is_marked(Setup::new(Mode::Socket).over_ipv6(), Form::Wasm);
}

#[test]
fn saturated_pipelines_are_marked() {
    let Some(marked) = Marked::start(Setup::new(Mode::Target), Form::Wasm) else {
        return;
    };
    let server = marked.replay.server();
    let load = Wrk::keep_alive(server, 32, load_time())
        .varied()
        .pipelined(16);
    marked.replay.load(&load);
    marked.finish(1);
}

fn every_request_is_marked_at_one_per_cent_loss(mode: Mode, form: Form) {
    let Some(mut marked) = Marked::start(Setup::new(mode), form) else {
        return;
    };
    let replay = &mut marked.replay;
    replay.lose(1.0);
    let (server, half) = (replay.server(), load_time() / 2);
    replay.load(&Wrk::keep_alive(server, 64, half).varied().at_rate(3_000));
    replay.load(
        &Wrk::keep_alive(server, 8, half)
            .varied()
            .pipelined(8)
            .at_rate(2_000),
    );
    replay.load(&Wrk::short(server, 16, half).at_rate(500));
    upload(&replay.lab, server);
    let target = replay.lab.host("target").clone();
    marked.finish(1);
    let lost = target.lost_packets().unwrap();
    assert!(lost > 0, "no packet was lost, so this test shows nothing");
}

#[test]
fn every_request_is_marked_at_one_per_cent_loss_native() {
    every_request_is_marked_at_one_per_cent_loss(Mode::Target, Form::Native);
}

#[test]
fn every_request_is_marked_at_one_per_cent_loss_before_an_assistant() {
    every_request_is_marked_at_one_per_cent_loss(Mode::Assistant, Form::Wasm);
}

#[test]
fn every_request_is_marked_at_one_per_cent_loss_over_sockets() {
    every_request_is_marked_at_one_per_cent_loss(Mode::Socket, Form::Wasm);
}

fn both_copies_are_marked(mode: Mode, form: Form) {
    let Some(marked) = Marked::start(Setup::new(mode).with(["-n", "2"]), form) else {
        return;
    };
    let replay = &marked.replay;
    replay.load(
        &Wrk::keep_alive(replay.server(), 32, load_time() / 2)
            .varied()
            .at_rate(1_000),
    );
    upload(&replay.lab, replay.server());
    marked.finish(2);
}

#[test]
fn both_copies_are_marked_in_the_clients_names() {
    both_copies_are_marked(Mode::Target, Form::Wasm);
}

#[test]
fn both_copies_are_marked_over_sockets() {
    both_copies_are_marked(Mode::Socket, Form::Native);
}

fn connections_that_were_there_before_are_marked(mode: Mode, form: Form) {
    const CONNECTIONS: u32 = 64;
    let Some(marked) = Marked::prepare(Setup::new(mode), "http", form, &marking()) else {
        return;
    };
    let Marked { mut replay, .. } = marked;
    let duration = load_time() + Duration::from_secs(3);
    let load = Wrk::keep_alive(replay.server(), CONNECTIONS, duration).varied();
    let mut running = load
        .at_rate(2_000)
        .spawn(replay.lab.host("client"))
        .unwrap();
    wait_until("the load to run", TIMEOUT, || {
        replay.origin.connection_count().unwrap() == u64::from(CONNECTIONS)
    })
    .unwrap();
    replay.start_tcpcopy();
    let ready = replay.origin.request_count().unwrap();
    let output = running.wait(duration * 10).unwrap();
    assert_eq!(WrkReport::parse(&output.stdout).unwrap().errors, 0);
    // Each connection may have one request under way when the capture begins.
    let least = replay.origin.request_count().unwrap() - ready - u64::from(CONNECTIONS);
    assert!(least > 500, "the load ended too early: {least} requests");
    let caught_up = wait_until("the replay to catch up", TIMEOUT, || {
        replay.target.request_count().unwrap() >= least
    });
    let report = replay.finish();
    assert!(caught_up.is_ok(), "{caught_up:?} of {least}\n{report}");
    let target = replay.target.requests().unwrap();
    let unmarked = target.iter().filter(|request| request.header != VALUE);
    assert_eq!(unmarked.count(), 0, "{report}");
    assert!(target.iter().all(|request| request.status == 200));
    let delivered = report.count("requests", "delivered");
    assert_eq!(delivered, target.len() as u64, "{report}");
    let late = report.dropped("requests", "joined_late");
    assert_eq!(
        report.count("requests", "captured"),
        delivered + late,
        "{report}"
    );
}

#[test]
fn connections_that_were_there_before_are_marked_in_the_clients_names() {
    connections_that_were_there_before_are_marked(Mode::Target, Form::Wasm);
}

#[test]
fn connections_that_were_there_before_are_marked_over_sockets() {
    connections_that_were_there_before_are_marked(Mode::Socket, Form::Native);
}

#[test]
fn a_plugin_that_forgets_pipelined_requests_is_seen() {
    let setup = Setup::new(Mode::Socket);
    let Some(mut marked) = Marked::prepare(setup, "careless", Form::Wasm, "") else {
        return;
    };
    let replay = &mut marked.replay;
    replay.start_tcpcopy();
    let load = |load: Wrk| {
        marked.replay.load(&load.at_rate(400));
        marked.replay.catch_up(1);
        marked.unmarked()
    };
    let server = marked.replay.server();
    let second = Duration::from_secs(1);
    assert_eq!(load(Wrk::keep_alive(server, 4, second)), 0);
    assert!(load(Wrk::keep_alive(server, 4, second).pipelined(8)) > 10);
}

/// What a stream was before its requests were marked, and how many of them were.
fn without_marks(stream: &[u8]) -> (Vec<u8>, usize) {
    let mark = format!("{HEADER}: {VALUE}\r\n").into_bytes();
    let (mut rest, mut plain, mut count) = (stream, Vec::new(), 0);
    while let Some(at) = rest.windows(mark.len()).position(|window| window == mark) {
        plain.extend(&rest[..at]);
        rest = &rest[at + mark.len()..];
        count += 1;
    }
    plain.extend(rest);
    (plain, count)
}

#[test]
fn native_and_wasm_send_the_same_bytes_and_only_the_mark_is_new() {
    let traffic = |lab: &Lab, origin: &Nginx| {
        let _bodies = serve_bodies(lab, "origin");
        let load = Wrk::keep_alive(origin.ipv4(), 8, Duration::from_secs(1)).varied();
        for load in [load.clone().at_rate(400), load.pipelined(8).at_rate(800)] {
            load.run(lab.host("client")).unwrap();
        }
        upload(lab, origin.ipv4());
    };
    let Some((recording, origin)) = Recording::of_traffic(&nginx(), traffic) else {
        return;
    };
    let _bodies = serve_bodies(&recording.lab, "target");
    let requests = origin.request_count().unwrap();
    let file = Recording::TCPCOPY;
    let sent = recording.trace(file).streams(80);
    let changed_bytes = |form, configuration: &str| {
        let arguments = plug(&recording.lab, "http", form, configuration);
        let words: Vec<_> = arguments.iter().map(String::as_str).collect();
        let (replayed, trace) =
            recording.replay_traced(file, &[&words[..], &["-a", "max"]].concat());
        assert_eq!(replayed.paths.len() as u64, requests, "{}", replayed.report);
        (replayed.paths, trace.streams(80))
    };
    let [native, wasm] = Form::BOTH.map(|form| changed_bytes(form, CHANGES));
    assert!(native == wasm, "native and WASM change something else");
    assert!(native.1.len() == sent.len() && native.1 != sent);
    let is_moved = |path: &String| path.starts_with("/r/moved/");
    assert!(native.0.iter().all(is_moved), "{:?}", native.0);

    let [(_, native), (_, wasm)] = Form::BOTH.map(|form| changed_bytes(form, &marking()));
    assert!(native == wasm, "native and WASM differ");
    let (mut plain, marks): (Vec<_>, Vec<_>) =
        native.iter().map(|stream| without_marks(stream)).unzip();
    assert_eq!(marks.iter().sum::<usize>() as u64, requests);
    plain.sort_unstable();
    assert!(plain == sent, "more than the mark has changed");
}

fn a_websocket_passes(mode: Mode, form: Form) {
    const PORT: u16 = 8090;
    let Some(lab) = Lab::for_test() else { return };
    let setup = Setup {
        port: PORT,
        ..Setup::new(mode).with(plug(&lab, "http", form, &marking()))
    };
    let journal = |host: &str| format!("{host}-websockets");
    let script = lab
        .write("server.py", include_str!("websocket/server.py"))
        .unwrap();
    let serve = |host: &str| {
        let server = lab
            .host(host)
            .command(PYTHON)
            .args([&script, &PORT.to_string()]);
        let mut server = server.arg(lab.path(&journal(host))).spawn().unwrap();
        server.wait_listening(PORT).unwrap();
        server
    };
    let _servers = ["origin", "target"].map(serve);
    let _intercepts = programs().start_intercepts(&lab, &setup).unwrap();
    let origin = lab.host("origin");
    let tcpcopy = programs()
        .start_tcpcopy(&lab, origin, &setup, "report.json")
        .unwrap();
    let script = lab
        .write("client.py", include_str!("websocket/client.py"))
        .unwrap();
    let url = format!("ws://{}/chat", setup.server(origin));
    let client = lab.host("client").command(PYTHON).args([&script, &url]);
    client.args(["10", "30"]).run().unwrap();
    let lines = |host: &str| {
        let text = lab.read(&journal(host)).unwrap_or_default();
        times(1, text.lines().map(str::to_owned))
    };
    let expected: Vec<_> = lines("origin")
        .iter()
        .map(|line| line.replacen('-', VALUE, 1))
        .collect();
    assert_eq!(expected.len(), 10);
    let caught_up = wait_until("the conversations", TIMEOUT, || {
        lines("target").len() == expected.len()
    });
    let report = Programs::finish_tcpcopy(&lab, tcpcopy, "report.json").unwrap();
    assert_eq!(lines("target"), expected, "{caught_up:?}\n{report}");
    report.assert_nothing_lost();
    let upgrades = report.count("targets.0.plugins.0.counters", "upgrades");
    assert_eq!(upgrades, expected.len() as u64, "{report}");
}

#[test]
fn a_websocket_passes_in_the_clients_names() {
    a_websocket_passes(Mode::Target, Form::Wasm);
}

#[test]
fn a_websocket_passes_over_sockets() {
    a_websocket_passes(Mode::Socket, Form::Native);
}
