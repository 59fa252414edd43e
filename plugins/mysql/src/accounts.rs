//! Who logs in at the target, and with what secret.

mod text;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use plugin_api::{Config, ConfigError, Key};

use crate::auth::Rules;
use crate::auth::native::StoredHash;
use crate::secret::Secret;

/// The accounts of the configuration.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    /// By the user's name at the target.
    passwords: BTreeMap<Vec<u8>, Vec<Password>>,
    /// By the user's name at the origin: whose password follows from what was captured.
    hashes: BTreeMap<Vec<u8>, Vec<StoredHash>>,
    /// For who is in neither.
    default: Option<Fallback>,
    users: Renamed,
    databases: Renamed,
    late_database: Vec<u8>,
    pub(crate) rules: Rules,
}

/// A password, which may hold at one target only.
#[derive(Debug)]
struct Password {
    at: Place,
    secret: Secret,
}

/// At which targets a password holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Everywhere,
    Host(IpAddr),
    Server(SocketAddr),
}

/// The account of all who have none of their own.
#[derive(Debug)]
struct Fallback {
    /// `None`: each under their own name.
    user: Option<Vec<u8>>,
    password: Secret,
}

/// Who logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// The name at the target.
    pub(crate) user: Vec<u8>,
    pub(crate) proof: Proof,
}

/// What there is of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The password.
    Password(Secret),
    /// What the origin may have stored of it; more must come from the captured login.
    Hashes(Vec<StoredHash>),
}

impl Accounts {
    /// The keys of configuration that are about accounts.
    pub(crate) fn keys() -> Vec<Key> {
        vec![
            Key::text(
                "user",
                "who logs in for users without an entry, and for connections joined late",
            )
            .default("each user under the own name; connections joined late can't log in"),
            Key::secret(
                "password",
                "the password of `user`; without `user`, of everybody without an entry",
            ),
            Key::secret(
                "accounts",
                "the target's passwords, a line each: USER PASSWORD, or USER@IP PASSWORD or \
                 USER@IP:PORT PASSWORD for one target only; # begins a comment line",
            ),
            Key::secret(
                "plugin_conf",
                "the same in the older module's words: user NAME@PASSWORD,NAME@PASSWORD;",
            ),
            Key::secret(
                "hashes",
                "what the origin stores of mysql_native_password, a line each: USER *HASH; enough \
                 where the target's account has the same password and method",
            ),
            Key::table(
                "users",
                "names at the target, by names at the origin: { app = \"app_test\" }",
            ),
            Key::table(
                "databases",
                "the same for databases, where a login or COM_INIT_DB names them",
            ),
            Key::text(
                "database",
                "selected by connections joined late, where theirs isn't known",
            )
            .default("none"),
            Key::boolean(
                "clear_password",
                "whether a target that asks for the password in clear gets it",
            )
            .default("false"),
        ]
    }

    /// Reads those keys.
    pub(crate) fn configure(config: &Config) -> Result<Self, String> {
        let mut accounts = Self {
            default: Fallback::configure(config)?,
            users: Renamed::configure(config, "users")?,
            databases: Renamed::configure(config, "databases")?,
            late_database: config.text_or("database", "")?.into(),
            rules: Rules {
                clear_password: config.boolean_or("clear_password", false)?,
            },
            ..Self::default()
        };
        let in_key = |key: &'static str| move |problem: String| config.error(key, problem);
        for (user, password) in text::accounts(config.text_or("accounts", "")?) {
            accounts.add(user, password);
        }
        let older = text::plugin_conf(config.text_or("plugin_conf", "")?);
        for (user, password) in older.map_err(in_key("plugin_conf"))? {
            let entry = Password {
                at: Place::Everywhere,
                secret: password,
            };
            accounts.passwords.entry(user).or_default().push(entry);
        }
        let hashes = text::hashes(config.text_or("hashes", "")?);
        for (user, hash) in hashes.map_err(in_key("hashes"))? {
            accounts.hashes.entry(user).or_default().push(hash);
        }
        for entries in accounts.passwords.values_mut() {
            // The narrowest place first, which is the first that fits.
            entries.sort_by_key(|entry| Reverse(entry.at));
        }
        Ok(accounts)
    }

    /// Who logs in at `target` where `of_origin` did at the origin; an empty name is a user that is
    /// not known. `None` where the configuration has nothing for them.
    pub(crate) fn account(&self, of_origin: &[u8], target: Option<SocketAddr>) -> Option<Account> {
        let user = self.users.of(of_origin);
        if let Some(password) = self.password(user, target) {
            return Some(Account {
                user: user.to_vec(),
                proof: Proof::Password(password.clone()),
            });
        }
        if let Some(hashes) = self.hashes.get(of_origin) {
            return Some(Account {
                user: user.to_vec(),
                proof: Proof::Hashes(hashes.clone()),
            });
        }
        let default = self.default.as_ref()?;
        let user = match &default.user {
            Some(user) => user.clone(),
            None if user.is_empty() => return None,
            None => user.to_vec(),
        };
        Some(Account {
            user,
            proof: Proof::Password(default.password.clone()),
        })
    }

    /// The name that a user of the origin has at the target.
    pub(crate) fn user<'a>(&'a self, of_origin: &'a [u8]) -> &'a [u8] {
        self.users.of(of_origin)
    }

    /// The name that a database of the origin has at the target.
    pub(crate) fn database<'a>(&'a self, of_origin: &'a [u8]) -> &'a [u8] {
        self.databases.of(of_origin)
    }

    /// What a connection joined late selects at the target, where nothing is known; may be empty.
    pub(crate) fn late_database(&self) -> &[u8] {
        &self.late_database
    }

    fn password(&self, user: &[u8], target: Option<SocketAddr>) -> Option<&Secret> {
        let fits = |entry: &&Password| entry.at.has(target);
        let entry = self.passwords.get(user)?.iter().find(fits)?;
        Some(&entry.secret)
    }

    /// Adds an entry, whose name may have a target behind its last `@`.
    fn add(&mut self, user: &str, secret: Secret) {
        let qualified = user.rsplit_once('@').and_then(|(user, place)| {
            let server = place.parse().map(Place::Server);
            let host = place.trim_matches(['[', ']']).parse().map(Place::Host);
            Some((user, server.or(host).ok()?))
        });
        let (user, at) = qualified.unwrap_or((user, Place::Everywhere));
        let entries = self.passwords.entry(user.into()).or_default();
        entries.push(Password { at, secret });
    }
}

impl Fallback {
    fn configure(config: &Config) -> Result<Option<Self>, ConfigError> {
        let user = config.optional_text("user")?;
        let password = config.optional_text("password")?;
        match (user, password) {
            (Some(""), _) => Err(config.error("user", "must not be empty")),
            (Some(_), None) => {
                Err(config.error("user", "needs `password` beside it, which may be empty"))
            }
            (_, None) => Ok(None),
            (user, Some(password)) => Ok(Some(Self {
                user: user.map(Into::into),
                password: Secret::from(password),
            })),
        }
    }
}

impl Place {
    fn has(self, target: Option<SocketAddr>) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Host(host) => target.is_some_and(|target| target.ip() == host),
            Self::Server(server) => target == Some(server),
        }
    }
}

/// Names that are others at the target.
#[derive(Debug, Default)]
struct Renamed(BTreeMap<Vec<u8>, Vec<u8>>);

impl Renamed {
    fn configure(config: &Config, key: &str) -> Result<Self, ConfigError> {
        let Some(table) = config.table(key)? else {
            return Ok(Self::default());
        };
        let pair = |(from, _)| Ok((Vec::from(from), table.text(from)?.into()));
        table.iter().map(pair).collect::<Result<_, _>>().map(Self)
    }

    fn of<'a>(&'a self, name: &'a [u8]) -> &'a [u8] {
        self.0.get(name).map_or(name, Vec::as_slice)
    }
}

#[cfg(test)]
mod tests;
