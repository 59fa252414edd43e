//! What the target's replies end and tell.

use plugin_api::{Context, Level, Outcome};

use super::{Connection, Refusal};
use crate::Redis;
use crate::expected::{Answers, Changes, Expected};
use crate::memory::Agreed;
use crate::reply::{Reply, Shape};

/// Codes that say that the target is no place for the replay as it is configured, and what to do.
const ADVICE: [(&str, &str); 4] = [
    (
        "NOAUTH",
        "the target wants a login: give it `password`, and `user` if it has several",
    ),
    (
        "MOVED",
        "the target is a node of a cluster that has not all keys: replay to a proxy of the cluster",
    ),
    (
        "CLUSTERDOWN",
        "the target is a node of a cluster that does not serve",
    ),
    ("READONLY", "the target is a replica and takes no writes"),
];

/// Codes that say of `HELLO` that it is the account that is wrong, not the command.
const TURNED_DOWN: [&str; 3] = ["WRONGPASS", "NOAUTH", "NOPERM"];

/// A reply, as far as it matters for a session.
struct Facts {
    is_error: bool,
    is_null: bool,
    errors_inside: u64,
}

impl Connection {
    /// Bytes of the target.
    pub(super) fn hear_target(
        &mut self,
        plugin: &mut Redis,
        mut bytes: &[u8],
        ctx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        loop {
            let reply = self.replies.next(&mut bytes);
            let Some(reply) = reply.map_err(|_| "target_speaks_no_redis")? else {
                return Ok(());
            };
            let answers = self.expected.answer(reply);
            let facts = Facts {
                is_error: reply.shape == Shape::Error,
                is_null: reply.shape == Shape::Null,
                errors_inside: reply.errors,
            };
            let code = note_error(plugin, reply, ctx);
            match answers {
                Answers::OutOfBand(name) => ctx.count(name, 1),
                Answers::Nothing => ctx.count("unexpected_replies", 1),
                Answers::Part => {}
                Answers::All(expected) if expected.is_own() => {
                    self.own_answer(expected, &code, &facts, ctx)?;
                }
                Answers::All(expected) => {
                    ctx.end_exchange(match facts.is_error {
                        true => Outcome::failed().label(&code),
                        false => Outcome::ok(),
                    });
                    self.client_answer(plugin, expected, &code, &facts, ctx)?;
                }
            }
            self.end_silences(ctx);
        }
    }

    /// The answer to what the plugin has said by itself.
    fn own_answer(
        &mut self,
        expected: Expected,
        code: &str,
        facts: &Facts,
        ctx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        match (expected, facts.is_error) {
            (Expected::OwnLogin, true) => return Err(login_failed(code, ctx)),
            // Nobody has logged in, since no account of the target's is known.
            (_, true) if code == "NOAUTH" => {
                let words = "the target wants a login that was not captured: give it `password`";
                ctx.log(Level::Warn, words);
                return Err("login_failed".into());
            }
            (Expected::OwnSelect, true) => {
                ctx.log(Level::Warn, &format!("the target answers {code} to SELECT"));
                return Err("select_failed".into());
            }
            (Expected::OwnHello, false) => self.expected.set_protocol(3),
            (Expected::OwnDiscard, _) => return Ok(()),
            _ => {}
        }
        self.agreed_to_introduction(ctx);
        Ok(())
    }

    /// The answer to a command of the client.
    fn client_answer(
        &mut self,
        plugin: &Redis,
        expected: Expected,
        code: &str,
        facts: &Facts,
        ctx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        match (expected, facts.is_error) {
            (
                Expected::Login {
                    is_mapped: true,
                    protocol,
                },
                true,
            ) => {
                if protocol.is_none() || TURNED_DOWN.contains(&code) {
                    return Err(login_failed(code, ctx));
                }
                self.hello_failed(plugin, ctx);
            }
            (Expected::Login { protocol, .. }, false) => {
                let done = Changes {
                    is_login: true,
                    protocol,
                    database: None,
                };
                self.done(done, ctx);
            }
            (Expected::Selected(database), false) => {
                let done = Changes {
                    database: Some(database),
                    ..Changes::default()
                };
                self.done(done, ctx);
            }
            (Expected::Reset, false) => {
                self.expected.reset();
                self.agree(Agreed::of_new(&plugin.settings), ctx);
            }
            (Expected::Monitor, false) => self.expected.set_monitoring(),
            (Expected::Transaction { queued, .. }, false) => {
                match facts.is_null {
                    true => ctx.count("transactions_aborted", 1),
                    false => self.done(queued, ctx),
                }
                if facts.errors_inside > 0 {
                    ctx.count("errors_in_transactions", facts.errors_inside);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The target knows no `HELLO`, or not this one. A client that was told the same goes on with
    /// `AUTH`; any other has logged in, and has to be before its next command.
    fn hello_failed(&mut self, plugin: &Redis, ctx: &mut Context<'_>) {
        if self.expected.has_login() || self.introduction.account.is_some() {
            return;
        }
        if let Some(user) = self.logging_in.take() {
            self.introduction.account = plugin.settings.accounts.of(&user).cloned();
            let agreed = Agreed {
                user: Some(user),
                ..self.agreed.clone()
            };
            self.agree(agreed, ctx);
        }
    }

    /// The target has done this.
    fn done(&mut self, done: Changes, ctx: &mut Context<'_>) {
        if done == Changes::default() {
            return;
        }
        if let Some(protocol) = done.protocol {
            self.expected.set_protocol(protocol);
        }
        let mut agreed = self.agreed.clone();
        if done.is_login {
            agreed.is_resp3 = self.expected.protocol() == 3;
            agreed.user = self.logging_in.take().or(agreed.user);
        }
        agreed.database = done.database.or(agreed.database);
        self.agree(agreed, ctx);
    }

    fn agree(&mut self, agreed: Agreed, ctx: &mut Context<'_>) {
        if agreed != self.agreed {
            self.agreed = agreed;
            self.agreed.keep(&self.key, ctx);
        }
    }
}

/// Counts an error by its code; answers the code, empty where there is none.
fn note_error(plugin: &mut Redis, reply: &Reply, ctx: &mut Context<'_>) -> String {
    if reply.shape != Shape::Error {
        return String::new();
    }
    let code = plugin.codes.admit(reply.code().unwrap_or("")).to_owned();
    ctx.count(&format!("error_{}", code.to_ascii_lowercase()), 1);
    let advice = ADVICE.iter().find(|(of, _)| *of == code);
    if let Some((_, advice)) = advice.filter(|(of, _)| plugin.advised.insert(of)) {
        ctx.log(Level::Warn, &format!("the target answers {code}: {advice}"));
    }
    code
}

fn login_failed(code: &str, ctx: &mut Context<'_>) -> Refusal {
    let words = "the target turns the configured account down";
    ctx.log(Level::Warn, &format!("{words}: {code}"));
    "login_failed".into()
}
