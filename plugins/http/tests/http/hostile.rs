//! Whatever comes, nothing panics, and how it is cut does not matter.

use plugin_api::testkit::{self, Opening, Played, Step, Transcript};
use plugin_api::{Config, Direction};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;
use tcpcopy_plugin_http::Http;

/// Parts of messages: put together, most are nearly right.
const PARTS: [&str; 44] = [
    "GET / HTTP/1.1\r\n",
    "POST /form?a=1&sid=o1 HTTP/1.1\r\n",
    "HEAD /a/17 HTTP/1.0\r\n",
    "CONNECT x:1 HTTP/1.1\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 101 x\r\n\r\n",
    "HTTP/1.1 204 x\r\n",
    "HTTP/1.0 500 x\r\n",
    "Content-Length: 4\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 18446744073709551615\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Content-Type: application/x-www-form-urlencoded\r\n",
    "Content-Type: application/json\r\n",
    "Content-Type: multipart/form-data; boundary=B\r\n",
    "Content-Encoding: gzip\r\n",
    "Content-Encoding: deflate\r\n",
    "Connection: close\r\n",
    "Connection: upgrade\r\nUpgrade: websocket\r\n",
    "Expect: 100-continue\r\n",
    "Cookie: a=b; sid=o1; sid=\"o1\"\r\n",
    "Set-Cookie: sid=o1; Path=/\r\n",
    "Set-Cookie: sid=t1\r\n",
    "Authorization: Bearer o1\r\n",
    "Host: x\r\n folded\r\n",
    "X: \u{e9}\r\n",
    "\r\n",
    "\r\n",
    "\r\n",
    "\n",
    "body",
    "csrf=o1&b=2",
    "{\"t\":\"o1\",\"u\":[{}]}",
    "--B\r\nContent-Disposition: form-data; name=\"csrf\"\r\n\r\no1\r\n--B--\r\n",
    "name=\"csrf\" value=\"o1\"",
    "4\r\nbody\r\n",
    "0\r\n\r\n",
    "0\r\nT: 1\r\n\r\n",
    "ffffffffffffffff\r\n",
    "\x1f\u{8b}\x08",
    "\u{0}",
    " ",
];

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        12 => (0..PARTS.len()).prop_map(|at| PARTS[at].as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..8),
    ];
    vec(part, 1..14).prop_map(|parts| parts.concat())
}

/// A whole message more often than by chance.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let of = |from: std::ops::Range<usize>| from.prop_map(|at| PARTS[at].as_bytes().to_vec());
    let fields = vec(of(9..26), 0..4).prop_map(|parts| parts.concat());
    let body = vec(of(32..40), 0..4).prop_map(|parts| parts.concat());
    (of(0..9), fields, body)
        .prop_map(|(start, fields, body)| [start, fields, b"\r\n".to_vec(), body].concat())
}

fn step() -> impl Strategy<Value = Step> {
    let direction = || {
        prop_oneof![
            3 => Just(Direction::Client),
            1 => Just(Direction::Origin),
            2 => Just(Direction::Target)
        ]
    };
    let data = (direction(), prop_oneof![bytes(), message()]);
    let server = prop_oneof![Just(Direction::Client), Just(Direction::Origin)];
    prop_oneof![
        20 => data.prop_map(|(direction, bytes)| Step::Data { direction, bytes }),
        2 => (server, prop_oneof![Just(None), (0..30_u64).prop_map(Some)])
            .prop_map(|(direction, missing)| Step::Gap { direction, missing }),
        1 => direction().prop_map(|direction| Step::End { direction }),
        3 => (0..1500_u64).prop_map(|time| Step::After(Duration::from_millis(time))),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let session = (0..3_u64, any::<bool>(), vec(step(), 1..10));
    vec(session, 1..5).prop_map(|sessions| {
        let steps = |(id, start_seen, mut steps): (u64, bool, Vec<Step>)| {
            let opening = Opening {
                start_seen,
                ..Opening::new(id)
            };
            steps.insert(0, Step::Session(opening));
            steps
        };
        sessions.into_iter().flat_map(steps).collect()
    })
}

fn configs() -> [Config; 3] {
    let learn = |from: &str, to: Vec<&str>| Config::new().with("from", from).with("to", to);
    let rules = vec![
        learn(
            "cookie:sid",
            vec!["cookie:sid", "query:sid", "header:Authorization"],
        ),
        learn("json:t", vec!["json:t", "form:csrf"]).with("otherwise", "drop"),
        learn(
            r#"body:name="csrf" value="([^"]*)""#,
            vec!["form:csrf", "json:u.0"],
        ),
    ];
    let changes = Config::new()
        .with("host", "x")
        .with("path_prefix", "/p")
        .with("set", Config::new().with("X", "1"))
        .with("rename", Config::new().with("Cookie", "Biscuit"))
        .with("drop", vec![Config::new().with("method", "HEAD")])
        .with(
            "rewrite",
            vec![
                Config::new()
                    .with("in", "path")
                    .with("pattern", "/a(/\\d+)")
                    .with("with", "$1"),
            ],
        );
    let learning = Config::new().with("learn", rules).with("body_bytes", 1024);
    [Config::new(), changes, learning]
}

/// What must not depend on how the streams are cut.
fn outcome(played: &Played) -> (Vec<testkit::PlayedSession>, Vec<(String, u64)>) {
    let counts = played.counts.iter().map(|(name, n)| (name.clone(), *n));
    (played.sessions.clone(), counts.collect())
}

fn run(config: &Config, steps: &[Step]) -> Played {
    let transcript = Transcript {
        steps: steps.to_vec(),
    };
    let played = testkit::run::<Http>(config, &transcript).expect("played");
    let surplus = played.sessions.iter().map(|it| it.surplus_ends);
    assert_eq!(surplus.sum::<u64>(), 0, "{played}");
    played
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn nothing_panics_and_cuts_do_not_matter(steps in steps(), size in 1..20_usize) {
        let cut = |step: &Step| match step {
            Step::Data { direction, bytes } => {
                let pieces = bytes.chunks(size);
                let data = |piece: &[u8]| Step::Data { direction: *direction, bytes: piece.to_vec() };
                pieces.map(data).collect::<Vec<_>>()
            }
            step => vec![step.clone()],
        };
        let pieces: Vec<_> = steps.iter().flat_map(cut).collect();
        for config in configs() {
            let (whole, cut) = (run(&config, &steps), run(&config, &pieces));
            prop_assert_eq!(outcome(&whole), outcome(&cut), "{}\n{}", whole, cut);
        }
    }

    #[test]
    fn good_requests_pass_unchanged(
        bodies in vec((0..3_u8, vec(any::<u8>(), 0..40)), 1..6),
        size in 1..50_usize,
    ) {
        let request = |(kind, body): &(u8, Vec<u8>)| match kind {
            0 => b"GET /a HTTP/1.1\r\nA: b\r\n\r\n".to_vec(),
            1 => [
                format!("PUT /a HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
                body,
            ]
            .concat(),
            _ => {
                let chunks = body.chunks(7);
                let chunk = |it: &[u8]| [format!("{:x}\r\n", it.len()).as_bytes(), it, b"\r\n"].concat();
                let chunks: Vec<u8> = chunks.flat_map(chunk).collect();
                let head = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
                [head, &chunks, b"0\r\n\r\n"].concat()
            }
        };
        let stream: Vec<u8> = bodies.iter().flat_map(request).collect();
        let data = |piece: &[u8]| Step::Data { direction: Direction::Client, bytes: piece.to_vec() };
        let steps: Vec<_> = stream.chunks(size).map(data).collect();
        let played = run(&Config::new(), &steps);
        prop_assert_eq!(played.sent(), stream);
        prop_assert_eq!(played.exchanges().len(), bodies.len());
        prop_assert_eq!(played.refusal(), None);
    }
}
