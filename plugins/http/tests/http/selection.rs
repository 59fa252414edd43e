//! Which requests are replayed, and what regular expressions make of them.

use plugin_api::Config;

use crate::play::{exchanges, play, problem, sent};

const REQUESTS: &str = r"
    C: GET /a HTTP/1.1\r\nX-User: eve\r\n\r\nPOST /admin/b HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody
    C: PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n
    T: HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n
";

#[test]
fn requests_are_dropped_with_their_bodies_and_exchanges_stay_aligned() {
    let rules = vec![
        Config::new().with("method", "POST"),
        Config::new().with("path", "^/admin$").with("name", "admin"),
    ];
    let played = play(&Config::new().with("drop", rules), REQUESTS);
    assert_eq!(
        exchanges(&played),
        [
            "GET /a 200 ok",
            "POST /admin/b left out",
            "PUT /c 201 ok",
            "GET /admin left out"
        ]
    );
    assert!(!sent(&played).contains("body") && !sent(&played).contains("admin"));
    assert_eq!(played.count("dropped_rule_1"), 1);
    assert_eq!(played.count("dropped_admin"), 1);
    assert_eq!(played.sessions[0].surplus_ends, 0);
}

#[test]
fn an_origin_that_is_not_captured_is_given_up_where_all_is_dropped() {
    let learn = vec![Config::new().with("from", "cookie:sid")];
    let drop = vec![Config::new().with("path", "^/a")];
    let config = Config::new().with("learn", learn).with("drop", drop);
    let request = "C: GET /a HTTP/1.1\\r\\n\\r\\n\n";
    let transcript = request.repeat(11_000).parse().expect("a transcript");
    let played = plugin_api::testkit::run::<tcpcopy_plugin_http::Http>(&config, &transcript);
    let played = played.expect("played");
    assert_eq!(played.refusal(), None);
    assert_eq!(played.count("origin_unreadable"), 1);
}

#[test]
fn a_path_that_is_no_utf_8_is_seen_as_latin_1() {
    let text = r"
        C: GET /caf\xe9/1?a=\xff HTTP/1.1\r\nHost: x\r\n\r\n
        C: GET /caf\xc3\xa9/2 HTTP/1.1\r\n\r\nGET /caf\xe8/3 HTTP/1.1\r\n\r\n
    ";
    let played = play(&Config::new(), text);
    let expected = b"GET /caf\xe9/1?a=\xff HTTP/1.1\r\nHost: x\r\n\r\n\
        GET /caf\xc3\xa9/2 HTTP/1.1\r\n\r\nGET /caf\xe8/3 HTTP/1.1\r\n\r\n";
    assert_eq!((played.sent(), played.refusal()), (&expected[..], None));
    let drop = vec![Config::new().with("path", "/café/")];
    let played = play(&Config::new().with("drop", drop), text);
    assert_eq!(played.sent(), b"GET /caf\xe8/3 HTTP/1.1\r\n\r\n");
    assert_eq!(played.count("dropped_rule_1"), 2);
}

#[test]
fn what_no_rule_keeps_is_dropped() {
    let methods = Config::new().with("method", vec!["PUT", "PATCH"]);
    let user = Config::new().with("header", "x-user").with("value", "^e");
    let played = play(&Config::new().with("keep", vec![methods, user]), REQUESTS);
    assert_eq!(
        exchanges(&played),
        [
            "GET /a 200 ok",
            "POST /admin/b left out",
            "PUT /c 201 ok",
            "GET /admin left out"
        ]
    );
    assert_eq!(played.count("dropped_not_kept"), 2);
}

#[test]
fn a_sample_keeps_the_requests_of_one_user_together() {
    let requests = |user: u32| {
        format!("C: GET /{user} HTTP/1.1\\r\\nCookie: a=b; sid=user{user}\\r\\n\\r\\n\n")
    };
    let text: String = (0..200).map(requests).collect::<String>().repeat(2);
    let sample = |percent: f64| {
        let sample = Config::new()
            .with("by", "cookie:sid")
            .with("percent", percent);
        let transcript = text.parse().expect("a transcript");
        let config = Config::new().with("sample", sample);
        plugin_api::testkit::run::<tcpcopy_plugin_http::Http>(&config, &transcript).expect("played")
    };
    let taken = |percent: f64| {
        let played = sample(percent);
        let is_taken = |at: usize| !played.exchanges()[at].is_left_out;
        for user in 0..200 {
            assert_eq!(is_taken(user), is_taken(user + 200));
        }
        (0..200).filter(|at| is_taken(*at)).count()
    };
    assert!((30..70).contains(&taken(25.0)), "{}", taken(25.0));
    assert_eq!((taken(0.0), taken(100.0)), (0, 200));
}

#[test]
fn requests_without_a_value_are_sampled_as_told() {
    let left_out = |without: &str| {
        let sample = Config::new().with("by", "header:X-None").with("percent", 0);
        let sample = sample.with("without", without);
        let played = play(&Config::new().with("sample", sample), REQUESTS);
        played
            .exchanges()
            .iter()
            .filter(|it| it.is_left_out)
            .count()
    };
    assert_eq!(left_out("keep"), 0);
    assert_eq!((left_out("drop"), left_out("client")), (4, 4));
}

#[test]
fn paths_and_headers_are_rewritten() {
    let rules = vec![
        Config::new()
            .with("in", "path")
            .with("pattern", "^/v1/(\\w+)")
            .with("with", "/v2/${1}s"),
        Config::new()
            .with("in", "header:Referer")
            .with("pattern", "//www\\.x/")
            .with("with", "//test/"),
    ];
    let config = Config::new().with("rewrite", rules);
    let text = r"C: GET /v1/user?a=1 HTTP/1.1\r\nreferer: http://www.x/a\r\nReferer: \xff\r\n\r\nGET /v1 HTTP/1.1\r\n\r\n";
    let expected = b"GET /v2/users?a=1 HTTP/1.1\r\nreferer: http://test/a\r\nReferer: \xff\r\n\r\n\
        GET /v1 HTTP/1.1\r\n\r\n";
    assert_eq!(play(&config, text).sent(), expected);
}

#[test]
fn wrong_rules_are_explained() {
    let of = |key: &str, rule: Config| problem(&Config::new().with(key, vec![rule]));
    assert_eq!(
        of("drop", Config::new().with("paht", "x")),
        "drop[0].paht: unknown key, there is: name, method, path, header, value"
    );
    assert!(of("drop", Config::new()).starts_with("drop[0].path: missing: say a method"));
    let value = Config::new().with("value", "x");
    assert!(of("keep", value).starts_with("keep[0].value: is the value of a header"));
    let path = Config::new().with("path", "(");
    assert!(of("keep", path).starts_with("keep[0].path: no regular expression: "));
    let name = Config::new().with("method", "GET").with("name", "A B");
    assert!(of("drop", name).starts_with("drop[0].name: must be 1 to 40"));
    let rule = Config::new()
        .with("in", "body")
        .with("pattern", "a")
        .with("with", "b");
    assert_eq!(
        of("rewrite", rule),
        "rewrite[0].in: must be path or header:NAME"
    );
    let rule = Config::new().with("in", "path").with("pattern", "a");
    assert_eq!(
        of("rewrite", rule),
        "rewrite[0].with: missing, must be a text"
    );
    let rule = Config::new()
        .with("in", "path")
        .with("pattern", "(a)")
        .with("with", "$1s");
    assert_eq!(
        of("rewrite", rule),
        "rewrite[0].with: `1s` is no group of the pattern; ${1} may be followed by letters"
    );
    let sample = |rule: Config| problem(&Config::new().with("sample", rule));
    let by = Config::new().with("by", "cookie:a");
    assert_eq!(
        sample(by.clone()),
        "sample.percent: missing, must be a number"
    );
    assert_eq!(
        sample(by.clone().with("percent", 101)),
        "sample.percent: must be 0 to 100"
    );
    let without = by.with("percent", 1.5).with("without", "x");
    assert_eq!(
        sample(without),
        "sample.without: must be client, keep or drop"
    );
    let by = Config::new().with("by", "form:a").with("percent", 1);
    assert!(sample(by).starts_with("sample.by: must be a cookie"));
}
