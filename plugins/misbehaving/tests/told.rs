//! The plugin does what it is told, and works when it is told nothing.

use plugin_api::testkit::{self, Played, Transcript};
use plugin_api::{Config, Plugin};
use tcpcopy_plugin_misbehaving::{Callback, Misbehaving};

/// Everything that can happen to a session happens in it.
const EVERYTHING: &str = r"
    C: a\nb\n
    O: 1\n
    T: 1\n
    T: 2\n
    C gap 3
    after 5 ms
    C end
";

fn play(config: &Config, text: &str) -> Played {
    let transcript: Transcript = text.parse().expect("a transcript");
    testkit::run::<Misbehaving>(config, &transcript).expect("played")
}

fn told(fault: &str, callback: Callback) -> Config {
    let config = Config::new().with("fault", fault);
    config.with("callback", callback.name()).with("mib", 1)
}

#[test]
fn without_a_fault_it_relays_lines() {
    let played = play(&Config::new(), EVERYTHING);
    assert_eq!(played.sent(), b"a\nb\n");
    assert_eq!(played.exchanges().len(), 2);
    assert!(played.exchanges().iter().all(|line| line.outcome.is_some()));
}

#[test]
fn it_panics_in_each_callback_and_names_it() {
    for callback in Callback::ALL {
        let config = told("panic", callback);
        let panic = std::panic::catch_unwind(|| play(&config, EVERYTHING)).expect_err("a panic");
        let words = panic.downcast_ref::<String>().expect("its words");
        assert_eq!(*words, format!("as I was told, in {}", callback.name()));
    }
}

#[test]
fn one_session_of_several_or_only_the_first() {
    let sessions = r"
        session 1
        C: a\n
        session 2
        C: b\n
        session 4
        C: c\n
    ";
    let flood = told("output", Callback::Client);
    let lengths = |config: &Config| {
        let played = play(config, sessions);
        let sent = played.sessions.iter().map(|session| session.sent.len());
        sent.collect::<Vec<_>>()
    };
    let mib = 1 << 20;
    assert_eq!(lengths(&flood), [mib + 2; 3]);
    let second = flood.clone().with("every", 2);
    assert_eq!(lengths(&second), [2, mib + 2, mib + 2]);
    let once = second.with("once", true);
    assert_eq!(lengths(&once), [2, mib + 2, 2]);
}

#[test]
fn what_it_does_not_know_is_named() {
    let problem = |key: &str, value: &str| {
        let config = Config::new().with(key, value);
        Misbehaving::configure(&config).expect_err("wrong")
    };
    assert_eq!(problem("fault", "nap"), "fault: nap is no fault");
    assert_eq!(problem("callback", "x"), "callback: x is no callback");
    let error = Misbehaving::configure(&Config::new().with("every", 0)).expect_err("wrong");
    assert_eq!(error, "every: is out of its range");
}
