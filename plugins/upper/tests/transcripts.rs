//! What is sent when clients say this and servers say that.

use plugin_api::testkit::{self, Played, Transcript};
use plugin_api::{Config, Plugin};
use tcpcopy_plugin_upper::Upper;

fn play(config: &Config, text: &str) -> Played {
    let transcript: Transcript = text.parse().expect("a transcript");
    testkit::run::<Upper>(config, &transcript).expect("played")
}

#[test]
fn lines_are_written_in_capitals_wherever_they_are_cut() {
    let text = r"
        C: ge
        C: t x\nset
        C: \x20y 1\n
        T: 1\nok
        T: \n
        C: bye
        C end
    ";
    let played = play(&Config::new(), text);
    assert_eq!(played.sent(), b"GET X\nSET Y 1\nBYE");
    let requests = played
        .exchanges()
        .iter()
        .map(|exchange| &exchange.request[..]);
    let expected = [&b"GET X\n"[..], b"SET Y 1\n", b"BYE"];
    assert_eq!(requests.collect::<Vec<_>>(), expected);
    let is_answered = |at: usize| played.exchanges()[at].outcome.is_some();
    assert!(is_answered(0) && is_answered(1) && !is_answered(2));
    assert_eq!(played.count("lines"), 3);
}

#[test]
fn every_line_gets_the_prefix() {
    let config = Config::new().with("prefix", "copy ");
    assert_eq!(play(&config, r"C: a\nb\n").sent(), b"copy A\ncopy B\n");
    let config = Config::new().with("prefix", "a\nb");
    let error = Upper::configure(&config).expect_err("two lines");
    assert_eq!(error, "prefix: must be within one line");
}

#[test]
fn a_connection_captured_late_begins_with_its_next_line() {
    let played = play(&Config::new(), "session 1 mid-stream\nC: f x\\nget y\\n\n");
    assert_eq!(played.sent(), b"GET Y\n");
    assert_eq!(played.count("lines_without_beginning"), 1);
}

#[test]
fn what_cannot_be_replayed_is_refused_by_name() {
    let long = format!("C: {}", "a".repeat(64 * 1024 + 1));
    assert_eq!(play(&Config::new(), &long).refusal(), Some("line_too_long"));
    let gap = play(&Config::new(), "C: a\nC gap 5\n");
    assert_eq!(gap.refusal(), Some("capture_gap"));
}
