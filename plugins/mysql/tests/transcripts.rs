//! The conversations in `transcripts/`, which `tcpcopy plugin test` plays to both builds: all goes
//! well in them.

mod common;

use std::fs;

use common::*;
use plugin_api::testkit::Transcript;

fn transcripts() -> Vec<(String, Transcript)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/transcripts");
    let files = fs::read_dir(directory).expect("transcripts");
    let read = files.map(|file| {
        let path = file.expect("a file").path();
        let text = fs::read_to_string(&path).expect("a transcript");
        (
            path.display().to_string(),
            text.parse().expect("a transcript"),
        )
    });
    read.collect()
}

#[test]
fn all_that_is_said_is_answered_well() {
    let all = transcripts();
    assert!(all.len() >= 4);
    for (name, transcript) in all {
        let played = play(&config(), transcript.steps);
        assert_eq!(played.refusal(), None, "{name}");
        let said = outcomes(&played);
        assert!(said.len() >= 2, "{name}");
        let is_well = |outcome: &Option<(bool, u32)>| outcome.is_some_and(|(ok, _)| ok);
        assert!(
            said.iter().all(|(_, outcome)| is_well(outcome)),
            "{name}: {said:?}"
        );
        for counted in [
            "rows_differ",
            "origin_answers_unreadable",
            "errors_only_at_target",
        ] {
            assert_eq!(played.count(counted), 0, "{name}: {counted}");
        }
    }
}
