//! What is sent to the target when clients say this and servers say that.

use plugin_api::testkit::{self, Played, Transcript};
use plugin_api::{Config, Plugin};
use tcpcopy_plugin_notes::Notes;

fn play(text: &str) -> Played {
    let config = Config::new().with("password", "test");
    let transcript: Transcript = text.parse().expect("a transcript");
    testkit::run::<Notes>(&config, &transcript).expect("played")
}

#[test]
fn users_log_in_and_find_their_notes() {
    let played = play(include_str!("../transcripts/notes.transcript"));
    let sent = |id| {
        let session = played.session(id).expect("it is in the transcript");
        String::from_utf8_lossy(&session.sent).into_owned()
    };
    assert_eq!(sent(1), "AUTH eve test\r\nPUT milk, eggs\r\n");
    assert_eq!(sent(2), "AUTH bob test\r\nGET 4\r\nGET 99\r\n");
    assert_eq!(sent(3), "GET 4\r\n");
    assert_eq!(played.count("notes_learnt"), 1);
    assert_eq!(played.count("notes_unknown"), 1);

    let outcomes = played.session(2).expect("bob").exchanges.iter();
    let outcomes: Vec<_> = outcomes.map(|exchange| &exchange.outcome).collect();
    let is_ok = |at: usize| outcomes[at].as_ref().map(|(ok, ..)| *ok);
    assert_eq!(
        (is_ok(0), is_ok(1), is_ok(2)),
        (Some(true), Some(true), Some(false))
    );
}

#[test]
fn what_cannot_be_replayed_is_refused_by_name() {
    let long = format!("C: PUT {}", "a".repeat(64 * 1024));
    assert_eq!(play(&long).refusal(), Some("line_too_long"));
    assert_eq!(play("C gap 5").refusal(), Some("capture_gap"));
}

#[test]
fn a_password_of_two_lines_is_named() {
    let config = Config::new().with("password", "a\nPUT x");
    let error = Notes::configure(&config).expect_err("two lines");
    assert_eq!(error, "password: must be one line");
}
