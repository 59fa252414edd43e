//! The MySQL plugin is the same, native and as WASM: logins, arithmetic, compression and all.

mod common;

use std::fs;

use plugin_api::testkit::{self, Transcript};
use plugin_api::{Config, Needs};
use tcpcopy_host::{Library, Limits, Rehearsal};

/// What a build makes of a transcript.
fn story(library: &Library, transcript: &Transcript) -> String {
    let config = Config::new().with("user", "app").with("password", "secret");
    let rehearsal = Rehearsal::new(library, &config, &Limits::default());
    let mut rehearsal = rehearsal.unwrap_or_else(|error| panic!("{error}"));
    let played = testkit::play(&mut rehearsal, Needs::BOTH, transcript);
    played.unwrap_or_else(|error| panic!("{error}")).to_string()
}

#[test]
fn both_forms_do_the_same() {
    let [native, wasm] = common::both("mysql");
    assert_eq!(native.manifest(), wasm.manifest());
    let directory = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../plugins/mysql/transcripts"
    );
    let mut count = 0;
    for file in fs::read_dir(directory).expect("transcripts") {
        let path = file.expect("a file").path();
        let text = fs::read_to_string(&path).expect("a transcript");
        let transcript: Transcript = text.parse().expect("a transcript");
        let [native, wasm] = [&native, &wasm].map(|library| story(library, &transcript));
        assert_eq!(native, wasm, "{}", path.display());
        assert!(native.contains("end: ok"), "{}", path.display());
        count += 1;
    }
    assert!(count >= 4);
}
