//! The HTTP plugin is the same, native and as WASM: patterns, compressed answers, waits and all.

mod common;

use std::time::Instant;

use plugin_api::testkit::{self, Played, Transcript};
use plugin_api::{Config, Needs};
use tcpcopy_host::{Library, Limits, Rehearsal};

const TRANSCRIPT: &str = r#"
    session 1
    C: GET /v1/form HTTP/1.1\r\nHost: www\r\nAccept: */*\r\n\r\nHEAD /x HTTP/1.1\r\n\r\n
    O: HTTP/1.1 200 x\r\nSet-Cookie: sid=o1; Path=/\r\nContent-Type: text/html\r\nContent-Length: 22\r\n\r\nname="csrf" value="o2"
    session 2 copy=1
    C: POST /v1/a/17?t=o1 HTTP/1.1\r\nCookie: a=b; sid=o1\r\nExpect: 100-continue\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 11\r\n\r\ncsrf=o2&b=1
    after 20 ms
    session 3
    C: POST /v1/a/17?t=o1 HTTP/1.1\r\nCookie: a=b; sid=o1\r\nExpect: 100-continue\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 11\r\n\r\ncsrf=o2&b=1
    session 1
    T: HTTP/1.1 200 x\r\nSet-Cookie: sid=target; Path=/\r\nContent-Encoding: gzip\r\nContent-Length: 45\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01\x16\x00\xe9\xffname="csrf" value="t2"\x00\x00\x00\x00\x00\x00\x00\x00
    session 3
    T: HTTP/1.1 100 x\r\n\r\nHTTP/1.1 302 x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n
    T end
    session 4 mid-stream
    C: restGET /v1 HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n
    after 2000 ms
"#;

fn config() -> Config {
    let learn = |from: &str, to: Vec<&str>| Config::new().with("from", from).with("to", to);
    let rewrite = Config::new()
        .with("in", "path")
        .with("pattern", "^/v1(/|$)")
        .with("with", "/v2$1");
    Config::new()
        .with("host", "target")
        .with("marker", "X-Replayed: {client} {copy}")
        .with("rewrite", vec![rewrite])
        .with("drop", vec![Config::new().with("method", "HEAD")])
        .with(
            "learn",
            vec![
                learn("cookie:sid", vec!["cookie:sid", "query:t"]),
                learn(r#"body:name="csrf" value="([^"]+)""#, vec!["form:csrf"]),
            ],
        )
}

fn play(library: &Library) -> Played {
    let transcript: Transcript = TRANSCRIPT.parse().expect("a transcript");
    let rehearsal = Rehearsal::new(library, &config(), &Limits::default());
    let mut rehearsal = rehearsal.unwrap_or_else(|error| panic!("{error}"));
    let needs = library.manifest().needs_for(&config());
    assert_eq!(needs, Needs::BOTH);
    let played = testkit::play(&mut rehearsal, needs, &transcript);
    played.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn both_forms_do_the_same() {
    let [native, wasm] = common::both("http");
    assert_eq!(native.manifest(), wasm.manifest());
    let [native, wasm] = [native, wasm].map(|library| play(&library));
    assert_eq!(native.to_string(), wasm.to_string());
    let sent = |id| String::from_utf8_lossy(&native.session(id).expect("it").sent).into_owned();
    assert_eq!(
        sent(3),
        "POST /v2/a/17?t=target HTTP/1.1\r\nCookie: a=b; sid=target\r\nExpect: 100-continue\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 11\r\n\
         Host: target\r\nX-Replayed: 192.0.2.1 0\r\n\r\ncsrf=t2&b=1"
    );
    // The other copy has no counterparts, and goes as it came.
    assert!(sent(2).ends_with("X-Replayed: 192.0.2.1 1\r\n\r\ncsrf=o2&b=1"));
    assert_eq!(native.exchanges().len(), 2);
    let refusal = native.session(4).and_then(|it| it.refusal.clone());
    assert_eq!(refusal.as_deref(), Some("both_lengths"));
}

#[test]
fn the_module_is_ready_within_a_second() {
    let begin = Instant::now();
    common::load("http.wasm");
    let took = begin.elapsed();
    // A debug build of the compiler takes several times as long as a release build.
    assert!(took.as_secs() < 10, "it took {took:?}");
}
