//! Changes of heads.

use plugin_api::{Config, Plugin};
use tcpcopy_plugin_http::Http;

use crate::play::{play, problem, sent};

#[test]
fn headers_are_set_added_removed_and_renamed() {
    let config = Config::new()
        .with("host", "staging:8080")
        .with(
            "set",
            Config::new().with("X-Env", "test").with("accept", "*/*"),
        )
        .with("add", Config::new().with("Via", "1.1 {client}"))
        .with("remove", vec!["Cookie", "X-None"])
        .with("rename", Config::new().with("X-Old", "X-New"))
        .with("authorization", "Bearer abc")
        .with("marker", "X-Replayed: tcpcopy {copy}")
        .with("path_prefix", "/v2");
    let text = r"
        session 1 copy=2
        C: POST /a HTTP/1.1\r\nHost: www\r\nAccept: text/html\r\nCookie: a=b\r\nx-old: 1\r\nVia: 1.0 p\r\ncookie: c\r\nContent-Length: 4\r\n\r\nbodyGET /b HTTP/1.1\r\n\r\n
    ";
    let expected = "POST /v2/a HTTP/1.1\r\nHost: staging:8080\r\nAccept: */*\r\nX-New: 1\r\n\
        Via: 1.0 p\r\nContent-Length: 4\r\nX-Env: test\r\nAuthorization: Bearer abc\r\n\
        X-Replayed: tcpcopy 2\r\nVia: 1.1 192.0.2.1\r\n\r\nbody\
        GET /v2/b HTTP/1.1\r\nX-Env: test\r\naccept: */*\r\nHost: staging:8080\r\n\
        Authorization: Bearer abc\r\nX-Replayed: tcpcopy 2\r\nVia: 1.1 192.0.2.1\r\n\r\n";
    assert_eq!(sent(&play(&config, text)), expected);
}

#[test]
fn values_that_are_no_text_pass() {
    let config = Config::new().with("set", Config::new().with("A", "1"));
    let text = r"C: GET / HTTP/1.1\r\nB: \xff\xfe\x80\r\nA: \xe9\r\n\r\n";
    let played = play(&config, text);
    assert_eq!(
        played.sent(),
        b"GET / HTTP/1.1\r\nB: \xff\xfe\x80\r\nA: 1\r\n\r\n"
    );
}

#[test]
fn what_would_break_a_request_is_no_configuration() {
    let table = |name: &str, value: &str| Config::new().with(name, value);
    let of = |key: &str, value: Config| problem(&Config::new().with(key, value));
    assert_eq!(
        of("set", table("Content-Length", "5")),
        "set.Content-Length: Content-Length says where a body ends and can't be changed"
    );
    assert!(of("set", table("A B", "5")).starts_with("set.A B: `A B` is no name"));
    assert!(of("add", table("A", "5\r\nB: c")).starts_with("add.A: is no value"));
    assert!(of("rename", table("A", "transfer-encoding")).starts_with("rename.A: "));
    assert!(of("set", table("A", "{nobody}")).starts_with("set.A: `{nobody}` is none of"));
    let of = |key: &str, value: &str| problem(&Config::new().with(key, value));
    assert!(of("path_prefix", "v2").starts_with("path_prefix: must begin with /"));
    assert!(of("marker", "X-Replayed").starts_with("marker: must be a name, a colon"));
    assert!(of("hots", "a").starts_with("hots: unknown key, there is: host, strip_prefix"));
    let wait = Config::new().with("expect_wait_ms", 100_000);
    assert_eq!(problem(&wait), "expect_wait_ms: must be 0 to 60000");
    assert!(Http::configure(&Config::new()).is_ok());
}
