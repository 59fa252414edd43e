//! The plugins in C do what the same in Rust does, native and as WASM.

use plugin_api::testkit::{Played, Transcript, play};
use plugin_api::{Config, Needs, abi};
use tcpcopy_host::{Form, Limits, Rehearsal};

use crate::common::load;

/// The plugin that turns lines into capitals, each way.
const BUILDS: [&str; 4] = ["upper.so", "upper.wasm", "upper_c.so", "upper_c.wasm"];

fn rehearse(file: &str, config: &Config, transcript: &Transcript) -> Played {
    let library = load(file);
    let rehearsal = Rehearsal::new(&library, config, &Limits::default());
    let mut rehearsal = rehearsal.unwrap_or_else(|error| panic!("{error}"));
    let played = play(&mut rehearsal, Needs::TARGET, transcript);
    played.unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Plays it to all four; every one must tell the same story.
fn same_story(config: &Config, text: &str) -> Played {
    let transcript: Transcript = text.parse().expect("a transcript");
    let [first, others @ ..] = BUILDS.map(|file| rehearse(file, config, &transcript));
    for (other, file) in others.iter().zip(&BUILDS[1..]) {
        assert_eq!(other.to_string(), first.to_string(), "{file}");
    }
    first
}

#[test]
fn each_is_what_it_says() {
    for (file, form) in [("upper_c.so", Form::Native), ("upper_c.wasm", Form::Wasm)] {
        let library = load(file);
        assert_eq!(library.form(), form);
        assert_eq!(library.contract(), abi::VERSION);
        let (manifest, rust) = (library.manifest(), load("upper.so"));
        assert_eq!((&*manifest.name, &*manifest.version), ("upper_c", "0.1.0"));
        assert_eq!(manifest.needs, rust.manifest().needs);
        assert_eq!(manifest.keys, rust.manifest().keys);
    }
}

#[test]
fn lines_cut_anywhere() {
    let text = r"
        C: ge
        C: t x\nset
        C: \x20y 1\n
        T: 1\nok
        T: \n
        session 2 mid-stream
        C: f x\nget y\n
        C end
        session 3
        C: x
        C gap 5
        session 1
        C: bye
        C end
        T: bye\n
        T end
    ";
    let played = same_story(&Config::new().with("prefix", "> "), text);
    assert_eq!(
        played.session(1).expect("it is there").sent,
        b"> GET X\n> SET Y 1\n> BYE"
    );
    assert_eq!(played.session(2).expect("it is there").sent, b"> GET Y\n");
    let refusal = &played.session(3).expect("it is there").refusal;
    assert_eq!(refusal.as_deref(), Some("capture_gap"));
}

#[test]
fn lines_of_every_length_up_to_the_longest() {
    let mut text = String::new();
    for (session, length) in [0, 1, 15, 16, 4095, 4096, 32_000, 65_535]
        .into_iter()
        .enumerate()
    {
        let line = "a".repeat(length);
        text += &format!("session {}\nC: {line}\\n\n", session + 1);
    }
    text += &format!("session 99\nC: {}\n", "a".repeat(65_537));
    let played = same_story(&Config::new().with("prefix", "-"), &text);
    assert_eq!(
        played.session(8).expect("it is there").sent.len(),
        1 + 65_536
    );
    let refusal = &played.session(99).expect("it is there").refusal;
    assert_eq!(refusal.as_deref(), Some("line_too_long"));
}

/// Sessions that come and go in no order: the table and the memory of the WASM build are its own.
#[test]
fn a_thousand_sessions_come_and_go() {
    let (mut text, mut open, mut state) = (String::new(), Vec::new(), 7_u64);
    for session in 1..=1000_u64 {
        // Numbers as the engine gives them: an index, and a generation above it.
        let number = (session << 32) | (session * 7 % 129);
        text += &format!("session {number}\nC: hello {session}\\nand\n");
        open.push(number);
        while open.len() > 100 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let number = open.swap_remove((state >> 33) as usize % open.len());
            text += &format!("session {number}\nC: more\\n\nclose\n");
        }
    }
    let played = same_story(&Config::new().with("prefix", "+"), &text);
    assert_eq!(played.count("lines"), 1000 + 900);
}

#[test]
fn a_configuration_that_will_not_do() {
    for file in BUILDS {
        let library = load(file);
        let config = Config::new().with("prefix", "a\nb");
        let error = Rehearsal::new(&library, &config, &Limits::default()).expect_err("two lines");
        let error = error.to_string();
        assert!(
            error.contains("prefix: must be within one line"),
            "{file}: {error}"
        );
    }
}
