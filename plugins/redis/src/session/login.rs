//! What becomes of `AUTH` and `HELLO`.

use super::Refusal;
use super::fate::Fate;
use crate::accounts::{Accounts, DEFAULT_USER};
use crate::command::Command;
use crate::expected::Expected;
use crate::kind::Kind;
use crate::rewrite;

/// What becomes of `AUTH` and `HELLO`.
pub(super) fn login(
    accounts: &Accounts,
    kind: Kind,
    command: &Command<'_>,
) -> Result<Fate, Refusal> {
    let protocol = match kind {
        // What is no version is turned down like one that is not known.
        Kind::Hello if command.count > 1 => {
            let version = command.number(1).and_then(|it| u8::try_from(it).ok());
            Some(version.unwrap_or(0))
        }
        _ => None,
    };
    let sent = |words, is_mapped| {
        let expected = Expected::Login {
            is_mapped,
            protocol,
        };
        Ok(Fate::Sent(words, expected))
    };
    let clause = rewrite::auth_clause(command);
    let Some(user) = user_of(kind, command) else {
        return sent(None, false);
    };
    match (accounts, clause) {
        (Accounts::Pass, _) => sent(None, false),
        (Accounts::Drop, Some(clause)) if kind == Kind::Hello => {
            sent(Some(rewrite::hello(command, clause, None)), false)
        }
        (Accounts::Drop, _) => Ok(Fate::LeftOut("logins_dropped".into())),
        (Accounts::Map { .. }, clause) => {
            let account = accounts.of(user).ok_or("no_account")?;
            let words = match clause.filter(|_| kind == Kind::Hello) {
                Some(clause) => rewrite::hello(command, clause, Some(account)),
                None => {
                    let mut words = Vec::new();
                    rewrite::auth(&mut words, account);
                    words
                }
            };
            sent(Some(words), true)
        }
    }
}

/// Who a command logs in, if it does.
pub(super) fn user_of<'a>(kind: Kind, command: &Command<'a>) -> Option<&'a [u8]> {
    match (kind, command.count) {
        (Kind::Auth, 2) => Some(DEFAULT_USER),
        (Kind::Auth, 3) => command.arg(1),
        (Kind::Hello, _) => command.arg(rewrite::auth_clause(command)? + 1),
        _ => None,
    }
}
