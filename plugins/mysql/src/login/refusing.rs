//! Logins that come to nothing: each has a name, and a line in the log that says what to do.

use plugin_api::Level;

use crate::accounts::Account;

use super::response::NoResponse;
use super::{Kind, Login, LoginStep, Stage, Surroundings};

impl Login {
    pub(super) fn denied(&mut self, code: u16, ctx: &mut impl Surroundings) -> LoginStep {
        self.stage = Stage::Over;
        self.captured.wipe();
        if !self.is_denied_at_origin() {
            let whom = match self.result.user.as_slice() {
                [] => "a connection".to_owned(),
                user => format!("the login of `{}`", shown(user)),
            };
            let remedy = remedy_of(code);
            ctx.log(
                Level::Warn,
                &format!("the target refuses {whom} with error {code}: {remedy}"),
            );
        }
        LoginStep::Denied { code }
    }

    pub(super) fn no_response(
        &mut self,
        what: NoResponse,
        ctx: &mut impl Surroundings,
    ) -> LoginStep {
        match what {
            NoResponse::Tls => self.refused(
                "tls",
                "a client encrypts its connection to the origin, so that nothing of it can be \
                 replayed: switch TLS off in the clients (--ssl-mode=DISABLED, useSSL=false) or at \
                 the origin, or capture between the clients and a proxy that ends TLS",
                ctx,
            ),
            NoResponse::Protocol320 => self.refused(
                "login_protocol_320",
                "a client speaks the protocol of MySQL before 4.1, which is not spoken here",
                ctx,
            ),
            NoResponse::Malformed => self.refused(
                "login_malformed",
                "what a client answered to the origin's greeting is not a login: is it MySQL?",
                ctx,
            ),
        }
    }

    pub(super) fn nothing_to_prove_with(
        &mut self,
        of_origin: &[u8],
        account: Option<Account>,
        ctx: &mut impl Surroundings,
    ) -> LoginStep {
        if self.is_denied_at_origin() {
            self.stage = Stage::Over;
            return LoginStep::Refused("login_denied_at_origin");
        }
        let user = shown(of_origin);
        let (name, remedy) = match (&self.kind, account) {
            (Kind::Late(_), _) if of_origin.is_empty() => (
                "login_unknown_user",
                "whose connection this is was said before the capture began: configure `user` and \
                 `password`, who log in for such connections"
                    .to_owned(),
            ),
            (Kind::Late(_), Some(_)) => (
                "login_hash_without_exchange",
                format!(
                    "of `{user}` only a hash is configured, which needs a captured login, and this \
                     connection began before the capture: configure its password"
                ),
            ),
            (_, Some(_)) => (
                "login_hash_mismatch",
                format!(
                    "none of the configured hashes fits how `{user}` logged in at the origin: it \
                     is not that account's, or the method was not mysql_native_password"
                ),
            ),
            (_, None) => (
                "login_no_password",
                format!(
                    "there is no password for `{user}`: configure it (`accounts`), or an account \
                     for all (`user` and `password`)"
                ),
            ),
        };
        self.refused(name, &remedy, ctx)
    }

    pub(super) fn refused(
        &mut self,
        name: &'static str,
        remedy: &str,
        ctx: &mut impl Surroundings,
    ) -> LoginStep {
        self.stage = Stage::Over;
        ctx.log(Level::Warn, &format!("{name}: {remedy}"));
        LoginStep::Refused(name)
    }
}

/// A user's name for the log.
fn shown(user: &[u8]) -> String {
    /// The longest name that a server takes is 80 characters.
    const CHARACTERS: usize = 80;
    let text = String::from_utf8_lossy(user);
    let short: String = text.chars().take(CHARACTERS).collect();
    short.escape_debug().to_string()
}

/// A sentence for the error's number.
const fn remedy_of(code: u16) -> &'static str {
    match code {
        1045 | 1698 => {
            "it has another password at the target, or no account there for the host that the \
             replay comes from: configure the target's password (`accounts`, or `user` and \
             `password`), or create the account"
        }
        1044 | 1049 => {
            "the database is not there, or the account may not use it: create it, or name the \
             target's with `databases`"
        }
        1040 | 1203 | 1226 => {
            "the target takes no more connections: raise its max_connections, or the account's \
             limits"
        }
        1129 | 1130 => {
            "the target does not admit this host: create the account for it, or run FLUSH HOSTS \
             there"
        }
        1251 | 1275 | 1524 => {
            "the account's authentication method is not loaded at the target: give it another one"
        }
        1862 | 3118 => "the account is locked or its password has expired at the target",
        3159 => {
            "the target insists on TLS, which the replay does not speak: unset \
             require_secure_transport there"
        }
        _ => "the server's manual has this error's meaning",
    }
}
