//! What the plugins are told: one TOML table for each, `--set` over it, secrets from files and the
//! environment.
//!
//! ```toml
//! [http]
//! host = "test.example"
//! authorization = { file = "/etc/tcpcopy/token" }   # or { env = "TOKEN" }, or the text itself
//!
//! [[http.rules]]
//! header = "X-Key"
//! value = { secret_env = "KEY" }                     # inside of tables and lists
//! ```

mod secret;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use plugin_api::{Config, KeyKind, Manifest};
use thiserror::Error;
use toml::{Table, Value};

/// The configuration of all plugins.
#[derive(Debug, Default)]
pub struct Settings {
    tables: BTreeMap<String, Table>,
    overrides: Vec<Override>,
    /// Where relative paths of secrets begin; the working directory if nowhere.
    base: Option<PathBuf>,
    used: BTreeSet<String>,
    /// The file, if others than its owner can read it: secrets should not stand in it.
    open_file: Option<PathBuf>,
}

/// One `--set`.
#[derive(Debug)]
struct Override {
    plugin: String,
    /// At least one key.
    place: Vec<String>,
    text: String,
}

/// Something is wrong with the plugins' configuration. It prints what and why, an empty line, and
/// what to do; never a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what}: {why}\n\nhint: {remedy}")]
pub struct SettingsError {
    /// Which file, table, key or option.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
    /// What to do about it.
    pub remedy: String,
}

impl SettingsError {
    fn new(what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}

impl Settings {
    /// Reads a TOML file. Relative paths of secrets in it begin in its directory.
    ///
    /// # Errors
    /// When the file can't be read, or is not what [`parse`](Self::parse) takes.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let what = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| {
            let why = format!("the plugins' configuration can't be read: {error}");
            SettingsError::new(&what, why, "check the path and who may read the file")
        })?;
        let settings = Self::parse(&text).map_err(|error| SettingsError {
            what: format!("{what}: {}", error.what),
            ..error
        })?;
        let is_open = fs::metadata(path).is_ok_and(|about| secret::is_open(&about));
        Ok(Self {
            base: path.parent().map(Path::to_owned),
            open_file: is_open.then(|| path.to_owned()),
            ..settings
        })
    }

    /// Reads a TOML text: a table for each plugin, by the name in its manifest.
    ///
    /// # Errors
    /// When it is not TOML, or something in it belongs to no table.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let remedy = "write one table a plugin, such as [http], with KEY = VALUE below";
        // The error's own text would show the line, and with it a secret.
        let whole: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            SettingsError::new(format!("line {line}"), error.message(), remedy)
        })?;
        let mut tables = BTreeMap::new();
        for (name, value) in whole {
            let Value::Table(table) = value else {
                let why = "this key stands outside of any plugin's table";
                return Err(SettingsError::new(name, why, remedy));
            };
            tables.insert(name, table);
        }
        Ok(Self {
            tables,
            ..Self::default()
        })
    }

    /// Takes one `--set PLUGIN.KEY=VALUE`; it goes over what the file says, and a later one over an
    /// earlier one. Deeper keys are reached with more dots. The value is TOML where it can be read
    /// as such, and a text otherwise; for a key that is a text, it is always one, unless it is in
    /// quotes.
    ///
    /// # Errors
    /// When it is not of this form.
    pub fn set(&mut self, option: &str) -> Result<(), SettingsError> {
        let wrong = |why: &str| {
            // What stands behind the equals sign may be a secret.
            let place = option.split('=').next().unwrap_or_default();
            let remedy = "write --set PLUGIN.KEY=VALUE, such as --set http.host=test.example";
            SettingsError::new(format!("--set {place}"), why, remedy)
        };
        let (place, text) = option
            .split_once('=')
            .ok_or_else(|| wrong("there is no = in it"))?;
        let mut steps = place.trim().split('.').map(str::to_owned);
        let plugin = steps.next().unwrap_or_default();
        let place: Vec<_> = steps.collect();
        if plugin.is_empty() || place.is_empty() || place.iter().any(String::is_empty) {
            return Err(wrong(
                "there must be a plugin's name, a dot and a key before the =",
            ));
        }
        self.overrides.push(Override {
            plugin,
            place,
            text: text.to_owned(),
        });
        Ok(())
    }

    /// The configuration of one plugin, with its secrets read. Which keys there are and of which
    /// kind is compared with the manifest by [`Host::new`](crate::Host::new).
    ///
    /// # Errors
    /// When a secret can't be had, or a value is of a kind that no configuration has.
    pub fn config_of(&mut self, manifest: &Manifest) -> Result<Config, SettingsError> {
        let plugin = &manifest.name;
        self.used.insert(plugin.clone());
        let mut table = self.tables.get(plugin).cloned().unwrap_or_default();
        self.warn_of_open_secrets(manifest, &table);
        for set in self.overrides.iter().filter(|set| set.plugin == *plugin) {
            let kind = kind_of(manifest, &set.place[0]).filter(|_| set.place.len() == 1);
            value::put(&mut table, &set.place, value::of_text(&set.text, kind)).map_err(|why| {
                let what = format!("--set {plugin}.{}", set.place.join("."));
                let remedy = format!("`tcpcopy plugin inspect` lists the keys of {plugin}");
                SettingsError::new(what, why, remedy)
            })?;
        }
        let mut config = Config::new();
        for (key, value) in table {
            let place = format!("{plugin}.{key}");
            let is_secret = kind_of(manifest, &key) == Some(KeyKind::Secret);
            let value = value::convert(value, &place, is_secret, self.base.as_deref())?;
            config.set(&key, value);
        }
        Ok(config)
    }

    fn warn_of_open_secrets(&self, manifest: &Manifest, table: &Table) {
        let is_secret = |key: &&String| kind_of(manifest, key) == Some(KeyKind::Secret);
        let inline = |key: &&String| table.get(*key).is_some_and(Value::is_str);
        if let Some(file) = &self.open_file
            && let Some(key) = table.keys().filter(is_secret).find(inline)
        {
            tracing::warn!(
                "others than its owner can read {}, and the secret {}.{key} stands in it: chmod 600 \
                 it, or write {{ file = \"PATH\" }} or {{ env = \"NAME\" }}",
                file.display(),
                manifest.name
            );
        }
    }

    /// Plugins that are told something and are not there: tables and options whose
    /// [`config_of`](Self::config_of) nobody has asked for.
    #[must_use]
    pub fn unused(&self) -> Vec<String> {
        let set = self.overrides.iter().map(|set| &set.plugin);
        let all: BTreeSet<_> = self.tables.keys().chain(set).collect();
        let unused = all.into_iter().filter(|name| !self.used.contains(*name));
        unused.cloned().collect()
    }
}

fn kind_of(manifest: &Manifest, key: &str) -> Option<KeyKind> {
    let mut keys = manifest.keys.iter();
    keys.find(|known| known.name == key).map(|known| known.kind)
}

/// The line of an offset, from 1.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests;
