//! One replayed connection: requests as they come, answers compared.

use std::collections::VecDeque;
use std::time::Duration;

use plugin_api::{Context, Outcome, Session, SessionInfo};

use crate::Notes;
use crate::lines::Lines;

/// How long the number that a note has at the target is remembered.
const NOTE_LIFE: Duration = Duration::from_secs(3600);

/// How long a request waits for such a number. The target may answer a little later than the origin.
const PATIENCE: Duration = Duration::from_secs(1);

/// One replayed connection.
#[derive(Debug)]
pub struct Connection {
    client: Lines,
    origin: Lines,
    target: Lines,
    /// Captured from its beginning: the first answer of both servers is to the same request.
    is_whole: bool,
    /// Answers whose counterpart has not come yet.
    of_origin: VecDeque<Vec<u8>>,
    of_target: VecDeque<Vec<u8>>,
    /// Requests not sent yet: the first waits for a number, the others for the first.
    requests: VecDeque<Vec<u8>>,
    is_waiting: bool,
}

impl Session<Notes> for Connection {
    fn on_client(&mut self, plugin: &mut Notes, bytes: &[u8], ctx: &mut Context<'_>) {
        self.requests.extend(self.client.add(bytes, ctx));
        self.send(plugin, ctx);
    }

    fn on_origin(&mut self, _plugin: &mut Notes, bytes: &[u8], ctx: &mut Context<'_>) {
        let answers = self.origin.add(bytes, ctx);
        if self.is_whole {
            self.of_origin.extend(answers);
            self.learn(ctx);
        }
    }

    fn on_target(&mut self, _plugin: &mut Notes, bytes: &[u8], ctx: &mut Context<'_>) {
        for answer in self.target.add(bytes, ctx) {
            match answer.starts_with(b"ERR") {
                true => ctx.end_exchange(Outcome::failed()),
                false => ctx.end_exchange(Outcome::ok()),
            }
            if self.is_whole {
                self.of_target.push_back(answer);
            }
        }
        self.learn(ctx);
    }

    fn on_shared(
        &mut self,
        plugin: &mut Notes,
        _key: &[u8],
        number: Option<&[u8]>,
        ctx: &mut Context<'_>,
    ) {
        let request = self.requests.pop_front().unwrap_or_default();
        ctx.begin_exchange("GET");
        match number {
            Some(number) => ctx.send(&[b"GET ", number, b"\r\n"].concat()),
            None => {
                ctx.count("notes_unknown", 1);
                ctx.send(&request);
            }
        }
        ctx.release();
        self.is_waiting = false;
        self.send(plugin, ctx);
    }
}

impl Connection {
    pub(crate) fn new(info: &SessionInfo) -> Self {
        Self {
            client: Lines::new(info.start_seen),
            origin: Lines::new(info.start_seen),
            target: Lines::new(true),
            is_whole: info.start_seen,
            of_origin: VecDeque::new(),
            of_target: VecDeque::new(),
            requests: VecDeque::new(),
            is_waiting: false,
        }
    }

    /// Sends requests, with what is another at the target, up to one that has to wait.
    fn send(&mut self, plugin: &Notes, ctx: &mut Context<'_>) {
        while let (false, Some(request)) = (self.is_waiting, self.requests.front()) {
            let text = String::from_utf8_lossy(request);
            match *text.split_ascii_whitespace().collect::<Vec<_>>() {
                ["AUTH", user, _password] => {
                    ctx.begin_exchange("AUTH");
                    ctx.send(format!("AUTH {user} {}\r\n", plugin.password).as_bytes());
                }
                ["GET", number] => {
                    ctx.hold();
                    ctx.share().wait(number.as_bytes(), PATIENCE);
                    self.is_waiting = true;
                    return;
                }
                _ => {
                    ctx.begin_exchange("other");
                    ctx.send(request);
                }
            }
            self.requests.pop_front();
        }
    }

    /// Compares the answers to the same request: how does the target call a note of the origin?
    fn learn(&mut self, ctx: &mut Context<'_>) {
        while !self.of_origin.is_empty() && !self.of_target.is_empty() {
            let origin = self.of_origin.pop_front().unwrap_or_default();
            let target = self.of_target.pop_front().unwrap_or_default();
            if let (Some(origin), Some(target)) = (stored(&origin), stored(&target)) {
                ctx.share().set(origin, target, NOTE_LIFE);
                ctx.count("notes_learnt", 1);
            }
        }
    }
}

/// The number in `STORED 17`.
fn stored(answer: &[u8]) -> Option<&[u8]> {
    Some(answer.strip_prefix(b"STORED ")?.trim_ascii_end())
}
