//! `tcpcopy plugin test`: a plugin tried without a network.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use plugin_api::Level;
use plugin_api::testkit::{Exchange, PlayError, Played, PlayedSession, Transcript, play};
use tcpcopy_host::{Library, Rehearsal};

use super::PluginError;
use super::command::TestOptions;
use super::load::settings;
use super::streams::{self, is_capture};

/// Most bytes that are shown of what one session sent.
const SHOWN_BYTES: usize = 4096;

/// What is played.
struct Story {
    transcript: Transcript,
    /// About it, for people.
    note: String,
}

/// What came of it.
pub(super) struct Outcome {
    /// For people.
    pub(super) text: String,
    /// How the plugin failed.
    pub(super) failure: Option<String>,
}

/// Plays it.
pub(super) fn play_to(options: &TestOptions) -> Result<Outcome, PluginError> {
    let limits = options.limits.limits();
    let library = Library::load(&options.file, &limits)?;
    let mut settings = settings(&options.tell)?;
    let config = settings.config_of(library.manifest())?;
    let Story {
        mut transcript,
        note: mut text,
    } = story(options)?;
    for other in settings.unused() {
        let _ = writeln!(text, "note: what is told {other} is for another plugin");
    }
    let needs = library.manifest().needs_for(&config);
    let rehearse = |transcript: &Transcript| {
        let mut rehearsal = Rehearsal::new(&library, &config, &limits)?;
        let played = play(&mut rehearsal, needs, transcript);
        Ok::<_, PluginError>((played, rehearsal.take_log()))
    };
    let (played, log) = rehearse(&transcript)?;
    let failure = match played {
        Ok(played) => {
            tell(&mut text, &played, options.steps);
            None
        }
        Err(error) => {
            let step = step_of(&error);
            let failing = transcript.steps.get(step).map(ToString::to_string);
            transcript.steps.truncate(step);
            // As far as it went; the same again, since nothing in a rehearsal is left to chance.
            if let (Ok(played), _) = rehearse(&transcript)? {
                tell(&mut text, &played, options.steps);
            }
            Some(match failing {
                Some(failing) => format!("{error}\n  at: {failing}"),
                None => error.to_string(),
            })
        }
    };
    tell_log(&mut text, &log);
    Ok(Outcome { text, failure })
}

/// How many steps went well.
fn step_of(error: &PlayError) -> usize {
    match error {
        PlayError::Config(_) => 0,
        PlayError::Failed { step, .. }
        | PlayError::Malformed { step, .. }
        | PlayError::Endless { step }
        | PlayError::Closed { step, .. } => step.saturating_sub(1),
    }
}

/// Reads the transcript or the capture file.
fn story(options: &TestOptions) -> Result<Story, PluginError> {
    let path = &options.story;
    let bytes = beginning(path, 4).map_err(|source| PluginError::Story {
        path: path.clone(),
        reason: source.to_string(),
    })?;
    if is_capture(&bytes) {
        let streams = streams::read(path, options.port, options.connections)?;
        let mut note = format!("{} connections of {}", streams.connections, path.display());
        if streams.left_out > 0 {
            let _ = write!(note, ", {} more left out", streams.left_out);
        }
        note.push_str("; the target is taken to answer as the origin did\n\n");
        return Ok(Story {
            transcript: streams.transcript,
            note,
        });
    }
    let wrong = |reason: String| PluginError::Story {
        path: path.clone(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let transcript = text
        .parse()
        .map_err(|error: plugin_api::testkit::TranscriptError| wrong(error.to_string()))?;
    Ok(Story {
        transcript,
        note: String::new(),
    })
}

fn beginning(path: &Path, count: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(count).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Tells what came of it: the whole story, or each session's part.
fn tell(text: &mut String, played: &Played, with_steps: bool) {
    if with_steps {
        let _ = write!(text, "{played}");
    }
    for session in &played.sessions {
        tell_session(text, session, with_steps);
    }
    if !played.counts.is_empty() {
        text.push_str("counters\n");
        for (name, count) in &played.counts {
            let _ = writeln!(text, "  {name} {count}");
        }
    }
}

/// What the plugin wrote to the log; of one that has panicked, the place in its source.
fn tell_log(text: &mut String, log: &[(Level, String)]) {
    if !log.is_empty() {
        text.push_str("log\n");
    }
    for (level, message) in log {
        let level = format!("{level:?}").to_lowercase();
        let _ = writeln!(text, "  {level}: {message}");
    }
}

fn tell_session(text: &mut String, session: &PlayedSession, is_told: bool) {
    let info = &session.info;
    let start = match info.start_seen {
        true => "",
        false => ", joined late",
    };
    let _ = writeln!(text, "session {} of {}{start}", info.id, info.client);
    let _ = writeln!(text, "  sent {} bytes", session.sent.len());
    if !is_told {
        tell_bytes(text, &session.sent);
    }
    if !session.held.is_empty() {
        let _ = writeln!(text, "  holds {} bytes to the end", session.held.len());
    }
    for Exchange {
        label,
        request,
        outcome,
        is_left_out,
    } in &session.exchanges
    {
        let outcome = match outcome {
            _ if *is_left_out => "left out".to_owned(),
            None => "no end".to_owned(),
            Some((is_ok, number, word)) => {
                let judgement = if *is_ok { "ok" } else { "failed" };
                let number = (*number != 0).then(|| format!(" {number}"));
                let told = format!("{judgement}{} {word}", number.unwrap_or_default());
                told.trim_end().to_owned()
            }
        };
        let _ = writeln!(
            text,
            "  exchange {label}: {} bytes, {outcome}",
            request.len()
        );
    }
    if session.surplus_ends > 0 {
        let _ = writeln!(
            text,
            "  ended {} exchanges more than it began: a mistake of the plugin",
            session.surplus_ends
        );
    }
    if let Some(reason) = &session.refusal {
        let _ = writeln!(text, "  refused: {reason}");
    }
    if session.passed_through {
        text.push_str("  lets the rest pass by\n");
    }
}

/// Lines of at most some bytes, each where a line ends in the stream.
fn tell_bytes(text: &mut String, bytes: &[u8]) {
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
    for line in shown.split_inclusive(|byte| *byte == b'\n') {
        let _ = writeln!(text, "    {}", line.escape_ascii());
    }
    if shown.len() < bytes.len() {
        let _ = writeln!(text, "    … and {} bytes more", bytes.len() - shown.len());
    }
}
