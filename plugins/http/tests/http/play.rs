//! Plays transcripts, each in every segmentation.

use plugin_api::testkit::{self, Played, PlayedSession, Step, Transcript};
use plugin_api::{Config, Plugin};
use tcpcopy_plugin_http::Http;

/// Plays a transcript as it is, in pieces of each small size, and cut in two at every byte: the
/// same must come of it.
pub(crate) fn play(config: &Config, text: &str) -> Played {
    let transcript: Transcript = text.parse().expect("a transcript");
    let played = run(config, &transcript);
    for size in 1..8 {
        let pieces = cut(&transcript, |bytes| {
            bytes.chunks(size).map(<[u8]>::to_vec).collect()
        });
        same(&played, &run(config, &pieces), &format!("pieces of {size}"));
    }
    let longest = transcript.steps.iter().map(length).max().unwrap_or(0);
    for at in 1..longest {
        let two = |bytes: &[u8]| match bytes.split_at_checked(at) {
            Some((first, second)) if !second.is_empty() => vec![first.to_vec(), second.to_vec()],
            _ => vec![bytes.to_vec()],
        };
        let pieces = cut(&transcript, two);
        same(&played, &run(config, &pieces), &format!("cut at {at}"));
    }
    played
}

/// Plays without any configuration.
pub(crate) fn plain(text: &str) -> Played {
    play(&Config::new(), text)
}

/// What was sent, as text.
pub(crate) fn sent(played: &Played) -> String {
    String::from_utf8_lossy(played.sent()).into_owned()
}

/// Label and status of each exchange; `-` for one without an answer, `left out` for one of which
/// nothing was sent.
pub(crate) fn exchanges(played: &Played) -> Vec<String> {
    let line = |exchange: &testkit::Exchange| match &exchange.outcome {
        Some((ok, status, word)) => {
            let ok = if *ok { "ok" } else { "failed" };
            format!("{} {status} {ok} {word}", exchange.label)
                .trim_end()
                .to_owned()
        }
        None if exchange.is_left_out => format!("{} left out", exchange.label),
        None => format!("{} -", exchange.label),
    };
    played.exchanges().iter().map(line).collect()
}

/// The problem of a configuration.
pub(crate) fn problem(config: &Config) -> String {
    let checked = Http::manifest().check(config).map_err(String::from);
    let configured = checked.and_then(|()| Http::configure(config));
    configured.expect_err("a problem")
}

fn run(config: &Config, transcript: &Transcript) -> Played {
    testkit::run::<Http>(config, transcript).expect("played")
}

fn length(step: &Step) -> usize {
    match step {
        Step::Data { bytes, .. } => bytes.len(),
        _ => 0,
    }
}

fn cut(transcript: &Transcript, pieces: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> Transcript {
    let pieces = |step: &Step| match step {
        Step::Data { direction, bytes } => {
            let data = |bytes| Step::Data {
                direction: *direction,
                bytes,
            };
            pieces(bytes).into_iter().map(data).collect()
        }
        step => vec![step.clone()],
    };
    Transcript {
        steps: transcript.steps.iter().flat_map(pieces).collect(),
    }
}

fn same(one: &Played, other: &Played, how: &str) {
    let told = |played: &Played| -> Vec<PlayedSession> { played.sessions.clone() };
    assert_eq!(told(one), told(other), "{how}:\n{other}");
    assert_eq!(one.counts, other.counts, "{how}:\n{other}");
}
