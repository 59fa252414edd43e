//! Clients, origins and targets of the HTTP plugin that say anything, in pieces of any size.

use plugin_api::testkit::{self, Played, Step, Transcript};
use plugin_api::{Config, Direction};
use tcpcopy_plugin_http::Http;

use crate::Seed;

/// Plays the lines of the input that are lines of a transcript; its first byte chooses a
/// configuration. No exchange may end twice, and cuts must change nothing.
pub fn run(input: &[u8]) {
    let Some((&which, rest)) = input.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    let lines = text.lines().filter_map(|line| line.parse().ok());
    let steps = lines.flat_map(|line: Transcript| line.steps);
    let steps: Vec<_> = steps.filter(|step| *step != Step::Close).collect();
    let config = config(which);
    let played = play(&config, steps.clone());
    let single = play(&config, steps.iter().flat_map(single_bytes).collect());
    assert_eq!(single.sessions, played.sessions);
    assert_eq!(single.counts, played.counts);
}

fn play(config: &Config, steps: Vec<Step>) -> Played {
    let played = testkit::run::<Http>(config, &Transcript { steps });
    let played = played.expect("the configuration is right, and no session is closed");
    let surplus = played.sessions.iter().map(|session| session.surplus_ends);
    assert_eq!(surplus.sum::<u64>(), 0, "{played}");
    played
}

fn single_bytes(step: &Step) -> Vec<Step> {
    let single = |direction: Direction, byte: u8| Step::Data {
        direction,
        bytes: vec![byte],
    };
    match step {
        Step::Data { direction, bytes } => {
            let bytes = bytes.iter();
            bytes.map(|byte| single(*direction, *byte)).collect()
        }
        other => vec![other.clone()],
    }
}

fn config(which: u8) -> Config {
    let learn = |from: &str, to: Vec<&str>| Config::new().with("from", from).with("to", to);
    match which % 3 {
        0 => Config::new(),
        1 => Config::new()
            .with("host", "target")
            .with("strip_prefix", "/v1")
            .with("path_prefix", "/v2")
            .with("set", Config::new().with("X-Copy", "{copy}"))
            .with("rename", Config::new().with("Cookie", "Biscuit"))
            .with("remove", vec!["Accept"])
            .with("drop", vec![Config::new().with("method", "HEAD")])
            .with(
                "sample",
                Config::new().with("by", "cookie:sid").with("percent", 50),
            ),
        _ => Config::new().with("body_bytes", 1024).with(
            "learn",
            vec![
                learn(
                    "cookie:sid",
                    vec!["cookie:sid", "query:sid", "header:X-Sid"],
                ),
                learn("json:a.t", vec!["json:t", "header:Authorization"]).with("otherwise", "drop"),
                learn(r#"body:name="csrf" value="([^"]+)""#, vec!["form:csrf"]),
            ],
        ),
    }
}

/// Dialogues of each kind.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let dialogue = |which: char, text: &str| format!("{which}\n{text}").into_bytes();
    vec![
        (
            "pipelined",
            dialogue(
                '0',
                "C: GET /a HTTP/1.1\\r\\n\\r\\nPOST /b HTTP/1.1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n2;x\\r\\nab\\r\\n0\\r\\nT: 1\\r\\n\\r\\n\nT: HTTP/1.1 103 x\\r\\n\\r\\nHTTP/1.1 200 x\\r\\nContent-Length: 2\\r\\n\\r\\nokHTTP/1.0 200 x\\r\\n\\r\\nrest\nT end",
            ),
        ),
        (
            "continue",
            dialogue(
                '0',
                "C: PUT / HTTP/1.1\\r\\nExpect: 100-continue\\r\\nContent-Length: 2\\r\\n\\r\\nok\nT: HTTP/1.1 100 x\\r\\n\\r\\nHTTP/1.1 204 x\\r\\nConnection: close\\r\\n\\r\\n\nC: GET / HTTP/1.1\\r\\n\\r\\n\nafter 1000 ms\nC end",
            ),
        ),
        (
            "upgrade",
            dialogue(
                '0',
                "C: GET / HTTP/1.1\\r\\nConnection: upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n\\x81\\x00\nT: HTTP/1.1 101 x\\r\\n\\r\\n\nC: \\x81\\x00",
            ),
        ),
        (
            "smuggling",
            dialogue(
                '0',
                "C: POST / HTTP/1.1\\r\\nContent-Length: 5\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n\nsession 2\nC: GET / HTTP/1.1\\r\\nA: b\\r\\n c\\r\\n\\r\\n",
            ),
        ),
        (
            "late-with-a-hole",
            dialogue(
                '1',
                "session 1 mid-stream\nC: restGET http://x/v1/a HTTP/1.1\\r\\nCookie: sid=1\\r\\n\\r\\nHEAD / HT\nC gap unknown\nC: x\\r\\n\\r\\nGET /v1 HTTP/1.1\\r\\n\\r\\n",
            ),
        ),
        (
            "cookie",
            dialogue(
                '2',
                "C: POST /login HTTP/1.1\\r\\nContent-Length: 0\\r\\n\\r\\n\nO: HTTP/1.1 200 x\\r\\nSet-Cookie: sid=o1; Path=/\\r\\nContent-Length: 0\\r\\n\\r\\n\nsession 2\nC: GET /?sid=o1 HTTP/1.1\\r\\nCookie: a=b; sid=\"o1\"\\r\\n\\r\\nGET / HTTP/1.1\\r\\n\\r\\n\nsession 1\nT: HTTP/1.1 200 x\\r\\nSet-Cookie: sid=t1\\r\\nContent-Length: 0\\r\\n\\r\\n\nsession 2\nT: HTTP/1.1 200 x\\r\\nContent-Length: 0\\r\\n\\r\\n",
            ),
        ),
        (
            "token-in-a-page",
            dialogue(
                '2',
                "C: GET / HTTP/1.1\\r\\n\\r\\n\nO: HTTP/1.1 200 x\\r\\nContent-Type: text/html\\r\\nContent-Length: 24\\r\\n\\r\\nname=\"csrf\" value=\"o&#49;\"\nT: HTTP/1.1 200 x\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n15\\r\\nname=\"csrf\" value=\"t1\"\\r\\n0\\r\\n\\r\\n\nC: POST / HTTP/1.1\\r\\nContent-Type: application/x-www-form-urlencoded\\r\\nContent-Length: 7\\r\\n\\r\\ncsrf=o1",
            ),
        ),
        (
            "json",
            dialogue(
                '2',
                "C: GET / HTTP/1.1\\r\\n\\r\\n\nO: HTTP/1.1 200 x\\r\\nContent-Type: application/json\\r\\nContent-Length: 16\\r\\n\\r\\n{\"a\":{\"t\":\"o1\"}}\nT: HTTP/1.1 200 x\\r\\nContent-Type: application/json\\r\\nContent-Length: 13\\r\\n\\r\\n{\"a\":{\"t\":7}}\nC: POST / HTTP/1.1\\r\\nAuthorization: Bearer o1\\r\\nContent-Type: application/json\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n8\\r\\n{\"t\":\"o1\\r\\n2\\r\\n\"}\\r\\n0\\r\\n\\r\\n\nafter 500 ms",
            ),
        ),
        (
            "multipart",
            dialogue(
                '2',
                "C: POST / HTTP/1.1\\r\\nContent-Type: multipart/form-data; boundary=B\\r\\nContent-Length: 61\\r\\n\\r\\n--B\\r\\nContent-Disposition: form-data; name=\"csrf\"\\r\\n\\r\\no1\\r\\n--B--\nC gap 2\nC end",
            ),
        ),
    ]
}
