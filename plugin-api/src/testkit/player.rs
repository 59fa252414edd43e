//! Plays a transcript: a model of what tcpcopy does between its streams and a plugin.

use std::fmt::Write;
use std::time::Duration;

use thiserror::Error;

use super::escape::escape;
use super::{Exchange, Opening, Played, PlayedSession, Step, Transcript};
use crate::abi::{Action, Actions, Event, MalformedAction};
use crate::{Direction, Needs, Outcome, SessionInfo};

/// How many calls one step may lead to before it is called endless.
const CALLS_OF_A_STEP: usize = 100_000;

/// The shortest time of a timer.
const MIN_TIMER: Duration = Duration::from_millis(1);

/// What a transcript can be played to: a plugin in this process, or one that a host has loaded.
///
/// The answers are [actions](crate::abi::Actions); an error is the end of the whole.
///
/// ```
/// use std::time::Duration;
/// use plugin_api::abi::{Action, ActionBuffer, Event};
/// use plugin_api::testkit::{Subject, Transcript, play};
/// use plugin_api::{Needs, SessionInfo};
///
/// /// Answers everything with a full stop.
/// struct Dots;
///
/// impl Subject for Dots {
///     fn open(&mut self, _: Duration, _: &SessionInfo) -> Result<Vec<u8>, String> {
///         Ok(Vec::new())
///     }
///     fn event(&mut self, _: Duration, _: u64, _: Event<'_>) -> Result<Vec<u8>, String> {
///         let mut actions = ActionBuffer::new();
///         actions.push(Action::Send(b"."));
///         Ok(actions.take())
///     }
///     fn close(&mut self, _: u64) -> Result<(), String> {
///         Ok(())
///     }
///     fn shared(&mut self, _: Duration, _: &[u8]) -> Option<Vec<u8>> {
///         None
///     }
/// }
///
/// let transcript: Transcript = "C: a\nC: b\nC end\n".parse()?;
/// assert_eq!(play(&mut Dots, Needs::NONE, &transcript)?.sent(), b"...");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Subject {
    /// Opens a session.
    ///
    /// # Errors
    /// What became of the plugin, in words.
    fn open(&mut self, now: Duration, info: &SessionInfo) -> Result<Vec<u8>, String>;

    /// Tells an open session what happens.
    ///
    /// # Errors
    /// What became of the plugin, in words.
    fn event(&mut self, now: Duration, session: u64, event: Event<'_>) -> Result<Vec<u8>, String>;

    /// Closes a session.
    ///
    /// # Errors
    /// What became of the plugin, in words.
    fn close(&mut self, session: u64) -> Result<(), String>;

    /// Looks into the shared map, for sessions that wait for a value.
    fn shared(&mut self, now: Duration, key: &[u8]) -> Option<Vec<u8>>;
}

/// Why a transcript could not be played to its end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlayError {
    /// The plugin does not take the configuration.
    #[error("configuration: {0}")]
    Config(String),
    /// The plugin has failed.
    #[error("step {step}: the plugin failed: {failure}")]
    Failed {
        /// At which step of the transcript, from 1.
        step: usize,
        /// What became of it.
        failure: String,
    },
    /// The plugin's answer is no list of actions.
    #[error("step {step}: {problem}")]
    Malformed {
        /// At which step of the transcript, from 1.
        step: usize,
        /// What is wrong with it.
        problem: MalformedAction,
    },
    /// Waits and timers of no duration follow each other for ever.
    #[error("step {step}: the plugin sets timers or waits without end")]
    Endless {
        /// At which step of the transcript, from 1.
        step: usize,
    },
    /// The transcript goes on with a session that it has closed.
    #[error("step {step}: session {session} is closed")]
    Closed {
        /// At which step of the transcript, from 1.
        step: usize,
        /// Which session.
        session: u64,
    },
}

/// Plays a transcript to a plugin of these needs. [`run`](super::run) does it for a plugin in this
/// process.
///
/// # Errors
/// When the plugin fails, or the transcript goes on with a session that it has closed.
pub fn play(
    subject: &mut dyn Subject,
    needs: Needs,
    transcript: &Transcript,
) -> Result<Played, PlayError> {
    let mut player = Player {
        subject,
        needs,
        now: Duration::ZERO,
        step: 0,
        calls: 0,
        live: Vec::new(),
        played: Played::default(),
    };
    let mut current = None;
    for (at, step) in transcript.steps.iter().enumerate() {
        (player.step, player.calls) = (at + 1, 0);
        if let Step::Session(opening) = step {
            current = Some(player.enter(opening)?);
            continue;
        }
        let at = match current {
            Some(at) => at,
            None => player.enter(&Opening::new(1))?,
        };
        current = Some(at);
        player.step(at, step)?;
    }
    for at in 0..player.live.len() {
        player.close(at)?;
    }
    Ok(player.played)
}

struct Player<'a> {
    subject: &'a mut dyn Subject,
    needs: Needs,
    now: Duration,
    step: usize,
    calls: usize,
    /// What is still to come, for each of the played sessions.
    live: Vec<Live>,
    played: Played,
}

#[derive(Default)]
struct Live {
    is_closed: bool,
    is_holding: bool,
    /// The call was not about the client's stream, and has begun no exchange: what it sends goes
    /// ahead of what is held.
    is_ahead: bool,
    timer: Option<Duration>,
    waits: Vec<(Vec<u8>, Duration)>,
}

/// Something that is due at a session.
enum Due {
    Timer,
    Wait(usize),
}

impl Player<'_> {
    /// Goes on with a session, which opens when it is new.
    fn enter(&mut self, opening: &Opening) -> Result<usize, PlayError> {
        self.tell(&opening.to_string());
        let sessions = &self.played.sessions;
        if let Some(at) = sessions.iter().position(|it| it.info.id == opening.id) {
            return Ok(at);
        }
        let info = opening.info();
        let answer = self.subject.open(self.now, &info);
        self.played.sessions.push(PlayedSession::new(info));
        self.live.push(Live::default());
        let at = self.live.len() - 1;
        self.take(at, answer)?;
        self.settle()?;
        Ok(at)
    }

    fn step(&mut self, at: usize, step: &Step) -> Result<(), PlayError> {
        if let Step::After(time) = step {
            self.tell(&step.to_string());
            return self.wait(*time);
        }
        if self.live[at].is_closed {
            let session = self.played.sessions[at].info.id;
            return Err(PlayError::Closed {
                step: self.step,
                session,
            });
        }
        match step {
            Step::Close => return self.close(at),
            Step::Data { direction, bytes } => {
                self.tell(&step.to_string());
                if *direction == Direction::Client && self.played.sessions[at].passed_through {
                    self.live[at].is_ahead = false;
                    self.send(at, bytes);
                } else if self.wants(*direction) {
                    let (direction, bytes) = (*direction, bytes.as_slice());
                    self.call(at, Event::Data { direction, bytes })?;
                }
            }
            Step::Gap { direction, missing } => {
                self.tell(&step.to_string());
                if self.wants(*direction) {
                    let (direction, missing) = (*direction, *missing);
                    self.call(at, Event::Gap { direction, missing })?;
                }
            }
            Step::End { direction } => {
                self.tell(&step.to_string());
                let direction = *direction;
                // That the target goes away concerns everybody.
                if self.wants(direction) || direction == Direction::Target {
                    self.call(at, Event::End { direction })?;
                }
            }
            Step::Session(_) | Step::After(_) => {}
        }
        self.settle()
    }

    fn close(&mut self, at: usize) -> Result<(), PlayError> {
        if self.live[at].is_closed {
            return Ok(());
        }
        let session = self.played.sessions[at].info.id;
        match self.live.len() {
            1 => self.tell("close"),
            _ => self.tell(&format!("close {session}")),
        }
        self.played.sessions[at].leave_out_unsent();
        self.live[at] = Live {
            is_closed: true,
            ..Live::default()
        };
        let closed = self.subject.close(session);
        closed.map_err(|failure| self.failed(failure))
    }

    fn wants(&self, direction: Direction) -> bool {
        match direction {
            Direction::Client => true,
            Direction::Origin => self.needs.origin,
            Direction::Target => self.needs.target,
        }
    }

    /// Lets time go by, with all that is due on the way.
    fn wait(&mut self, time: Duration) -> Result<(), PlayError> {
        let end = self.now + time;
        while let Some((due, at, what)) = self.next_due().filter(|next| next.0 <= end) {
            self.now = self.now.max(due);
            match what {
                Due::Timer => {
                    self.live[at].timer = None;
                    self.call(at, Event::Timer)?;
                }
                Due::Wait(wait) => {
                    let (key, _) = self.live[at].waits.remove(wait);
                    self.call(
                        at,
                        Event::Shared {
                            key: &key,
                            value: None,
                        },
                    )?;
                }
            }
            self.settle()?;
        }
        self.now = end;
        Ok(())
    }

    fn next_due(&self) -> Option<(Duration, usize, Due)> {
        let of_session = |(at, live): (usize, &Live)| {
            let timer = live.timer.map(|due| (due, at, Due::Timer));
            let waits = live.waits.iter().enumerate();
            let waits = waits.map(move |(wait, (_, due))| (*due, at, Due::Wait(wait)));
            timer.into_iter().chain(waits).collect::<Vec<_>>()
        };
        let all = self.live.iter().enumerate().flat_map(of_session);
        all.min_by_key(|(due, at, _)| (*due, *at))
    }

    /// Gives those who wait for a shared value the values that are there.
    fn settle(&mut self) -> Result<(), PlayError> {
        let mut at = 0;
        while at < self.live.len() {
            let waits = self.live[at].waits.iter().enumerate();
            let found = waits.into_iter().find_map(|(wait, (key, _))| {
                let value = self.subject.shared(self.now, key)?;
                Some((wait, value))
            });
            let Some((wait, value)) = found else {
                at += 1;
                continue;
            };
            let (key, _) = self.live[at].waits.remove(wait);
            let value = Some(value.as_slice());
            self.call(at, Event::Shared { key: &key, value })?;
            // What the call set may be what an earlier session waits for.
            at = 0;
        }
        Ok(())
    }

    fn call(&mut self, at: usize, event: Event<'_>) -> Result<(), PlayError> {
        let session = &self.played.sessions[at];
        if session.refusal.is_some() || session.passed_through {
            return Ok(());
        }
        self.calls += 1;
        if self.calls > CALLS_OF_A_STEP {
            return Err(PlayError::Endless { step: self.step });
        }
        let id = session.info.id;
        match event {
            Event::Timer => self.tell(&format!("timer {id}")),
            Event::Shared { key, value: None } => {
                self.tell(&format!("waited in vain {id}: {}", escape(key)));
            }
            Event::Shared {
                key,
                value: Some(value),
            } => {
                self.tell(&format!("shared {id}: {} = {}", escape(key), escape(value)));
            }
            Event::Data { .. } | Event::Gap { .. } | Event::End { .. } => {}
        }
        self.live[at].is_ahead = !is_of_client(event);
        let answer = self.subject.event(self.now, id, event);
        self.take(at, answer)
    }

    /// Does what the plugin asks for.
    fn take(&mut self, at: usize, answer: Result<Vec<u8>, String>) -> Result<(), PlayError> {
        let answer = answer.map_err(|failure| self.failed(failure))?;
        for action in Actions::new(&answer) {
            let step = self.step;
            let action = action.map_err(|problem| PlayError::Malformed { step, problem })?;
            if self.played.sessions[at].refusal.is_some() {
                break;
            }
            self.act(at, action);
        }
        Ok(())
    }

    fn act(&mut self, at: usize, action: Action<'_>) {
        self.tell(&format!("    {}", Line(&action)));
        let (session, live) = (&mut self.played.sessions[at], &mut self.live[at]);
        match action {
            Action::Send(bytes) => self.send(at, bytes),
            Action::BeginExchange { label } => {
                live.is_ahead = false;
                session.leave_out_unsent();
                session.exchanges.push(Exchange {
                    label: label.to_owned(),
                    request: Vec::new(),
                    outcome: None,
                    is_left_out: false,
                });
            }
            Action::EndExchange(Outcome { ok, status, label }) => {
                let open = |it: &&mut Exchange| it.outcome.is_none() && !it.is_left_out;
                match session.exchanges.iter_mut().find(open) {
                    Some(oldest) => oldest.outcome = Some((ok, status, label.to_owned())),
                    None => session.surplus_ends += 1,
                }
            }
            Action::Hold => live.is_holding = true,
            Action::Release => {
                live.is_holding = false;
                session.sent.append(&mut session.held);
            }
            Action::Refuse { reason } => {
                session.refusal = Some(reason.to_owned());
                (live.timer, live.waits) = (None, Vec::new());
            }
            Action::Count { name, n } => {
                *self.played.counts.entry(name.to_owned()).or_default() += n;
            }
            Action::Timer { after } => {
                live.timer = Some(self.now.saturating_add(after.max(MIN_TIMER)));
            }
            Action::PassThrough => {
                session.passed_through = true;
                (live.timer, live.waits) = (None, Vec::new());
            }
            Action::Wait { key, timeout } => {
                let until = self.now.saturating_add(timeout);
                live.waits.push((key.to_vec(), until));
            }
        }
    }

    fn send(&mut self, at: usize, bytes: &[u8]) {
        let (session, live) = (&mut self.played.sessions[at], &self.live[at]);
        match live.is_holding && !live.is_ahead {
            true => session.held.extend_from_slice(bytes),
            false => session.sent.extend_from_slice(bytes),
        }
        let mut exchanges = session.exchanges.iter_mut();
        let exchange = match live.is_ahead {
            // It belongs to what is under way.
            true => exchanges.find(|it| it.outcome.is_none() && !it.is_left_out),
            false => exchanges.next_back(),
        };
        if let Some(exchange) = exchange {
            exchange.request.extend_from_slice(bytes);
        }
    }

    fn failed(&self, failure: String) -> PlayError {
        PlayError::Failed {
            step: self.step,
            failure,
        }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.played.story, "{line}").expect("a string takes everything");
    }
}

/// Whether a call is about the client's stream: what it sends goes in order.
fn is_of_client(event: Event<'_>) -> bool {
    matches!(
        event,
        Event::Data {
            direction: Direction::Client,
            ..
        } | Event::Gap {
            direction: Direction::Client,
            ..
        } | Event::End {
            direction: Direction::Client
        }
    )
}

/// An action as a line of the story.
struct Line<'a>(&'a Action<'a>);

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Action::Send(bytes) => write!(formatter, "send: {}", escape(bytes)),
            Action::BeginExchange { label } => write!(formatter, "begin: {label}"),
            Action::EndExchange(Outcome { ok, status, label }) => {
                let ok = if *ok { "ok" } else { "failed" };
                let line = format!("end: {ok} {status} {label}");
                formatter.write_str(line.trim_end())
            }
            Action::Hold => formatter.write_str("hold"),
            Action::Release => formatter.write_str("release"),
            Action::Refuse { reason } => write!(formatter, "refuse: {reason}"),
            Action::Count { name, n } => write!(formatter, "count: {name} {n}"),
            Action::Timer { after } => write!(formatter, "timer: {after:?}"),
            Action::PassThrough => formatter.write_str("pass through"),
            Action::Wait { key, timeout } => {
                write!(formatter, "wait {timeout:?}: {}", escape(key))
            }
        }
    }
}
