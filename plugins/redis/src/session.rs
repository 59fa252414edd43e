//! One connection: commands go to the target, and its replies end the exchanges.

mod answers;
mod fate;
mod introduction;
mod login;
mod silence;
mod transaction;

use std::borrow::Cow;
use std::fmt;

use plugin_api::{Context, Direction, Outcome, Session, SessionInfo};

use crate::Redis;
use crate::command::{self, Command, GATHERED_BYTES, Parsed, Rest};
use crate::expected::{Expected, ExpectedReplies};
use crate::kind::{Kind, Title};
use crate::memory::{self, Agreed};
use crate::reply::ReplyParser;
use crate::resync::{self, Found};
use crate::rewrite;
use fate::Fate;
use introduction::Introduction;
use login::user_of;
use silence::Silence;
use transaction::Transaction;

/// Why a session can't be replayed.
type Refusal = Cow<'static, str>;

/// The first bytes of a TLS handshake.
const TLS_HANDSHAKE: [u8; 2] = [0x16, 0x03];

/// The largest hole within a long value that is filled, so that the rest of the connection can be
/// replayed.
const FILLED_BYTES: u64 = 1 << 20;

/// What it is filled with.
const FILLER: u8 = b'?';

/// One connection.
pub struct Connection {
    /// Its name in what the sessions share.
    key: Vec<u8>,
    /// A command that has begun, or what may hold the beginning of one.
    begun: Vec<u8>,
    /// There is nothing to be seen in it before it has so many bytes.
    wanted: usize,
    /// The command at hand is too long to be gathered.
    following: Option<Following>,
    /// Where commands begin is not known.
    is_lost: bool,
    /// Some of what the client has said was missed.
    has_missed: bool,
    /// Nothing of the client has come yet.
    is_new: bool,
    /// What the target has to be told before the client's next command.
    introduction: Introduction,
    /// What follows an introduction is held until the target has answered so many parts of it.
    held_for: u32,
    transaction: Option<Transaction>,
    /// The command before was left out: what is sent now would stand in its exchange.
    has_left_out: bool,
    silence: Silence,
    replies: ReplyParser,
    expected: ExpectedReplies,
    /// Who the client's last login is for.
    logging_in: Option<Vec<u8>>,
    agreed: Agreed,
    is_refused: bool,
}

/// It shows nothing that the client has said: that may be a password.
impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("begun_bytes", &self.begun.len())
            .field("following", &self.following)
            .field("is_lost", &self.is_lost)
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

/// A long command whose bytes are sent as they come, or left out.
#[derive(Debug)]
struct Following {
    rest: Rest,
    is_sent: bool,
}

impl Connection {
    pub(crate) fn open(plugin: &mut Redis, info: &SessionInfo, ctx: &mut Context<'_>) -> Self {
        let key = memory::key(info);
        let (agreed, introduction) = if info.start_seen {
            let settings = &plugin.settings;
            let agreed = Agreed::of_new(settings);
            // What nobody has kept anything of was there before the capture, and begins in `db`.
            match settings.database(0) == settings.database(settings.late_db) {
                true => Agreed::forget(&key, ctx),
                false => agreed.keep(&key, ctx),
            }
            (agreed, Introduction::of_new(plugin))
        } else {
            let agreed = Agreed::recall(&key, ctx).unwrap_or_default();
            let introduction = Introduction::of_late(plugin, &agreed);
            (agreed, introduction)
        };
        let mut connection = Self {
            key,
            begun: Vec::new(),
            wanted: 0,
            following: None,
            is_lost: !info.start_seen,
            has_missed: !info.start_seen,
            is_new: true,
            introduction,
            held_for: 0,
            transaction: None,
            has_left_out: false,
            silence: Silence::default(),
            replies: ReplyParser::new(),
            expected: ExpectedReplies::default(),
            logging_in: None,
            agreed,
            is_refused: false,
        };
        // Who joins late has logged in long ago: the connection is ready before its next command.
        if !info.start_seen {
            connection.introduce(Kind::Plain, ctx);
        }
        connection
    }

    fn refuse(&mut self, reason: &str, ctx: &mut Context<'_>) {
        self.is_refused = true;
        ctx.refuse(reason);
    }

    /// Bytes of the client.
    fn hear(
        &mut self,
        plugin: &mut Redis,
        mut bytes: &[u8],
        ctx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        if std::mem::take(&mut self.is_new) && !self.is_lost && is_encrypted(bytes) {
            return Err("encrypted".into());
        }
        if let Some(following) = &mut self.following {
            let length = following.rest.follow(bytes).map_err(malformed)?;
            if following.is_sent {
                ctx.send(&bytes[..length]);
            }
            if following.rest.is_over() {
                self.following = None;
            }
            bytes = &bytes[length..];
        }
        if self.begun.is_empty() {
            let read = self.read(plugin, bytes, ctx)?;
            self.begun.extend_from_slice(&bytes[read..]);
            return Ok(());
        }
        self.begun.extend_from_slice(bytes);
        if self.begun.len() < self.wanted {
            return Ok(());
        }
        let mut begun = std::mem::take(&mut self.begun);
        let read = self.read(plugin, &begun, ctx)?;
        if read < begun.len() {
            begun.drain(..read);
            self.begun = begun;
        }
        Ok(())
    }

    /// Reads commands; answers how many bytes are done with.
    fn read(
        &mut self,
        plugin: &mut Redis,
        bytes: &[u8],
        ctx: &mut Context<'_>,
    ) -> Result<usize, Refusal> {
        let mut at = 0;
        if self.is_lost {
            at = self.find_command(plugin, bytes, ctx);
            if self.is_lost {
                return Ok(at);
            }
        }
        let mut spans = std::mem::take(&mut plugin.spans);
        let mut decoded = Vec::new();
        while at < bytes.len() {
            let here = &bytes[at..];
            let parsed = command::parse(here, &mut spans).map_err(malformed)?;
            match parsed {
                Parsed::Nothing(length) => at += length,
                Parsed::Array(length) | Parsed::Inline(length) => {
                    let command = command::whole(&parsed, here, &mut spans, &mut decoded);
                    if let Some(command) = command.map_err(malformed)? {
                        self.say(plugin, &command, ctx)?;
                    }
                    at += length;
                }
                Parsed::Partial { wanted, count, .. }
                    if here.len() < GATHERED_BYTES
                        && (wanted <= GATHERED_BYTES || spans.len() < 2.min(count as usize)) =>
                {
                    self.wanted = wanted.min(GATHERED_BYTES);
                    break;
                }
                Parsed::Partial { count: 0, .. } => return Err("inline_too_long".into()),
                Parsed::Partial { count, first, .. } => {
                    let mut rest = Rest::of(count);
                    rest.follow(&here[first..]).map_err(malformed)?;
                    let command = command::beginning(here, &spans, count);
                    let is_sent = self.say(plugin, &command, ctx)?;
                    self.following = Some(Following { rest, is_sent });
                    at = bytes.len();
                }
            }
        }
        plugin.spans = spans;
        Ok(at)
    }

    /// Looks for the beginning of a command; answers where it is, or how many bytes it is not in.
    fn find_command(&mut self, plugin: &mut Redis, bytes: &[u8], ctx: &mut Context<'_>) -> usize {
        self.wanted = 0;
        let at = match resync::find(bytes) {
            Found::NotBefore(at) => at,
            Found::At(at) => {
                self.is_lost = false;
                match resync::behind_transaction(&bytes[at..], &mut plugin.spans) {
                    None => at,
                    Some(length) => {
                        ctx.count("joined_inside_multi", 1);
                        at + length
                    }
                }
            }
        };
        if at > 0 {
            ctx.count("bytes_before_boundary", at as u64);
        }
        at
    }

    /// A command of the client; answers whether it is sent.
    fn say(
        &mut self,
        plugin: &mut Redis,
        command: &Command<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<bool, Refusal> {
        let title = Title::of(command);
        let kind = Kind::of(&title, command);
        let dropped_as = plugin.settings.dropped_as(title.name(), title.label());
        if title.is_forbidden() && dropped_as.is_none() {
            return Err(format!("command_{}", as_counter(title.label())).into());
        }
        let fate = match dropped_as {
            Some(entry) => Fate::LeftOut(format!("dropped_{}", as_counter(entry)).into()),
            None => self.fate(plugin, kind, command)?,
        };
        ctx.begin_exchange(plugin.labels.admit(title.label()));
        self.has_left_out = matches!(fate, Fate::LeftOut(_));
        let (words, expected) = match fate {
            Fate::LeftOut(name) => {
                ctx.count(&name, 1);
                return Ok(false);
            }
            Fate::Sent(words, expected) => (words, expected),
        };
        let mut expected = expected;
        match &mut self.transaction {
            // What the plugin said here would be queued, too.
            Some(transaction) => {
                expected = transaction.queue(expected);
                self.note(kind, command);
            }
            None => {
                self.note(kind, command);
                self.introduce(kind, ctx);
            }
        }
        ctx.send(words.as_deref().unwrap_or(command.raw));
        let is_silent = self.silence.swallows(kind);
        if is_silent && matches!(kind, Kind::Subscribe(_)) {
            self.expected.note_silent_topics();
        }
        let expected = if is_silent {
            Expected::Silence
        } else {
            expected
        };
        if !self.expected.push(expected) {
            return Err("too_many_unanswered".into());
        }
        self.end_silences(ctx);
        if kind == Kind::Reset {
            self.introduction = Introduction::of_new(plugin);
        }
        Ok(true)
    }

    /// Remembers what a command that is sent does to the connection.
    fn note(&mut self, kind: Kind, command: &Command<'_>) {
        match kind {
            Kind::Multi => {
                self.transaction.get_or_insert_default();
            }
            Kind::Exec => {
                let user = self.transaction.take().and_then(|it| it.user);
                self.logging_in = user.or(self.logging_in.take());
            }
            Kind::Discard | Kind::Reset => self.transaction = None,
            Kind::Subscribe(_) | Kind::Unsubscribe(_) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.more += command.count.saturating_sub(2);
                    self.expected.note_silent_topics();
                }
            }
            Kind::Auth | Kind::Hello => {
                let Some(user) = user_of(kind, command).map(<[u8]>::to_vec) else {
                    return;
                };
                match &mut self.transaction {
                    Some(transaction) => transaction.user = Some(user),
                    None => {
                        self.logging_in = Some(user);
                        self.introduction.account = None;
                    }
                }
            }
            _ => {}
        }
    }

    /// Ends the exchanges that have no answer, as far as nothing before them waits for one.
    fn end_silences(&mut self, ctx: &mut Context<'_>) {
        while self.expected.first() == Some(Expected::Silence) {
            self.expected.pop();
            ctx.count("commands_without_reply", 1);
            ctx.end_exchange(Outcome::ok());
        }
    }

    /// Ends the target's transaction.
    fn discard(&mut self, ctx: &mut Context<'_>) {
        let is_exchange = std::mem::take(&mut self.has_left_out);
        if is_exchange {
            ctx.begin_exchange("DISCARD");
        }
        let mut words = Vec::new();
        rewrite::write_words(&mut words, &[b"DISCARD"]);
        ctx.send(&words);
        let is_silent = self.silence.swallows(Kind::Discard);
        self.expected.push(match (is_exchange, is_silent) {
            (true, true) => Expected::Silence,
            (true, false) => Expected::Answer,
            (false, false) => Expected::OwnDiscard,
            (false, true) => return,
        });
        self.end_silences(ctx);
    }

    /// What the client says next may be anywhere in a command.
    fn lose(&mut self, missing: Option<u64>, ctx: &mut Context<'_>) -> Result<(), Refusal> {
        ctx.count("gaps", 1);
        if let Some(following) = &mut self.following
            && let Some(missing) = missing.filter(|missing| *missing <= FILLED_BYTES)
            && following.rest.pass_over(missing)
        {
            if following.is_sent {
                ctx.count("bytes_made_up", missing);
                ctx.send(&vec![FILLER; usize::try_from(missing).unwrap_or(0)]);
            }
            return Ok(());
        }
        if self.following.take().is_some_and(|it| it.is_sent) {
            return Err("gap_inside_command".into());
        }
        self.begun = Vec::new();
        self.is_lost = true;
        self.has_missed = true;
        // What is missing may be the transaction's end; it would swallow all that follows.
        if self.transaction.take().is_some() {
            ctx.count("transactions_cut", 1);
            self.discard(ctx);
        }
        Ok(())
    }
}

impl Session<Redis> for Connection {
    fn on_client(&mut self, plugin: &mut Redis, bytes: &[u8], ctx: &mut Context<'_>) {
        if !self.is_refused
            && let Err(reason) = self.hear(plugin, bytes, ctx)
        {
            self.refuse(&reason, ctx);
        }
    }

    fn on_target(&mut self, plugin: &mut Redis, bytes: &[u8], ctx: &mut Context<'_>) {
        if !self.is_refused
            && let Err(reason) = self.hear_target(plugin, bytes, ctx)
        {
            self.refuse(&reason, ctx);
        }
    }

    fn on_gap(
        &mut self,
        _plugin: &mut Redis,
        direction: Direction,
        missing: Option<u64>,
        ctx: &mut Context<'_>,
    ) {
        if direction == Direction::Client
            && !self.is_refused
            && let Err(reason) = self.lose(missing, ctx)
        {
            self.refuse(&reason, ctx);
        }
    }

    fn on_target_end(&mut self, _plugin: &mut Redis, ctx: &mut Context<'_>) {
        let unanswered = self.expected.open();
        if unanswered > 0 {
            ctx.count("unanswered", unanswered);
        }
    }
}

/// A command's name as part of a counter's.
fn as_counter(label: &str) -> String {
    label.to_ascii_lowercase().replace(' ', "_")
}

fn is_encrypted(bytes: &[u8]) -> bool {
    bytes.starts_with(&TLS_HANDSHAKE) || bytes == &TLS_HANDSHAKE[..1]
}

fn malformed(_: command::Malformed) -> Refusal {
    "malformed_command".into()
}
