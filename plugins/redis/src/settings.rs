//! The configuration, checked.

use std::collections::{BTreeMap, BTreeSet};

use plugin_api::{Config, ConfigError, Value};

use crate::accounts::{Account, Accounts};
use crate::kind::has_subcommands;

/// What a session is told to do.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) accounts: Accounts,
    /// The origin's database of clients that were there before the capture.
    pub(crate) late_db: u64,
    databases: BTreeMap<u64, u64>,
    dropped: BTreeSet<String>,
    /// How long blocking commands may block.
    pub(crate) block_limit_ms: Option<u64>,
}

impl Settings {
    pub(crate) fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let number = |key: &str, least: u64| match config.find(key).and_then(Value::as_integer) {
            None => Ok(None),
            Some(number) => match u64::try_from(number) {
                Ok(number) if number >= least => Ok(Some(number)),
                _ => Err(config.error(key, format!("must be {least} or more"))),
            },
        };
        Ok(Self {
            accounts: accounts(config)?,
            late_db: number("db", 0)?.unwrap_or(0),
            databases: databases(config)?,
            dropped: dropped(config)?,
            block_limit_ms: number("block_limit_ms", 1)?,
        })
    }

    /// The target's number of a database of the origin.
    pub(crate) fn database(&self, origin: u64) -> u64 {
        self.databases.get(&origin).copied().unwrap_or(origin)
    }

    /// Whether any database has another number at the target.
    pub(crate) fn maps_databases(&self) -> bool {
        !self.databases.is_empty()
    }

    /// The entry by which a command is not to be replayed, if there is one: its name, or that and its
    /// subcommand.
    pub(crate) fn dropped_as(&self, name: &str, label: &str) -> Option<&str> {
        let entry = self.dropped.get(name).or_else(|| self.dropped.get(label));
        entry.map(String::as_str)
    }
}

fn accounts(config: &Config) -> Result<Accounts, ConfigError> {
    let user = config.optional_text("user")?;
    // Files end with a newline, passwords do not.
    let password = config.optional_text("password")?;
    let password = password.map(|text| text.trim_end_matches(['\r', '\n']));
    let lines = config.optional_text("accounts")?;
    if password == Some("") {
        return Err(config.error("password", "is empty"));
    }
    if user.is_some() && password.is_none() {
        return Err(config.error("password", "missing: `user` can't log in without one"));
    }
    let has_accounts = password.is_some() || lines.is_some();
    let auth = match config.optional_text("auth")? {
        Some(auth) => auth,
        None if has_accounts => "map",
        None => "pass",
    };
    match (auth, has_accounts) {
        ("map", true) => {
            let named = Accounts::read_lines(lines.unwrap_or_default())
                .map_err(|problem| config.error("accounts", problem))?;
            let default = password.map(|password| Account {
                user: user.map(|user| user.as_bytes().to_vec()),
                password: password.as_bytes().to_vec(),
            });
            Ok(Accounts::Map { named, default })
        }
        ("map", false) => Err(config.error("auth", "`map` needs `password` or `accounts`")),
        ("pass" | "drop", true) => Err(config.error(
            "auth",
            "the accounts are for `map`; take them out, or `auth`",
        )),
        ("pass", false) => Ok(Accounts::Pass),
        ("drop", false) => Ok(Accounts::Drop),
        _ => Err(config.error("auth", "must be `map`, `drop` or `pass`")),
    }
}

fn databases(config: &Config) -> Result<BTreeMap<u64, u64>, ConfigError> {
    let Some(table) = config.table("databases")? else {
        return Ok(BTreeMap::new());
    };
    let pair = |(origin, _): (&str, &Value)| {
        let target = u64::try_from(table.integer(origin)?);
        match (origin.parse(), target) {
            (Ok(origin), Ok(target)) => Ok((origin, target)),
            _ => Err(table.error(origin, "both must be numbers of databases, from 0")),
        }
    };
    table.iter().map(pair).collect()
}

fn dropped(config: &Config) -> Result<BTreeSet<String>, ConfigError> {
    let command = |text: &str| {
        let words: Vec<_> = text.split_ascii_whitespace().collect();
        let entry = words.join(" ").to_ascii_uppercase();
        match words[..] {
            [_] => Ok(entry),
            [command, _] if has_subcommands(&command.to_ascii_uppercase()) => Ok(entry),
            _ => Err(config.error("drop", format!("`{text}` is no command and subcommand"))),
        }
    };
    config.texts("drop")?.into_iter().map(command).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(config: Config) -> String {
        Settings::from_config(&config)
            .expect_err("wrong")
            .to_string()
    }

    #[test]
    fn what_is_not_said_is_left_as_it_is() {
        let settings = Settings::from_config(&Config::new()).expect("fine");
        assert!(matches!(settings.accounts, Accounts::Pass));
        assert_eq!((settings.database(7), settings.late_db), (7, 0));
        assert!(settings.dropped_as("GET", "GET").is_none() && settings.block_limit_ms.is_none());
    }

    #[test]
    fn commands_are_dropped_by_name_or_with_their_subcommand() {
        let config = Config::new().with("drop", vec!["flushall", "config  set"]);
        let settings = Settings::from_config(&config).expect("fine");
        let dropped_as = |name, label| settings.dropped_as(name, label);
        assert_eq!(dropped_as("FLUSHALL", "FLUSHALL"), Some("FLUSHALL"));
        assert_eq!(dropped_as("CONFIG", "CONFIG SET"), Some("CONFIG SET"));
        assert_eq!(dropped_as("CONFIG", "CONFIG GET"), None);
    }

    #[test]
    fn a_wrong_key_is_named() {
        let user = Config::new().with("user", "eve");
        assert_eq!(
            problem(user),
            "password: missing: `user` can't log in without one"
        );
        let both = Config::new().with("auth", "drop").with("password", "x");
        assert!(problem(both).starts_with("auth: the accounts are for `map`"));
        assert!(problem(Config::new().with("auth", "map")).starts_with("auth: `map` needs"));
        assert!(problem(Config::new().with("auth", "no")).starts_with("auth: must be"));
        assert_eq!(
            problem(Config::new().with("db", -1)),
            "db: must be 0 or more"
        );
        let limit = Config::new().with("block_limit_ms", 0);
        assert_eq!(problem(limit), "block_limit_ms: must be 1 or more");
        let databases = Config::new().with("databases", Config::new().with("a", 1));
        assert!(problem(databases).starts_with("databases.a: both must be numbers"));
        for entry in ["a b c", "flushall async", ""] {
            let drop = Config::new().with("drop", vec![entry]);
            let expected = format!("drop: `{entry}` is no command and subcommand");
            assert_eq!(problem(drop), expected);
        }
        let accounts = Config::new().with("accounts", "x");
        assert!(problem(accounts).starts_with("accounts: line 1:"));
    }
}
