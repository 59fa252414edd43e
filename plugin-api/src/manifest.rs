//! What a plugin says of itself before it runs.

use std::fmt;

use crate::{Config, ConfigError, Value};

/// Who a plugin is, what it needs, and which keys of configuration it knows.
///
/// ```
/// use plugin_api::{Key, Manifest, Needs};
///
/// let manifest = Manifest::new("redis", "0.1.0", "maps credentials")
///     .needs(Needs::TARGET)
///     .key(Key::secret("password", "what the target wants to hear"))
///     .key(Key::integer("database", "SELECTed first").default("0"));
/// assert_eq!(manifest.keys[1].name, "database");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The plugin's name: its table in the configuration file, its column in reports. Lower case
    /// letters, digits and `_`.
    pub name: String,
    /// The plugin's own version, such as `env!("CARGO_PKG_VERSION")`.
    pub version: String,
    /// What it does, in a line.
    pub description: String,
    /// Which streams it wants besides the client's, whatever its configuration.
    pub needs: Needs,
    /// The keys of configuration.
    pub keys: Vec<Key>,
}

impl Manifest {
    /// A plugin that needs nothing but the client's stream and knows no key.
    #[must_use]
    pub fn new(name: &str, version: &str, description: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            description: description.to_owned(),
            needs: Needs::NONE,
            keys: Vec::new(),
        }
    }

    /// Asks for streams.
    #[must_use]
    pub fn needs(mut self, needs: Needs) -> Self {
        self.needs = needs;
        self
    }

    /// Adds a key.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.keys.push(key);
        self
    }

    /// Compares a configuration with the keys. It happens before every
    /// [`Plugin::configure`](crate::Plugin::configure).
    ///
    /// ```
    /// use plugin_api::{Config, Key, Manifest};
    ///
    /// let manifest = Manifest::new("x", "1.0.0", "").key(Key::text("user", "").required());
    /// let error = manifest.check(&Config::new().with("usr", "eve")).unwrap_err();
    /// assert_eq!(error.to_string(), "usr: unknown key, there is: user");
    /// ```
    ///
    /// # Errors
    /// The first key that is unknown, missing or of another kind.
    pub fn check(&self, config: &Config) -> Result<(), ConfigError> {
        for (name, value) in config.iter() {
            let Some(key) = self.keys.iter().find(|key| key.name == name) else {
                return Err(ConfigError::new(name, self.unknown()));
            };
            if !key.kind.admits(value) {
                let problem = format!("expected {}, found {}", key.kind, value.kind());
                return Err(ConfigError::new(name, problem));
            }
        }
        let missing = |key: &&Key| key.required && config.find(&key.name).is_none();
        match self.keys.iter().find(missing) {
            Some(key) => Err(ConfigError::new(
                &key.name,
                format!("missing, must be {}: {}", key.kind, key.doc),
            )),
            None => Ok(()),
        }
    }

    /// Which streams the plugin wants with this configuration: those of the manifest, and those of
    /// the [keys that ask for more](Key::needs).
    ///
    /// ```
    /// use plugin_api::{Config, Key, Manifest, Needs};
    ///
    /// let manifest = Manifest::new("x", "1.0.0", "")
    ///     .needs(Needs::TARGET)
    ///     .key(Key::list("learn", "").needs(Needs::ORIGIN));
    /// assert_eq!(manifest.needs_for(&Config::new()), Needs::TARGET);
    /// assert_eq!(manifest.needs_for(&Config::new().with("learn", vec!["id"])), Needs::BOTH);
    /// ```
    #[must_use]
    pub fn needs_for(&self, config: &Config) -> Needs {
        let is_given = |key: &&Key| match config.find(&key.name) {
            Some(Value::List(list)) => !list.is_empty(),
            Some(Value::Table(table)) => !table.is_empty(),
            Some(_) => true,
            None => false,
        };
        let given = self.keys.iter().filter(is_given);
        given.fold(self.needs, |needs, key| needs.and(key.needs))
    }

    fn unknown(&self) -> String {
        let names: Vec<_> = self.keys.iter().map(|key| key.name.as_str()).collect();
        match names.as_slice() {
            [] => "unknown key, this plugin has none".to_owned(),
            names => format!("unknown key, there is: {}", names.join(", ")),
        }
    }
}

/// Which streams a plugin wants besides the client's. Each costs: the origin's answers have to be
/// captured, the target's to be carried to tcpcopy.
///
/// ```
/// use plugin_api::Needs;
/// assert_eq!(Needs::BOTH, Needs { origin: true, target: true });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// What the origin answered.
    pub origin: bool,
    /// What the target answers.
    pub target: bool,
}

impl Needs {
    /// Only what the client sent.
    pub const NONE: Self = Self {
        origin: false,
        target: false,
    };

    /// The origin's answers.
    pub const ORIGIN: Self = Self {
        origin: true,
        target: false,
    };

    /// The target's answers.
    pub const TARGET: Self = Self {
        origin: false,
        target: true,
    };

    /// The answers of both.
    pub const BOTH: Self = Self {
        origin: true,
        target: true,
    };

    /// What either asks for.
    ///
    /// ```
    /// use plugin_api::Needs;
    /// assert_eq!(Needs::ORIGIN.and(Needs::TARGET), Needs::BOTH);
    /// ```
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            origin: self.origin || other.origin,
            target: self.target || other.target,
        }
    }
}

/// One key of configuration, with its documentation: `tcpcopy plugin inspect` prints it.
///
/// ```
/// use plugin_api::{Key, KeyKind};
///
/// let key = Key::integer("limit", "bytes of header at most").default("65536");
/// assert_eq!((key.kind, key.required), (KeyKind::Integer, false));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key's name in the plugin's table.
    pub name: String,
    /// What its value must be.
    pub kind: KeyKind,
    /// What it means, with unit and range.
    pub doc: String,
    /// What holds without it, in words or as it would be written. It is shown, not applied.
    pub default: Option<String>,
    /// Whether there is no doing without it.
    pub required: bool,
    /// Streams that the plugin wants besides the manifest's when the configuration has this key;
    /// empty lists and tables do not count.
    pub needs: Needs,
}

impl Key {
    /// A key of any kind.
    #[must_use]
    pub fn new(name: &str, kind: KeyKind, doc: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            doc: doc.to_owned(),
            default: None,
            required: false,
            needs: Needs::NONE,
        }
    }

    /// A text.
    #[must_use]
    pub fn text(name: &str, doc: &str) -> Self {
        Self::new(name, KeyKind::Text, doc)
    }

    /// A text that must not be seen: see [`KeyKind::Secret`].
    #[must_use]
    pub fn secret(name: &str, doc: &str) -> Self {
        Self::new(name, KeyKind::Secret, doc)
    }

    /// A whole number.
    #[must_use]
    pub fn integer(name: &str, doc: &str) -> Self {
        Self::new(name, KeyKind::Integer, doc)
    }

    /// A number.
    #[must_use]
    pub fn float(name: &str, doc: &str) -> Self {
        Self::new(name, KeyKind::Float, doc)
    }

    /// Yes or no.
    #[must_use]
    pub fn boolean(name: &str, doc: &str) -> Self {
        Self::new(name, KeyKind::Boolean, doc)
    }

    /// A list of values.
    #[must_use]
    pub fn list(name: &str, doc: &str) -> Self {
        Self::new(name, KeyKind::List, doc)
    }

    /// A table of keys and values.
    #[must_use]
    pub fn table(name: &str, doc: &str) -> Self {
        Self::new(name, KeyKind::Table, doc)
    }

    /// Says what holds without the key.
    #[must_use]
    pub fn default(mut self, default: &str) -> Self {
        self.default = Some(default.to_owned());
        self
    }

    /// Asks for more streams when the key is given, so that who does without it does not pay for
    /// them.
    ///
    /// ```
    /// use plugin_api::{Key, Needs};
    /// let key = Key::list("learn", "values to learn from both answers").needs(Needs::BOTH);
    /// assert!(key.needs.origin);
    /// ```
    #[must_use]
    pub fn needs(mut self, needs: Needs) -> Self {
        self.needs = needs;
        self
    }

    /// Makes the key one that must be given.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

/// What the value of a key must be.
///
/// ```
/// use plugin_api::KeyKind;
/// assert_eq!(KeyKind::Boolean.to_string(), "true or false");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A text.
    Text,
    /// A text that is never logged or printed. In the configuration it may be written as
    /// `{ file = "PATH" }` or `{ env = "NAME" }`: tcpcopy reads it there, and the plugin, which may
    /// not read files, gets the text.
    Secret,
    /// A whole number of 64 bits.
    Integer,
    /// A number; a whole one will do.
    Float,
    /// `true` or `false`.
    Boolean,
    /// A list.
    List,
    /// A table.
    Table,
}

impl KeyKind {
    fn admits(self, value: &Value) -> bool {
        match self {
            Self::Text | Self::Secret => matches!(value, Value::Text(_)),
            Self::Integer => matches!(value, Value::Integer(_)),
            Self::Float => matches!(value, Value::Float(_) | Value::Integer(_)),
            Self::Boolean => matches!(value, Value::Boolean(_)),
            Self::List => matches!(value, Value::List(_)),
            Self::Table => matches!(value, Value::Table(_)),
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Text => "a text",
            Self::Secret => "a secret text",
            Self::Integer => "a whole number",
            Self::Float => "a number",
            Self::Boolean => "true or false",
            Self::List => "a list",
            Self::Table => "a table",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(config: Config) -> String {
        Manifest::new("x", "1.0.0", "")
            .key(Key::secret("password", "of the target").required())
            .key(Key::float("speed", ""))
            .check(&config)
            .map_or_else(|error| error.to_string(), |()| "none".to_owned())
    }

    #[test]
    fn keys_are_compared_with_the_manifest() {
        let good = Config::new().with("password", "p").with("speed", 1);
        assert_eq!(problem(good), "none");
        assert_eq!(
            problem(Config::new().with("password", 123_456)),
            "password: expected a secret text, found a whole number"
        );
        assert_eq!(
            problem(Config::new()),
            "password: missing, must be a secret text: of the target"
        );
        let unknown = Manifest::new("x", "1.0.0", "").check(&Config::new().with("a", true));
        assert_eq!(
            unknown.expect_err("`a` is unknown").to_string(),
            "a: unknown key, this plugin has none"
        );
    }
}
