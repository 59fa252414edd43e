//! Requests that are kept for a while, because of what is in them or comes before them.

use plugin_api::Config;
use plugin_api::testkit::Played;

use crate::play::{exchanges, play, problem, sent};

/// A cookie and the token of a form; a request whose cookie has no counterpart is left out.
fn config() -> Config {
    let cookie = Config::new()
        .with("from", "cookie:sid")
        .with("otherwise", "drop");
    let csrf = Config::new()
        .with("from", r#"body:name="csrf" value="([^"]*)""#)
        .with("to", vec!["form:csrf"])
        .with("name", "csrf");
    Config::new().with("learn", vec![cookie, csrf])
}

/// Both values are learnt.
const PAGE: &str = r#"
    C: GET /form HTTP/1.1\r\n\r\n
    O: HTTP/1.1 200 OK\r\nSet-Cookie: sid=origin-1\r\nContent-Type: text/html\r\nContent-Length: 29\r\n\r\n<input name="csrf" value="o">
    T: HTTP/1.1 200 OK\r\nSet-Cookie: sid=t\r\nContent-Type: text/html\r\nContent-Length: 34\r\n\r\n<input name="csrf" value="target">
"#;

#[test]
fn values_in_head_and_body_are_replaced_where_a_length_comes_twice() {
    let form = |length: &str, behind: &str| {
        format!(
            r"{PAGE}
            C: POST /form HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n{length}Cookie: sid=origin-1\r\n{behind}\r\ncsrf=o
            "
        )
    };
    let (twice, once) = (
        r"Content-Length: 6\r\nContent-Length: 6\r\n",
        r"Content-Length: 6\r\n",
    );
    for length in [once, twice] {
        for behind in ["", r"X: y\r\n", r"X: a much longer value than that\r\n"] {
            let played = play(&config(), &form(length, behind));
            let behind = behind.replace(r"\r\n", "\r\n");
            let expected =
                format!("Content-Length: 11\r\nCookie: sid=t\r\n{behind}\r\ncsrf=target");
            assert!(sent(&played).ends_with(&expected), "{played}");
        }
    }
}

/// An upgrade or tunnel is left out only after what follows it has come: that goes on as requests.
fn goes_on(played: &Played) {
    let last = "GET /b HTTP/1.1\r\n\r\n";
    assert!(sent(played).ends_with(last), "{played}");
    assert_eq!(
        exchanges(played).last().map(String::as_str),
        Some("GET /b -")
    );
    assert_eq!(played.refusal(), None);
    assert!(played.sessions[0].held.is_empty(), "{played}");
}

#[test]
fn an_upgrade_whose_value_stays_unknown_holds_nothing_back() {
    for start in [
        r"GET /ws HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket",
        "CONNECT example.com:443 HTTP/1.1",
    ] {
        for other in [
            "C: GET /b HTTP/1.1\\r\\n\\r\\n\nafter 100 ms",
            "after 100 ms\nC: GET /b HTTP/1.1\\r\\n\\r\\n",
        ] {
            let played = play(
                &config(),
                &format!("C: {start}\\r\\nCookie: sid=old\\r\\n\\r\\n\n{other}"),
            );
            assert_eq!(played.count("sid_dropped"), 1);
            goes_on(&played);
        }
    }
}

#[test]
fn an_upgrade_that_is_dropped_behind_another_request_holds_nothing_back() {
    let config = config().with("drop", vec![Config::new().with("path", "^/ws$")]);
    let text = r"
        C: GET /a HTTP/1.1\r\nCookie: sid=old\r\n\r\n
        C: GET /ws HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n
        C: GET /b HTTP/1.1\r\n\r\n
        after 100 ms
    ";
    goes_on(&play(&config, text));
    // Of two, one behind the other, as well.
    let twice = text.replace(
        "C: GET /b",
        &format!(
            "{}\nC: GET /b",
            text.lines().nth(2).expect("an upgrade").trim()
        ),
    );
    goes_on(&play(&config, &twice));
}

/// What is kept of a body leaves in one call, and tcpcopy takes 4 MiB a call.
#[test]
fn no_more_of_a_body_is_kept_than_one_call_may_send() {
    use plugin_api::Plugin;
    let of = |bytes: i64| config().with("body_bytes", bytes);
    assert!(tcpcopy_plugin_http::Http::configure(&of(2 << 20)).is_ok());
    for bytes in [1023, (2 << 20) + 1, 16 << 20] {
        assert_eq!(problem(&of(bytes)), "body_bytes: must be 1024 to 2097152");
    }
}

#[test]
fn an_upgrade_that_is_refused_before_its_body_ends_holds_nothing_back() {
    let length = r"Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 4";
    let no = r"HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n";
    let start = &*format!(r"C: POST /a HTTP/1.1\r\n{length}\r\n\r\nbo");
    let (target, origin) = (&*format!("T: {no}"), &*format!("O: {no}"));
    let next = r"C: GET /b HTTP/1.1\r\n\r\n";
    for steps in [
        [start, target, "C: dy", origin, next],
        [start, target, origin, "C: dy", next],
        [start, origin, target, "C: dy", next],
        [start, target, "C: dy", next, origin],
    ] {
        let played = play(&config(), &steps.join("\n"));
        goes_on(&played);
        assert!(!played.sessions[0].passed_through);
    }
    // What the origin agreed to is no request.
    let other = [start, target, r"C: dy\x81\x00"].join("\n");
    for config in [Config::new(), config()] {
        assert_eq!(play(&config, &other).refusal(), Some("upgrade_refused"));
    }
}

#[test]
fn an_upgrade_that_only_the_target_accepts_is_no_good_answer() {
    let text = r"
        C: GET /a HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n
        O: HTTP/1.1 200 OK\r\nSet-Cookie: sid=o\r\nContent-Length: 0\r\n\r\n
        T: HTTP/1.1 101 x\r\n\r\n
        C: GET /b HTTP/1.1\r\nCookie: sid=o\r\n\r\n
    ";
    let played = play(&config(), text);
    assert_eq!(played.refusal(), Some("upgrade_only_at_target"));
    assert_eq!(exchanges(&played), ["GET /a 101 failed"]);
    assert_eq!(played.count("status_class_differs"), 1);
    assert!(!sent(&played).contains("sid=o"));
}
