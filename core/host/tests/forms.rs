//! A plugin is the same, native and as WASM.

mod common;

use plugin_api::testkit::{self, Played, Transcript};
use plugin_api::{Config, Direction};
use tcpcopy_host::{Form, Library, Limits, Rehearsal};

const TRANSCRIPT: &str = r"
    session 1
    C: get x\nput
    T: 1\n
    session 2 mid-stream copy=1 client=[2001:db8::9]:1234
    C: half\nwhole\n
    session 1
    C: \x20y\nlast
    T: 2\n
    C end
    T: 3\n4\n
    session 2
    C gap 10
    C: not told any more\n
";

fn play(library: &Library, config: &Config) -> Played {
    let transcript: Transcript = TRANSCRIPT.parse().expect("a transcript");
    let rehearsal = Rehearsal::new(library, config, &Limits::default());
    let mut rehearsal = rehearsal.unwrap_or_else(|error| panic!("{error}"));
    let needs = library.manifest().needs_for(config);
    let played = testkit::play(&mut rehearsal, needs, &transcript);
    played.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn both_forms_say_the_same_of_themselves() {
    let [native, wasm] = common::both("upper");
    assert_eq!((native.form(), wasm.form()), (Form::Native, Form::Wasm));
    assert_eq!(native.manifest(), wasm.manifest());
    assert_eq!(native.manifest().name, "upper");
    assert_eq!(native.contract(), "0.1.0");
    assert!(wasm.path().ends_with("upper.wasm"));
}

#[test]
fn both_forms_do_the_same() {
    let [native, wasm] = common::both("upper").map(|library| {
        let config = Config::new().with("prefix", "> ");
        play(&library, &config)
    });
    assert_eq!(native.to_string(), wasm.to_string());
    assert_eq!(native.sent(), b"> GET X\n> PUT Y\n> LAST");
    let exchanges = native.exchanges().iter();
    let ended = exchanges.filter(|exchange| exchange.outcome.is_some());
    assert_eq!(ended.count(), 3);
    let other = native.session(2).expect("session 2");
    assert_eq!(other.sent, b"> WHOLE\n");
    assert_eq!(other.refusal.as_deref(), Some("capture_gap"));
    assert_eq!(native.count("lines_without_beginning"), 1);
}

#[test]
fn a_plugin_in_c_does_what_the_one_in_rust_does() {
    let [rust, c] = ["upper.so", "upper_c.so"].map(common::load);
    let config = Config::new().with("prefix", "> ");
    assert_eq!(play(&rust, &config).sent(), play(&c, &config).sent());
}

#[test]
fn a_configuration_that_will_not_do_is_refused_in_both_forms() {
    for library in common::both("upper") {
        let limits = Limits::default();
        let told = |config: Config| {
            let rehearsal = Rehearsal::new(&library, &config, &limits);
            rehearsal.expect_err("it will not do").to_string()
        };
        let of_plugin = told(Config::new().with("prefix", "a\nb"));
        assert!(
            of_plugin.contains("plugin upper: prefix: must be within one line"),
            "{of_plugin}"
        );
        assert!(
            of_plugin.contains("\n\nhint: correct the table [upper]"),
            "{of_plugin}"
        );
        let of_host = told(Config::new().with("prefx", "a"));
        assert!(
            of_host.contains("prefx: unknown key, there is: prefix"),
            "{of_host}"
        );
    }
}

#[test]
fn a_stream_is_cut_anywhere() {
    // What is sent does not depend on how the bytes come.
    let [native, wasm] = common::both("upper");
    let text = b"first line\nsecond\nthird one\n";
    for library in [native, wasm] {
        for cut in 1..text.len() {
            let steps = [&text[..cut], &text[cut..]].map(|bytes| testkit::Step::Data {
                direction: Direction::Client,
                bytes: bytes.to_vec(),
            });
            let transcript = Transcript {
                steps: steps.into(),
            };
            let rehearsal = Rehearsal::new(&library, &Config::new(), &Limits::default());
            let mut rehearsal = rehearsal.expect("nothing to refuse");
            let needs = library.manifest().needs;
            let played = testkit::play(&mut rehearsal, needs, &transcript).expect("played");
            assert_eq!(played.sent(), text.to_ascii_uppercase());
        }
    }
}
