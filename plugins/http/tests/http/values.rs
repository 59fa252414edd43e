//! Values that both servers issue, carried from connection to connection.

use plugin_api::Config;

use crate::play::{exchanges, play, problem, sent};

fn learn(rules: Vec<Config>) -> Config {
    Config::new().with("learn", rules)
}

fn cookie() -> Config {
    learn(vec![Config::new().with("from", "cookie:sid")])
}

/// A login on connection 1 whose answers set the cookie `sid`.
const LOGIN: &str = r#"
    session 1
    C: POST /login HTTP/1.1\r\nContent-Length: 0\r\n\r\n
    O: HTTP/1.1 200 OK\r\nSet-Cookie: lang=en\r\nset-cookie: sid="o=1"; Path=/; HttpOnly\r\nContent-Length: 0\r\n\r\n
    T: HTTP/1.1 200 OK\r\nSet-Cookie: sid=t1; Path=/\r\nContent-Length: 0\r\n\r\n
"#;

fn of_session(played: &plugin_api::testkit::Played, id: u64) -> String {
    let session = played.session(id).expect("a session");
    String::from_utf8_lossy(&session.sent).into_owned()
}

#[test]
fn a_cookie_is_replaced_on_any_connection() {
    let text = format!(
        "{LOGIN}session 2\nC: GET / HTTP/1.1\\r\\nCookie: a=1; sid=\"o=1\"; sid=o=1;b=2\\r\\n\\r\\n\n"
    );
    let played = play(&cookie(), &text);
    assert!(of_session(&played, 2).contains("\r\nCookie: a=1; sid=t1; sid=t1;b=2\r\n\r\n"));
    assert_eq!(
        (played.count("sid_learnt"), played.count("sid_replaced")),
        (1, 2)
    );
    // Each copy has a counterpart of its own.
    let text = text
        .replace("session 2", "session 2 copy=1")
        .replace("session 1", "session 1 copy=1");
    assert!(of_session(&play(&cookie(), &text), 2).contains("sid=t1"));
    let text = text.replace("session 2 copy=1", "session 2");
    assert!(!of_session(&play(&cookie(), &text), 2).contains("sid=t1"));
}

#[test]
fn without_rules_the_origin_is_not_needed() {
    use plugin_api::{Needs, Plugin};
    let manifest = tcpcopy_plugin_http::Http::manifest();
    assert_eq!(
        manifest.needs_for(&Config::new().with("host", "x")),
        Needs::TARGET
    );
    assert_eq!(manifest.needs_for(&cookie()), Needs::BOTH);
}

#[test]
fn a_request_waits_for_the_targets_answer() {
    let text = r"
        session 1
        C: GET /login HTTP/1.1\r\n\r\n
        O: HTTP/1.1 200 OK\r\nSet-Cookie: sid=o1\r\nContent-Length: 0\r\n\r\n
        session 2
        C: POST /a HTTP/1.1\r\nCookie: sid=o1\r\nContent-Length: 4\r\n\r\nbodyGET /b HTTP/1.1\r\n\r\n
        C end
    ";
    let played = play(&cookie(), text);
    assert_eq!(of_session(&played, 2), "");
    let told = "\nsession 1\nT: HTTP/1.1 200 OK\\r\\nSet-Cookie: sid=t1\\r\\nContent-Length: 0\\r\\n\\r\\n\n";
    let played = play(&cookie(), &format!("{text}after 499 ms{told}"));
    let first = "POST /a HTTP/1.1\r\nCookie: sid=t1\r\nContent-Length: 4\r\n\r\nbody";
    // The second request may depend on the first, so that has to be answered.
    assert_eq!(of_session(&played, 2), first);
    let answer = "session 2\nT: HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n\n";
    let played = play(&cookie(), &format!("{text}after 499 ms{told}{answer}"));
    assert_eq!(
        of_session(&played, 2),
        format!("{first}GET /b HTTP/1.1\r\n\r\n")
    );

    // In vain, it goes as it is.
    let played = play(&cookie(), &format!("{text}after 500 ms{told}"));
    assert_eq!(of_session(&played, 2), first.replace("t1", "o1"));
    assert_eq!(played.count("sid_unknown"), 1);
    // Or not at all.
    let drop = learn(vec![
        Config::new()
            .with("from", "cookie:sid")
            .with("otherwise", "drop")
            .with("wait_ms", 50),
    ]);
    let played = play(&drop, &format!("{text}after 50 ms"));
    assert_eq!(of_session(&played, 2), "GET /b HTTP/1.1\r\n\r\n");
    assert_eq!(
        (played.count("sid_unknown"), played.count("sid_dropped")),
        (1, 1)
    );
}

#[test]
fn a_value_that_the_target_does_not_issue_is_not_waited_for() {
    let text = r"
        C: GET /login HTTP/1.1\r\n\r\n
        O: HTTP/1.1 200 OK\r\nSet-Cookie: sid=o1\r\nContent-Length: 0\r\n\r\n
        T: HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n
        session 2
        C: GET / HTTP/1.1\r\nCookie: sid=o1\r\n\r\n
    ";
    let played = play(&cookie(), text);
    assert_eq!(
        of_session(&played, 2),
        "GET / HTTP/1.1\r\nCookie: sid=o1\r\n\r\n"
    );
    assert_eq!(
        (
            played.count("sid_only_at_origin"),
            played.count("sid_unknown")
        ),
        (1, 1)
    );
    // Should it do so later, that counts.
    let text = format!(
        "{text}{}session 2\nC: GET / HTTP/1.1\\r\\nCookie: sid=o1\\r\\n\\r\\n\n",
        LOGIN.replace("o=1", "o1")
    );
    assert!(of_session(&play(&cookie(), &text), 2).ends_with("Cookie: sid=t1\r\n\r\n"));
}

#[test]
fn a_value_that_was_never_seen_is_waited_for_once() {
    let request = r"C: GET / HTTP/1.1\r\nCookie: sid=old\r\n\r\n";
    let played = play(&cookie(), &format!("{request}\nafter 99 ms"));
    assert_eq!(sent(&played), "");
    let text = format!("{request}\nafter 100 ms\nsession 2\n{request}");
    let played = play(&cookie(), &text);
    assert_eq!(sent(&played), "GET / HTTP/1.1\r\nCookie: sid=old\r\n\r\n");
    assert_eq!(of_session(&played, 2), sent(&played));
    assert_eq!(played.count("sid_unknown"), 2);
}

#[test]
fn values_expire() {
    let config = learn(vec![
        Config::new().with("from", "cookie:sid").with("expiry_s", 1),
    ]);
    let request = r"C: GET / HTTP/1.1\r\nCookie: sid=o=1\r\n\r\n";
    let text = format!(
        "{LOGIN}after 999 ms\nsession 2\n{request}\nafter 1 ms\nsession 3\n{request}\nafter 100 ms"
    );
    let played = play(&config, &text);
    assert!(of_session(&played, 2).contains("sid=t1"));
    assert!(of_session(&played, 3).contains("sid=o=1"));
}

#[test]
fn a_bearer_token_is_learnt_from_json() {
    let config = learn(vec![
        Config::new()
            .with("from", "json:data.token")
            .with(
                "to",
                vec![
                    "header:Authorization",
                    "json:auth.0",
                    "query:t",
                    "header:X-T",
                ],
            )
            .with("name", "token"),
    ]);
    let text = r#"
        C: POST /token HTTP/1.1\r\n\r\n
        O: HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1f\r\n{"x":[1,2],"data":{"token":"o/1\r\n3\r\n"}}\r\n0\r\n\r\n
        T: HTTP/1.1 200 OK\r\nContent-Type: text/json\r\nContent-Length: 28\r\n\r\n{"data": {"token" : "t\\/2"}}
        session 2
        C: POST /a?t=o%2f1&u=o/1 HTTP/1.1\r\nAuthorization: Bearer o/1\r\nX-T: o/1\r\nContent-Type: application/json\r\nContent-Length: 26\r\n\r\n{"auth": ["o\\/1", "o/1"] }
    "#;
    let played = play(&config, text);
    assert_eq!(
        of_session(&played, 2),
        "POST /a?t=t%2F2&u=o/1 HTTP/1.1\r\nAuthorization: Bearer t/2\r\nX-T: t/2\r\n\
         Content-Type: application/json\r\nContent-Length: 25\r\n\r\n{\"auth\": [\"t/2\", \"o/1\"] }"
    );
    assert_eq!(played.count("token_replaced"), 4);
}

/// A page with a form: the token is in its HTML.
fn csrf() -> Config {
    learn(vec![
        Config::new()
            .with("from", r#"body:name="csrf" value="([^"]*)""#)
            .with("to", vec!["form:csrf", "header:X-Csrf-Token"])
            .with("path", "^/form$")
            .with("name", "csrf"),
    ])
}

const PAGE: &str = r#"
    C: GET /form HTTP/1.1\r\n\r\n
    O: HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 41\r\n\r\n<input name="csrf" value="o&#43;1">\xff\xfe....
    T: HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 40\r\n\r\n<p>\xe9<input name="csrf" value="target-2">
"#;

#[test]
fn a_csrf_token_is_carried_from_page_to_form() {
    let form = r"C: POST /form HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 16\r\n\r\na=1&csrf=o%2B1&b";
    let played = play(&csrf(), &format!("{PAGE}\n{form}"));
    assert!(sent(&played).ends_with("\r\nContent-Length: 19\r\n\r\na=1&csrf=target-2&b"));
    let chunked = r"C: POST /form HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded; charset=UTF-8\r\nTransfer-Encoding: chunked\r\n\r\n8\r\na=1&csrf\r\n8;x\r\n=o%2B1&b\r\n0\r\nT: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    let played = play(&csrf(), &format!("{PAGE}\n{chunked}"));
    let expected = "\r\nTransfer-Encoding: chunked\r\n\r\n13\r\na=1&csrf=target-2&b\r\n0\r\nT: 1\r\n\r\n\
        GET / HTTP/1.1\r\n\r\n";
    assert!(sent(&played).ends_with(expected), "{}", sent(&played));
    let parts = r#"C: POST /form HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=B\r\nContent-Length: 84\r\nX-Csrf-Token: o+1\r\n\r\n--B\r\nContent-Disposition: form-data; name="csrf"\r\n\r\no+1\r\n--B\r\n\r\n\r\nfile, cut\r\n--B--\r\n"#;
    let played = play(&csrf(), &format!("{PAGE}\n{parts}"));
    assert!(
        sent(&played).contains("name=\"csrf\"\r\n\r\ntarget-2\r\n--B"),
        "{}",
        sent(&played)
    );
    assert!(sent(&played).contains("Content-Length: 89\r\nX-Csrf-Token: target-2"));
}

#[test]
fn only_the_answers_that_a_rule_names_are_looked_at() {
    let page = PAGE.replace("/form", "/other");
    let form = r"C: POST /form HTTP/1.1\r\nX-Csrf-Token: o+1\r\n\r\n";
    let played = play(&csrf(), &format!("{page}\n{form}\nafter 500 ms"));
    assert!(sent(&played).contains("X-Csrf-Token: o+1"));
    assert_eq!(played.count("csrf_learnt"), 0);
}

#[test]
fn a_body_that_is_too_long_streams_behind_its_beginning() {
    let config = csrf().with("body_bytes", 1024);
    let filler = "x".repeat(3000);
    let form = format!(
        r"C: POST /form HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3024\r\n\r\ncsrf=o%2B1&a={filler}&csrf=o%2B1"
    );
    let played = play(&config, &format!("{PAGE}\n{form}"));
    let expected = format!("Content-Length: 3027\r\n\r\ncsrf=target-2&a={filler}&csrf=o%2B1");
    assert!(sent(&played).contains("Content-Length: 3027"));
    assert!(sent(&played).ends_with(&expected));
    let chunked = format!(
        r"C: POST /form HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\nbc3\r\ncsrf=o%2B1{filler}x\r\n0\r\n\r\n"
    );
    let played = play(&config, &format!("{PAGE}\n{chunked}"));
    assert!(sent(&played).contains("csrf=o%2B1") && played.count("body_too_long") == 1);
}

#[test]
fn a_form_that_is_cut_goes_as_it_came() {
    let form = r"C: POST /form HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 99\r\n\r\ncsrf=o%2B1";
    let played = play(&csrf(), &format!("{PAGE}\n{form}\nC end"));
    assert!(sent(&played).ends_with("Content-Length: 99\r\n\r\ncsrf=o%2B1"));
    let played = play(
        &csrf(),
        &format!(
            "{PAGE}\n{form}\nC gap 10\nC: {}GET /b HTTP/1.1\\r\\n\\r\\n",
            "x".repeat(79)
        ),
    );
    assert!(sent(&played).ends_with("GET /b HTTP/1.1\r\n\r\n"));
    assert_eq!(played.count("gaps_in_requests"), 1);
    assert_eq!(exchanges(&played)[1..], ["POST /form left out", "GET /b -"]);
}

#[test]
fn compressed_bodies_are_read_or_counted() {
    // gzip of `{"t":"o1"}` and `{"t":"t1"}`, stored.
    let gzip = |letter: char| {
        format!(
            r#"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01\x0a\x00\xf5\xff{{"t":"{letter}1"}}"#
        )
    };
    let answer = |coding: &str, body: &str| {
        format!(
            r"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: {coding}\r\nContent-Length: 25\r\n\r\n{body}"
        )
    };
    let config = learn(vec![
        Config::new()
            .with("from", "json:t")
            .with("to", vec!["header:T"])
            .with("wait_ms", 0),
    ]);
    let text = |coding: &str| {
        format!(
            "C: GET / HTTP/1.1\\r\\n\\r\\n\nO: {}\nT: {}\nC: GET / HTTP/1.1\\r\\nT: o1\\r\\n\\r\\n",
            answer(coding, &gzip('o')),
            answer(coding, &gzip('t'))
        )
    };
    assert!(sent(&play(&config, &text("gzip"))).ends_with("\r\nT: t1\r\n\r\n"));
    let played = play(&config, &text("br"));
    assert!(sent(&played).ends_with("\r\nT: o1\r\n\r\n"));
    assert_eq!(played.count("t_unreadable"), 2);
}

#[test]
fn an_exchange_is_good_when_both_servers_agree() {
    let text = r"
        C: GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n
        O: HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n
        T: HTTP/1.1 400 x\r\nContent-Length: 0\r\n\r\nHTTP/1.1 302 x\r\nContent-Length: 0\r\n\r\nHTTP/1.1 204 x\r\n\r\n
    ";
    let played = play(&cookie(), text);
    assert_eq!(
        exchanges(&played),
        ["GET /a 400 ok", "GET /b 302 failed", "GET /c 204 ok"]
    );
    assert_eq!(played.count("status_class_differs"), 1);
}

#[test]
fn requests_left_out_do_not_shift_the_answers() {
    let drop = vec![Config::new().with("path", "^/drop")];
    let config = cookie().with("drop", drop);
    let text = r"
        C: GET /drop HTTP/1.1\r\n\r\nGET /login HTTP/1.1\r\n\r\n
        O: HTTP/1.1 200 x\r\nSet-Cookie: sid=wrong\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 x\r\nSet-Cookie: sid=o1\r\nContent-Length: 0\r\n\r\n
        T: HTTP/1.1 200 x\r\nSet-Cookie: sid=t1\r\nContent-Length: 0\r\n\r\n
        C: GET / HTTP/1.1\r\nCookie: sid=o1\r\n\r\n
    ";
    assert!(sent(&play(&config, text)).ends_with("Cookie: sid=t1\r\n\r\n"));
}

#[test]
fn answers_may_come_before_their_request_was_captured() {
    let text = r"
        O: HTTP/1.1 200 x\r\nSet-Cookie: sid=o1\r\nContent-Length: 0\r\n\r\n
        C: GET /login HTTP/1.1\r\n\r\n
        T: HTTP/1.1 200 x\r\nSet-Cookie: sid=t1\r\nContent-Length: 0\r\n\r\n
        C: GET / HTTP/1.1\r\nCookie: sid=o1\r\n\r\n
    ";
    assert!(sent(&play(&cookie(), text)).ends_with("Cookie: sid=t1\r\n\r\n"));
}

#[test]
fn after_a_hole_answers_are_matched_again_once_that_is_safe() {
    let answer = |value: &str| {
        format!("HTTP/1.1 200 x\\r\\nSet-Cookie: sid={value}\\r\\nContent-Length: 0\\r\\n\\r\\n")
    };
    // A request and its answer are left out, as a bound on the rate does.
    let text = format!(
        r"
        C: GET /1 HTTP/1.1\r\n\r\n
        O: {}
        T: {}
        C gap 18
        O: {}
        C: GET /3 HTTP/1.1\r\n\r\n
        O: {}
        T: {}
        C: GET / HTTP/1.1\r\nCookie: sid=o3\r\n\r\n
        ",
        answer("o1"),
        answer("t1"),
        answer("o2"),
        answer("o3"),
        answer("t3")
    );
    let played = play(&cookie(), &text);
    assert!(sent(&played).ends_with("Cookie: sid=t3\r\n\r\n"));
    // The answers have overtaken the requests behind the hole: nothing is learnt from them.
    let text = format!(
        r"
        C gap 18
        O: {}{}
        C: GET /2 HTTP/1.1\r\n\r\n
        C: GET /3 HTTP/1.1\r\n\r\n
        O: {}
        T: {}{}
        ",
        answer("o1"),
        answer("o2"),
        answer("o3"),
        answer("t2"),
        answer("t3")
    );
    assert_eq!(play(&cookie(), &text).count("sid_learnt"), 0);
}

#[test]
fn a_hole_in_an_answer_costs_that_answer() {
    let text = r#"
        C: GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n
        O: HTTP/1.1 200 x\r\nContent-Length: 100\r\n\r\nabc
        O gap 90
        O: 4567890HTTP/1.1 200 x\r\nSet-Cookie: sid=o2\r\nContent-Length: 0\r\n\r\n
        T: HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 x\r\nSet-Cookie: sid=t2\r\nContent-Length: 0\r\n\r\n
    "#;
    let played = play(&cookie(), text);
    assert_eq!(
        (played.count("sid_learnt"), played.count("gaps_in_answers")),
        (1, 1)
    );
}

#[test]
fn an_origin_that_is_not_captured_is_given_up() {
    let request = "C: GET /a HTTP/1.1\\r\\n\\r\\n\nT: HTTP/1.1 204 x\\r\\n\\r\\n\n";
    let transcript = request.repeat(11_000).parse().expect("a transcript");
    let played = plugin_api::testkit::run::<tcpcopy_plugin_http::Http>(&cookie(), &transcript);
    let played = played.expect("played");
    assert_eq!(played.refusal(), None);
    assert_eq!(played.count("origin_unreadable"), 1);
}

#[test]
fn a_script_may_send_a_cookie_as_a_header() {
    let config = learn(vec![
        Config::new()
            .with("from", "cookie:XSRF-TOKEN")
            .with("to", vec!["cookie:XSRF-TOKEN", "header:X-XSRF-TOKEN"]),
    ]);
    let text = r"
        C: GET /1 HTTP/1.1\r\n\r\n
        O: HTTP/1.1 200 x\r\nSet-Cookie: XSRF-TOKEN=a%3D\r\nContent-Length: 0\r\n\r\n
        T: HTTP/1.1 200 x\r\nSet-Cookie: XSRF-TOKEN=b%3D%3D\r\nContent-Length: 0\r\n\r\n
        C: GET / HTTP/1.1\r\nCookie: XSRF-TOKEN=a%3D\r\nX-XSRF-TOKEN: a=\r\n\r\n
    ";
    let played = play(&config, text);
    assert!(sent(&played).ends_with("Cookie: XSRF-TOKEN=b%3D%3D\r\nX-XSRF-TOKEN: b==\r\n\r\n"));
    assert_eq!(played.count("xsrf_token_replaced"), 2);
}

#[test]
fn a_form_does_not_overtake_the_end_of_the_connection() {
    let text = r"
        C: GET /a HTTP/1.1\r\n\r\n
        T: HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n
        C: GET /b HTTP/1.1\r\n\r\n
        C: POST /c HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b
    ";
    let played = play(&csrf(), text);
    assert_eq!(sent(&played), "GET /a HTTP/1.1\r\n\r\n");
    assert!(played.sessions[0].held.ends_with(b"a=b"));
}

#[test]
fn what_is_kept_behind_a_held_body_stays_held() {
    let text = r"
        C: POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok
        C: GET /b HTTP/1.1\r\nCookie: sid=old\r\n\r\n
        T: HTTP/1.1 100 x\r\n\r\n
    ";
    let played = play(&cookie(), text);
    assert!(sent(&played).ends_with("\r\n\r\nok"));
    // The end of the stream must not overtake the second request.
    let story = played.to_string();
    let release = story.rfind("    release\n").expect("a release");
    assert!(story[release..].contains("    hold\n"), "{story}");
    assert!(sent(&play(&cookie(), &format!("{text}\nafter 100 ms"))).ends_with("sid=old\r\n\r\n"));
}

#[test]
fn an_upgrade_that_waits_for_a_value_leaves_before_what_follows_it() {
    let text = r"
        C: GET /ws HTTP/1.1\r\nCookie: sid=old\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00
        after 100 ms
        T: HTTP/1.1 101 x\r\n\r\n
    ";
    let played = play(&cookie(), text);
    assert!(played.sent().ends_with(b"websocket\r\n\r\n\x81\x00"));
    let before = play(&cookie(), &text[..text.find("T: ").expect("an answer")]);
    assert!(sent(&before).ends_with("websocket\r\n\r\n"));
}

#[test]
fn wrong_rules_are_explained() {
    let of = |rule: Config| problem(&learn(vec![rule]));
    let from = |text: &str| Config::new().with("from", text);
    assert_eq!(of(Config::new()), "learn[0].from: missing, must be a text");
    assert!(of(from("sid")).starts_with("learn[0].from: `sid` is no place such as cookie:NAME"));
    assert!(of(from("query:a")).starts_with("learn[0].from: `query` is none of cookie,"));
    assert!(of(from("body:abc")).starts_with("learn[0].from: the pattern needs a group"));
    assert!(of(from("body:a(b)")).starts_with("learn[0].to: missing"));
    assert!(
        of(from("cookie:a").with("to", vec!["a"])).starts_with("learn[0].to[0]: `a` is no place")
    );
    assert!(of(from("cookie:a").with("wait", 1)).starts_with("learn[0].wait: unknown key"));
    assert_eq!(
        of(from("cookie:a").with("otherwise", "x")),
        "learn[0].otherwise: must be send or drop"
    );
}
