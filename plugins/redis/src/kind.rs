//! What a command means for the connection that it is said on.

use crate::command::Command;

/// The longest name of a command or subcommand that is looked at, in bytes.
const NAME_BYTES: usize = 32;

/// Commands whose first argument says what they do.
const CONTAINERS: [&str; 17] = [
    "ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DEBUG", "FUNCTION", "LATENCY", "MEMORY",
    "MODULE", "OBJECT", "PUBSUB", "SCRIPT", "SENTINEL", "SLOWLOG", "XGROUP", "XINFO",
];

/// Commands that are never replayed: they stop the target, make it another's replica, or let it
/// talk to other servers, which would be those of the origin.
const NEVER: [&str; 12] = [
    "SHUTDOWN",
    "REPLICAOF",
    "SLAVEOF",
    "SYNC",
    "PSYNC",
    "REPLCONF",
    "FAILOVER",
    "MIGRATE",
    "CLUSTER MEET",
    "CLUSTER REPLICATE",
    "CLUSTER FAILOVER",
    "CLUSTER RESET",
];

/// Whether a command's first argument says what it does; its name is in capitals.
pub(crate) fn has_subcommands(name: &str) -> bool {
    CONTAINERS.contains(&name)
}

/// What a command is called: `GET`, or `CLIENT SETINFO` with its subcommand.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Title {
    text: String,
    name: usize,
}

impl Title {
    /// The title of a command; without text where its name is none.
    pub(crate) fn of(command: &Command<'_>) -> Self {
        let mut text = String::with_capacity(NAME_BYTES);
        push_upper(command.arg(0), &mut text);
        let name = text.len();
        if has_subcommands(&text) {
            text.push(' ');
            if !push_upper(command.arg(1), &mut text) {
                text.truncate(name);
            }
        }
        Self { text, name }
    }

    /// The name alone.
    pub(crate) fn name(&self) -> &str {
        &self.text[..self.name]
    }

    /// The name, with its subcommand where it is a container of several.
    pub(crate) fn label(&self) -> &str {
        &self.text
    }

    /// Whether it is never replayed.
    pub(crate) fn is_forbidden(&self) -> bool {
        NEVER.contains(&self.label())
    }
}

fn push_upper(word: Option<&[u8]>, text: &mut String) -> bool {
    let is_sound = |word: &&[u8]| {
        (1..=NAME_BYTES).contains(&word.len()) && word.iter().all(u8::is_ascii_graphic)
    };
    let Some(word) = word.filter(is_sound) else {
        return false;
    };
    text.extend(
        word.iter()
            .map(|byte| char::from(byte.to_ascii_uppercase())),
    );
    true
}

/// Which of the three sets of subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Channel,
    Pattern,
    Shard,
}

/// What a command does to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: it has one answer.
    Plain,
    Auth,
    Hello,
    Select,
    Reset,
    Quit,
    Multi,
    Exec,
    Discard,
    Monitor,
    /// `CLIENT REPLY`.
    ReplyOn,
    ReplyOff,
    ReplySkip,
    /// One answer for each topic.
    Subscribe(Topic),
    Unsubscribe(Topic),
    /// It names databases by number: `MOVE`, `SWAPDB`, `COPY`.
    Databases,
    /// It waits for something.
    Blocking(Wait),
}

/// Where a blocking command says how long it waits, and in what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Seconds, in the last argument.
    LastSeconds,
    /// Seconds, in the first.
    FirstSeconds,
    /// Milliseconds, in the last.
    LastMillis,
    /// Milliseconds, behind the word `BLOCK`.
    Block,
}

impl Kind {
    /// What `command` does, by its title.
    pub(crate) fn of(title: &Title, command: &Command<'_>) -> Self {
        match title.name() {
            "AUTH" => Self::Auth,
            "HELLO" => Self::Hello,
            "SELECT" => Self::Select,
            "MULTI" | "EXEC" | "DISCARD" | "RESET" | "MONITOR" if command.count != 1 => Self::Plain,
            "RESET" => Self::Reset,
            "QUIT" => Self::Quit,
            "MULTI" => Self::Multi,
            "EXEC" => Self::Exec,
            "DISCARD" => Self::Discard,
            "MONITOR" => Self::Monitor,
            "CLIENT" if title.label() == "CLIENT REPLY" => match command {
                _ if command.count != 3 => Self::Plain,
                _ if command.is(2, "on") => Self::ReplyOn,
                _ if command.is(2, "off") => Self::ReplyOff,
                _ if command.is(2, "skip") => Self::ReplySkip,
                _ => Self::Plain,
            },
            "SUBSCRIBE" => Self::Subscribe(Topic::Channel),
            "PSUBSCRIBE" => Self::Subscribe(Topic::Pattern),
            "SSUBSCRIBE" => Self::Subscribe(Topic::Shard),
            "UNSUBSCRIBE" => Self::Unsubscribe(Topic::Channel),
            "PUNSUBSCRIBE" => Self::Unsubscribe(Topic::Pattern),
            "SUNSUBSCRIBE" => Self::Unsubscribe(Topic::Shard),
            "MOVE" | "SWAPDB" | "COPY" => Self::Databases,
            "BLPOP" | "BRPOP" | "BRPOPLPUSH" | "BLMOVE" | "BZPOPMIN" | "BZPOPMAX" => {
                Self::Blocking(Wait::LastSeconds)
            }
            "BLMPOP" | "BZMPOP" => Self::Blocking(Wait::FirstSeconds),
            "WAIT" | "WAITAOF" => Self::Blocking(Wait::LastMillis),
            "XREAD" | "XREADGROUP" => Self::Blocking(Wait::Block),
            _ => Self::Plain,
        }
    }
}
