//! What the plugin tells the target by itself.

use plugin_api::Context;

use super::Connection;
use crate::Redis;
use crate::accounts::Account;
use crate::expected::Expected;
use crate::kind::Kind;
use crate::memory::Agreed;
use crate::rewrite;

/// What the target has to be told before the client's next command.
#[derive(Debug, Default)]
pub(super) struct Introduction {
    /// Who logs in.
    pub(super) account: Option<Account>,
    pub(super) is_resp3: bool,
    /// The target's number.
    pub(super) database: Option<u64>,
}

impl Introduction {
    fn is_empty(&self) -> bool {
        self.account.is_none() && !self.is_resp3 && self.database.is_none()
    }

    /// What the target is told of a connection that begins.
    pub(super) fn of_new(plugin: &Redis) -> Self {
        let database = plugin.settings.database(0);
        Self {
            account: plugin.settings.accounts.of_the_silent().cloned(),
            is_resp3: false,
            database: (database != 0).then_some(database),
        }
    }

    /// What the target is told of a connection of which only the end is replayed.
    pub(super) fn of_late(plugin: &Redis, agreed: &Agreed) -> Self {
        let settings = &plugin.settings;
        let account = match &agreed.user {
            Some(user) => settings.accounts.of(user),
            None => settings.accounts.of_the_silent(),
        };
        let database = agreed.database;
        let database = database.unwrap_or_else(|| settings.database(settings.late_db));
        Self {
            account: account.cloned(),
            is_resp3: agreed.is_resp3,
            database: (database != 0).then_some(database),
        }
    }
}

impl Connection {
    /// Tells the target what it has to know before a command of this kind, and holds that back until
    /// the target has agreed.
    ///
    /// A hold begins where the output ends, so there can't be a second one behind the first: where a
    /// client is so far ahead that the target has not agreed to the last introduction, the next one
    /// goes without. The target takes commands in their order anyway; a hold only keeps those from
    /// it that would fail.
    pub(super) fn introduce(&mut self, kind: Kind, ctx: &mut Context<'_>) {
        if matches!(kind, Kind::Quit | Kind::Reset) {
            return;
        }
        if self.introduction.is_empty() {
            return;
        }
        let is_agreed = !self.expected.has_introduction();
        let mut words = Vec::new();
        let mut answers = 0;
        if let Some(account) = self.introduction.account.take() {
            rewrite::auth(&mut words, &account);
            self.expected.push(Expected::OwnLogin);
            answers += 1;
            ctx.count("logins_added", 1);
        }
        if std::mem::take(&mut self.introduction.is_resp3) {
            rewrite::write_words(&mut words, &[b"HELLO", b"3"]);
            self.expected.push(Expected::OwnHello);
            answers += 1;
        }
        if !matches!(kind, Kind::Auth | Kind::Hello)
            && let Some(database) = self.introduction.database.take()
        {
            rewrite::select(&mut words, database);
            self.expected.push(Expected::OwnSelect);
            answers += 1;
            ctx.count("selects_added", 1);
        }
        if !words.is_empty() {
            ctx.send(&words);
        }
        if is_agreed && answers > 0 {
            ctx.hold();
            self.held_for = answers;
        }
    }

    /// The target has agreed to a part of an introduction.
    pub(super) fn agreed_to_introduction(&mut self, ctx: &mut Context<'_>) {
        if self.held_for == 1 {
            ctx.release();
        }
        self.held_for = self.held_for.saturating_sub(1);
    }
}
