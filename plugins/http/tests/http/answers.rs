//! The target's answers: exchanges, `100 Continue`, other protocols, the end of connections.

use plugin_api::Config;
use plugin_api::testkit;
use tcpcopy_plugin_http::Http;

use crate::play::{exchanges, plain, play, sent};

#[test]
fn each_answer_ends_its_request() {
    let text = r"
        C: GET /users/7 HTTP/1.1\r\n\r\nHEAD /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\nGET /d HTTP/1.1\r\n\r\n
        T: HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok
        T: HTTP/1.1 404 Not Found\r\nContent-Length: 999\r\n\r\n
        T: HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: t\r\n\r\n
        T: HTTP/1.1 304 x\r\nContent-Length: 10\r\n\r\n
    ";
    let played = plain(text);
    let expected = [
        "GET /users/:id 200 ok",
        "HEAD /b 404 ok",
        "GET /c 503 failed",
        "GET /d 304 ok",
    ];
    assert_eq!(exchanges(&played), expected);
    assert_eq!(played.sessions[0].surplus_ends, 0);
}

#[test]
fn an_answer_may_end_with_the_connection() {
    let text = r"
        C: GET /a HTTP/1.0\r\n\r\n
        T: HTTP/1.0 200 OK\r\n\r\nall the rest
        T end
    ";
    assert_eq!(exchanges(&plain(text)), ["GET /a 200 ok"]);
    let text = r"
        C: GET /a HTTP/1.1\r\n\r\n
        T: HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nbegin
        T end
    ";
    assert_eq!(exchanges(&plain(text)), ["GET /a 200 failed cut"]);
}

#[test]
fn a_target_that_closes_gets_nothing_more() {
    // Pipelined: the second must not leave before the target has closed.
    let text = r"
        C: GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n
        T: HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n
    ";
    assert_eq!(exchanges(&plain(text)), ["GET /a -", "GET /b -"]);
    assert_eq!(
        exchanges(&plain(&format!("{text}\nT end"))),
        ["GET /a 200 ok", "GET /b -"]
    );
    assert_eq!(
        exchanges(&plain(&format!("{text}\nafter 1001 ms"))),
        ["GET /a 200 ok", "GET /b -"]
    );

    let text = r"
        C: GET /a HTTP/1.1\r\n\r\n
        T: HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n
        C: GET /b HTTP/1.1\r\n\r\n
    ";
    let played = plain(text);
    assert_eq!(sent(&played), "GET /a HTTP/1.1\r\n\r\n");
    assert_eq!(played.sessions[0].held, b"GET /b HTTP/1.1\r\n\r\n");
    assert_eq!(exchanges(&played)[0], "GET /a 200 ok");
    assert!(sent(&plain(&format!("{text}\nafter 1001 ms"))).contains("/b"));

    // One that was asked to close is not waited for.
    let text = r"
        C: GET /a HTTP/1.1\r\nConnection: close\r\n\r\n
        T: HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n
    ";
    assert!(!plain(text).to_string().contains("hold"));
}

#[test]
fn a_body_waits_for_100_continue() {
    let text = r"
        C: POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n
        C: bodyGET /b HTTP/1.1\r\n\r\n
    ";
    let played = plain(text);
    assert!(sent(&played).ends_with("Content-Length: 4\r\n\r\n"));
    assert!(played.sessions[0].held.starts_with(b"bodyGET /b"));
    let body = "bodyGET /b HTTP/1.1\r\n\r\n";
    for then in [
        r"T: HTTP/1.1 100 Continue\r\n\r\n",
        r"T: HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n",
        "after 1000 ms",
    ] {
        let played = plain(&format!("{text}\n{then}"));
        assert!(sent(&played).ends_with(body), "{then}");
    }
    let played = plain(&format!("{text}\nafter 999 ms"));
    assert!(!sent(&played).ends_with(body));
    assert_eq!(
        plain(&format!("{text}\nafter 1 s").replace("1 s", "1000 ms"))
            .count("continue_not_awaited"),
        1
    );
    // HTTP/1.0 has no such thing, and a request without a body nothing to wait with.
    for head in [r"POST / HTTP/1.0\r\nContent-Length: 4", r"GET / HTTP/1.1"] {
        let played = plain(&format!(r"C: {head}\r\nExpect: 100-continue\r\n\r\nbody"));
        assert!(!played.to_string().contains("hold"));
    }
}

#[test]
fn the_wait_for_100_begins_when_the_target_has_nothing_else_to_say() {
    let text = r"
        C: GET /a HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody
        after 5000 ms
    ";
    assert!(!sent(&plain(text)).ends_with("body"));
    let text = format!(
        r"{text}
        T: HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n
        after 999 ms"
    );
    assert!(!sent(&plain(&text)).ends_with("body"));
    assert!(sent(&plain(&format!("{text}\nafter 1 ms"))).ends_with("body"));
}

#[test]
fn a_websocket_passes_once_the_target_has_agreed() {
    let text = r"
        C: GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n
        C: \x81\x85\x00\x00\x00\x00hello
        C end
    ";
    let played = plain(text);
    assert!(sent(&played).ends_with("websocket\r\n\r\n"));
    let text = format!(
        r"{}
        T: HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n
        C: \x81\x80\x00\x00\x00\x00
    ",
        text.replace("C end", "")
    );
    let played = plain(&text);
    assert!(
        played
            .sent()
            .ends_with(b"\x81\x85\x00\x00\x00\x00hello\x81\x80\x00\x00\x00\x00")
    );
    assert!(played.sessions[0].passed_through);
    assert_eq!(played.count("upgrades"), 1);
    assert_eq!(exchanges(&played), ["GET /ws 101 ok"]);
}

/// The origin has not agreed: its client goes on with requests, which must not leave unchanged.
#[test]
fn requests_behind_an_upgrade_that_only_the_target_accepts_are_refused() {
    let config = Config::new().with("remove", vec!["Cookie"]);
    let next = r"C: GET /b HTTP/1.1\r\nCookie: sid=secret\r\n\r\n";
    let start = r"C: GET /a HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";
    let answer = r"T: HTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\n";
    for blank in ["", r"C: \r\n"] {
        for steps in [[start, blank, next, answer], [start, answer, blank, next]] {
            let played = play(&config, &steps.join("\n"));
            assert_eq!(played.refusal(), Some("upgrade_only_at_target"));
            assert!(!played.sessions[0].passed_through);
            assert!(!sent(&played).contains("secret"), "{played}");
            assert_eq!(played.exchanges().len(), 1);
        }
    }
    // Within a tunnel they are what it is for.
    let tunnel = "C: CONNECT x:80 HTTP/1.1\\r\\n\\r\\n\nT: HTTP/1.1 200 OK\\r\\n\\r\\n";
    let played = play(&config, &format!("{tunnel}\n{next}"));
    assert!(played.sessions[0].passed_through, "{played}");
    assert!(sent(&played).contains("secret"), "{played}");
}

#[test]
fn a_server_may_speak_first_behind_an_upgrade() {
    let text = r"
        C: GET /ws HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n
        T: HTTP/1.1 101 x\r\n\r\n\x81\x05hello
        T: \x81\x05again
        C: \x81\x80abcd
    ";
    let played = plain(text);
    assert_eq!(played.refusal(), None, "{played}");
    assert!(played.sessions[0].passed_through, "{played}");
    assert!(sent(&played).ends_with("abcd"), "{played}");
}

#[test]
fn what_is_no_request_passes_behind_an_upgrade() {
    let start = r"C: GET /a HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let answer = r"T: HTTP/1.1 101 x\r\n\r\n";
    let long = format!("GET /{} HTTP/1.1", "a".repeat(16 * 1024));
    for (first, bytes) in [
        (
            r"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ),
        (r"\x01GET / HTTP/1.1\r\n", "\x01GET / HTTP/1.1\r\n"),
        (r"GET / HTTP/1.\r\n", "GET / HTTP/1.\r\n"),
        (r"hello\n", "hello\n"),
        (r"GET  / HTTP/1.1\r\n", "GET  / HTTP/1.1\r\n"),
    ] {
        let first = format!("C: {first}");
        for steps in [[start, &first, answer], [start, answer, &first]] {
            let played = plain(&steps.join("\n"));
            assert!(played.sessions[0].passed_through, "{played}");
            assert!(sent(&played).ends_with(bytes), "{played}");
            assert!(played.sessions[0].held.is_empty(), "{played}");
        }
    }
    // More than a request line has is not waited for.
    let transcript = format!("{start}\n{answer}\nC: {long}");
    let transcript = transcript.parse().expect("a transcript");
    let played = testkit::run::<Http>(&Config::new(), &transcript).expect("played");
    assert!(played.sessions[0].passed_through && sent(&played).ends_with(&long));
}

#[test]
fn the_beginning_of_a_request_waits_behind_an_upgrade_for_the_rest() {
    let start = r"C: GET /a HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let answer = r"T: HTTP/1.1 101 x\r\n\r\n";
    for part in ["", r"\r\n", "G", "GET", "GET /b", "GET /b HTTP/1."] {
        for steps in [
            format!("{start}\n{answer}\nC: {part}\n"),
            format!("{start}\nC: {part}\n{answer}\n"),
        ] {
            let steps = steps.replace("C: \n", "");
            let played = plain(&steps);
            assert!(sent(&played).ends_with("Upgrade: x\r\n\r\n"), "{played}");
            assert!(!played.sessions[0].passed_through && played.refusal().is_none());
            // The client has nothing more to say: that was no request.
            let part = part.replace(r"\r\n", "\r\n");
            let played = plain(&format!("{steps}C end"));
            assert!(sent(&played).ends_with(&part), "{played}");
            assert_eq!(played.refusal(), None);
        }
    }
}

#[test]
fn a_refused_upgrade_goes_on_with_requests_or_ends() {
    let text = r"
        C: GET /a HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n
        C: GET /b HTTP/1.1\r\n\r\n
        T: HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx
    ";
    let played = plain(text);
    assert_eq!(exchanges(&played), ["GET /a 200 ok", "GET /b -"]);
    assert!(!played.sessions[0].passed_through && sent(&played).ends_with("/b HTTP/1.1\r\n\r\n"));
    let text = r"
        C: GET /a HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x80\x00\x00\x00\x00
        T: HTTP/1.1 400 x\r\nContent-Length: 1\r\n\r\nx
    ";
    assert_eq!(plain(text).refusal(), Some("upgrade_refused"));
}

#[test]
fn a_tunnel_passes_once_the_target_has_agreed() {
    let text = r"
        C: CONNECT example.com:443 HTTP/1.1\r\n\r\n
        T: HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n
        C: \x16\x03\x01
    ";
    let played = plain(text);
    assert!(played.sent().ends_with(b"\r\n\r\n\x16\x03\x01"));
    assert_eq!(played.count("tunnels"), 1);
}

#[test]
fn answers_that_nobody_asked_for_are_counted_and_bad_ones_refused() {
    let text = r"
        T: HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n
        T end
    ";
    let played = plain(text);
    assert_eq!(
        (played.count("unasked_answers"), played.refusal()),
        (1, None)
    );
    let text = r"
        C: GET / HTTP/1.1\r\n\r\n
        T: SSH-2.0-OpenSSH_9.2\r\n
    ";
    assert_eq!(plain(text).refusal(), Some("target_bad_head"));
}
