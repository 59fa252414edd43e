//! Where requests end, and which streams are no requests.

use plugin_api::Config;

use crate::play::{exchanges, plain, play, sent};

#[test]
fn requests_pass_byte_by_byte() {
    let text = r"
        C: GET /a?b=1 HTTP/1.1\r\nHOST:x\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody
        C: PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nWiki\r\n0\r\nT: 1\r\n\r\n
        C: HEAD /d HTTP/1.0\r\n\r\n
        C end
    ";
    let played = plain(text);
    let expected = "GET /a?b=1 HTTP/1.1\r\nHOST:x\r\n\r\n\
        POST /b HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody\
        PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nWiki\r\n0\r\nT: 1\r\n\r\n\
        HEAD /d HTTP/1.0\r\n\r\n";
    assert_eq!(sent(&played), expected);
    assert_eq!(
        exchanges(&played),
        ["GET /a -", "POST /b -", "PUT /c -", "HEAD /d -"]
    );
    assert_eq!(played.exchanges()[1].request.len(), 43);
}

#[test]
fn a_body_passes_before_it_is_complete() {
    let played = plain(r"C: POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nbegin");
    assert!(sent(&played).ends_with("\r\n\r\nbegin"));
}

#[test]
fn what_two_programs_may_read_differently_is_refused() {
    let refusal = |fields: &str| {
        let text =
            format!(r"C: POST / HTTP/1.1\r\n{fields}\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n");
        let played = plain(&text);
        assert_eq!(sent(&played), "", "{fields}");
        played.refusal().map(str::to_owned).expect("a refusal")
    };
    assert_eq!(
        refusal(r"Content-Length: 5\r\nTransfer-Encoding: chunked"),
        "both_lengths"
    );
    assert_eq!(
        refusal(r"Content-Length: 5\r\nContent-Length: 6"),
        "differing_lengths"
    );
    assert_eq!(refusal(r"Content-Length: 0x5"), "bad_content_length");
    assert_eq!(
        refusal(r"Transfer-Encoding: chunked, x"),
        "bad_transfer_coding"
    );
    assert_eq!(refusal(r"Transfer-Encoding : chunked"), "bad_head");
    assert_eq!(refusal(r"A: b\r\n folded"), "obs_fold");
}

#[test]
fn what_is_no_http_1_is_refused_by_its_name() {
    let refusal = |bytes: &str| {
        let played = plain(&format!("C: {bytes}"));
        assert_eq!(sent(&played), "");
        played.refusal().map(str::to_owned).expect("a refusal")
    };
    assert_eq!(refusal(r"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "http2");
    assert_eq!(
        refusal(r"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        "tls"
    );
    assert_eq!(refusal(r"GET / HTTP/3.1\r\n\r\n"), "http_version");
    assert_eq!(refusal(r"\x00\x01\x02\x03"), "bad_head");
}

#[test]
fn a_bad_chunk_ends_the_session_where_it_is() {
    let text = r"C: POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabX\r\n";
    assert_eq!(plain(text).refusal(), Some("bad_chunk"));
}

#[test]
fn heads_are_bounded() {
    let config = Config::new()
        .with("header_bytes", 1024)
        .with("header_count", 3);
    let refusal = |head: String| {
        let played = play(&config, &format!(r"C: GET / HTTP/1.1\r\n{head}"));
        played.refusal().map(str::to_owned)
    };
    let long = "x".repeat(1024);
    assert_eq!(
        refusal(format!(r"A: {long}\r\n\r\n")),
        Some("head_too_large".into())
    );
    assert_eq!(refusal(format!("A: {long}")), Some("head_too_large".into()));
    assert_eq!(
        refusal(r"A:\r\nB:\r\nC:\r\nD:\r\n\r\n".into()),
        Some("too_many_headers".into())
    );
    assert_eq!(refusal(r"A:\r\nB:\r\nC:\r\n\r\n".into()), None);
}

#[test]
fn a_connection_captured_late_begins_with_its_next_request() {
    let text = "session 1 mid-stream
        C: rest of a body with GET / inPOST /b HTTP/1.1\\r\\nContent-Length: 2\\r\\n\\r\\nok
        T: HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n";
    let played = plain(text);
    assert_eq!(exchanges(&played), ["POST /b 200 ok"]);
    assert_eq!(played.count("skipped_bytes"), 28);
}

#[test]
fn a_hole_between_requests_is_stepped_over() {
    let text = r"
        C: GET /a HTTP/1.1\r\n\r\n
        C gap 40
        C: GET /b HTTP/1.1\r\n\r\nGET /c HT
        C gap unknown
        C: ost: x\r\n\r\nGET /d HTTP/1.1\r\n\r\n
    ";
    let played = plain(text);
    assert_eq!(exchanges(&played), ["GET /a -", "GET /b -", "GET /d -"]);
    assert_eq!(played.refusal(), None);
    assert_eq!(played.count("gaps_between_requests"), 2);
}

#[test]
fn a_hole_within_a_request_is_refused() {
    let text = r"
        C: POST /a HTTP/1.1\r\nContent-Length: 10\r\n\r\n123
        C gap 4
        C: 789
    ";
    assert_eq!(plain(text).refusal(), Some("gap_in_request"));
}
