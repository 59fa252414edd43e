//! What becomes of a command, and what the target owes for it.

use std::borrow::Cow;

use super::login::login;
use super::{Connection, Refusal};
use crate::Redis;
use crate::command::{Command, GATHERED_BYTES};
use crate::expected::{Changes, Expected};
use crate::kind::Kind;
use crate::rewrite;

/// What becomes of a command.
pub(super) enum Fate {
    /// It is sent, perhaps in other words, and owes this.
    Sent(Option<Vec<u8>>, Expected),
    /// It is left out, and counted under this name.
    LeftOut(Cow<'static, str>),
}

impl Connection {
    /// What becomes of a command that the configuration does not drop.
    pub(super) fn fate(
        &self,
        plugin: &Redis,
        kind: Kind,
        command: &Command<'_>,
    ) -> Result<Fate, Refusal> {
        let settings = &plugin.settings;
        let is_whole = command.is_whole() && command.raw.len() <= GATHERED_BYTES;
        let needs_all = match kind {
            Kind::Auth | Kind::Hello | Kind::Select => true,
            Kind::Databases => settings.maps_databases(),
            Kind::Blocking(_) => settings.block_limit_ms.is_some(),
            _ => false,
        };
        if needs_all && !is_whole {
            return Err("command_too_long".into());
        }
        let words = match kind {
            Kind::Auth | Kind::Hello => return login(&settings.accounts, kind, command),
            Kind::Select => {
                let Some(origin) = command.number(1).filter(|_| command.count == 2) else {
                    return Ok(Fate::Sent(None, Expected::Answer));
                };
                let target = settings.database(origin);
                let mut words = Vec::new();
                rewrite::select(&mut words, target);
                let words = (target != origin).then_some(words);
                return Ok(Fate::Sent(words, Expected::Selected(target)));
            }
            Kind::ReplyOn | Kind::ReplyOff | Kind::ReplySkip if self.transaction.is_some() => {
                return Err("client_reply_in_multi".into());
            }
            Kind::Exec | Kind::Discard if self.has_missed && self.transaction.is_none() => {
                return Ok(Fate::LeftOut("exec_without_multi".into()));
            }
            Kind::Databases if settings.maps_databases() => rewrite::databases(command, settings),
            Kind::Blocking(wait) => settings
                .block_limit_ms
                .and_then(|limit| rewrite::blocking(command, wait, limit)),
            _ => None,
        };
        Ok(Fate::Sent(words, self.owed(kind, command)))
    }

    /// What the target owes for a command.
    fn owed(&self, kind: Kind, command: &Command<'_>) -> Expected {
        let topics = command.count.saturating_sub(1);
        match kind {
            Kind::Reset => Expected::Reset,
            Kind::Monitor => Expected::Monitor,
            Kind::Exec => {
                let transaction = self.transaction.as_ref();
                Expected::Transaction {
                    more: transaction.map_or(0, |it| it.more),
                    queued: transaction.map_or(Changes::default(), |it| it.queued),
                }
            }
            Kind::Subscribe(topic) if topics > 0 && self.transaction.is_none() => {
                Expected::Topics {
                    topic,
                    joins: true,
                    left: topics,
                }
            }
            Kind::Unsubscribe(topic) if self.transaction.is_none() => match topics {
                0 => Expected::AllTopics(topic),
                left => Expected::Topics {
                    topic,
                    joins: false,
                    left,
                },
            },
            _ => Expected::Answer,
        }
    }
}
