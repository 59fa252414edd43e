//! A plugin's configuration: its table of the configuration file, with `--set` over it.

use std::collections::BTreeMap;

use thiserror::Error;

/// A table of keys and values.
///
/// Each way to read a key names the key, with its place in the file, when it is not there or of
/// another kind; the error becomes the `String` of
/// [`Plugin::configure`](crate::Plugin::configure) with `?`.
///
/// ```
/// use plugin_api::Config;
///
/// let rule = Config::new().with("header", "Host").with("value", 8);
/// let config = Config::new().with("retries", 3).with("rules", vec![rule]);
///
/// assert_eq!(config.integer_or("retries", 1)?, 3);
/// assert_eq!(config.boolean_or("strict", true)?, true);
/// let rule = config.tables("rules")?[0];
/// assert_eq!(rule.text("header")?, "Host");
/// assert_eq!(
///     rule.text("value").unwrap_err().to_string(),
///     "rules[0].value: expected a text, found a whole number"
/// );
/// # Ok::<(), plugin_api::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where the table stands in the whole, such as `rules[0]`; empty for the whole.
    place: String,
    values: BTreeMap<String, Value>,
}

/// Two configurations are equal when they say the same, wherever they stand.
impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

impl Config {
    /// A table with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.set(key, value);
        self
    }

    /// Sets a key.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let mut value = value.into();
        value.settle(&place_of(&self.place, key));
        self.values.insert(key.to_owned(), value);
    }

    /// The value of a key, whatever it is.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// The value of a key to be changed; whoever changes it settles the whole.
    pub(crate) fn find_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.values.get_mut(key)
    }

    /// All keys and values in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// When the key is missing or of another kind.
    pub fn text(&self, key: &str) -> Result<&str, ConfigError> {
        self.required(key, "a text", Value::as_text)
    }

    /// A text that may be missing.
    ///
    /// # Errors
    /// When the key is of another kind.
    pub fn optional_text(&self, key: &str) -> Result<Option<&str>, ConfigError> {
        self.optional(key, "a text", Value::as_text)
    }

    /// A text, or `default` without it.
    ///
    /// # Errors
    /// When the key is of another kind.
    pub fn text_or<'a>(&'a self, key: &str, default: &'a str) -> Result<&'a str, ConfigError> {
        Ok(self.optional_text(key)?.unwrap_or(default))
    }

    /// A whole number that must be there.
    ///
    /// # Errors
    /// When the key is missing or of another kind.
    pub fn integer(&self, key: &str) -> Result<i64, ConfigError> {
        self.required(key, "a whole number", Value::as_integer)
    }

    /// A whole number, or `default` without it.
    ///
    /// # Errors
    /// When the key is of another kind.
    pub fn integer_or(&self, key: &str, default: i64) -> Result<i64, ConfigError> {
        let value = self.optional(key, "a whole number", Value::as_integer)?;
        Ok(value.unwrap_or(default))
    }

    /// A number, or `default` without it.
    ///
    /// # Errors
    /// When the key is of another kind.
    pub fn float_or(&self, key: &str, default: f64) -> Result<f64, ConfigError> {
        let value = self.optional(key, "a number", Value::as_float)?;
        Ok(value.unwrap_or(default))
    }

    /// Yes or no, or `default` without it.
    ///
    /// # Errors
    /// When the key is of another kind.
    pub fn boolean_or(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        let value = self.optional(key, "true or false", Value::as_boolean)?;
        Ok(value.unwrap_or(default))
    }

    /// A list; an empty one without the key.
    ///
    /// # Errors
    /// When the key is of another kind.
    pub fn list(&self, key: &str) -> Result<&[Value], ConfigError> {
        let list = self.optional(key, "a list", Value::as_list)?;
        Ok(list.unwrap_or_default())
    }

    /// A list of texts; an empty one without the key.
    ///
    /// # Errors
    /// When the key or an element is of another kind.
    pub fn texts(&self, key: &str) -> Result<Vec<&str>, ConfigError> {
        self.elements(key, "a text", Value::as_text)
    }

    /// A list of tables; an empty one without the key.
    ///
    /// # Errors
    /// When the key or an element is of another kind.
    pub fn tables(&self, key: &str) -> Result<Vec<&Config>, ConfigError> {
        self.elements(key, "a table", Value::as_table)
    }

    /// A table that may be missing.
    ///
    /// # Errors
    /// When the key is of another kind.
    pub fn table(&self, key: &str) -> Result<Option<&Config>, ConfigError> {
        self.optional(key, "a table", Value::as_table)
    }

    /// An error about a key of this table, for what only the plugin can judge.
    ///
    /// ```
    /// use plugin_api::Config;
    ///
    /// let config = Config::new().with("limit", -1);
    /// let error = config.error("limit", "must be above 0");
    /// assert_eq!(error.to_string(), "limit: must be above 0");
    /// ```
    #[must_use]
    pub fn error(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::new(&place_of(&self.place, key), problem.into())
    }

    /// Tells the tables within where they stand.
    pub(crate) fn settle(&mut self) {
        for (key, value) in &mut self.values {
            value.settle(&place_of(&self.place, key));
        }
    }

    fn required<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let value = self.optional(key, expected, read)?;
        value.ok_or_else(|| self.error(key, format!("missing, must be {expected}")))
    }

    fn optional<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.values.get(key) else {
            return Ok(None);
        };
        let found = || format!("expected {expected}, found {}", value.kind());
        let value = read(value).ok_or_else(|| self.error(key, found()))?;
        Ok(Some(value))
    }

    fn elements<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Vec<T>, ConfigError> {
        let element = |(at, value): (usize, &'a Value)| {
            let found = || format!("expected {expected}, found {}", value.kind());
            read(value).ok_or_else(|| self.error(&format!("{key}[{at}]"), found()))
        };
        self.list(key)?.iter().enumerate().map(element).collect()
    }
}

/// The place of a key in the table at `place`.
fn place_of(place: &str, key: &str) -> String {
    match place {
        "" => key.to_owned(),
        place => format!("{place}.{key}"),
    }
}

/// One value of a configuration.
///
/// ```
/// use plugin_api::{Config, Value};
///
/// assert_eq!(Value::from(true).as_boolean(), Some(true));
/// assert_eq!(Value::from(3).as_float(), Some(3.0));
/// assert_eq!(Value::from(vec!["a", "b"]).as_list().map(<[_]>::len), Some(2));
/// assert_eq!(Value::from(Config::new()).kind(), "a table");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// Yes or no.
    Boolean(bool),
    /// A list.
    List(Vec<Value>),
    /// A table.
    Table(Config),
}

impl Value {
    /// What it is, in words; never what it says, since that may be a secret.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is one.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The number, whole or not, if it is one.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "who asks for a float has said that precision is not the point"
    )]
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            Self::Integer(number) => Some(*number as f64),
            _ => None,
        }
    }

    /// Yes or no, if it is that.
    #[must_use]
    pub fn as_boolean(&self) -> Option<bool> {
        match self {
            Self::Boolean(yes) => Some(*yes),
            _ => None,
        }
    }

    /// The list, if it is one.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// The table, if it is one.
    #[must_use]
    pub fn as_table(&self) -> Option<&Config> {
        match self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Tells the tables within where they stand.
    fn settle(&mut self, place: &str) {
        match self {
            Self::Table(table) => {
                place.clone_into(&mut table.place);
                table.settle();
            }
            Self::List(list) => {
                for (at, value) in list.iter_mut().enumerate() {
                    value.settle(&format!("{place}[{at}]"));
                }
            }
            Self::Text(_) | Self::Integer(_) | Self::Float(_) | Self::Boolean(_) => {}
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Boolean(yes)
    }
}

impl From<Config> for Value {
    fn from(table: Config) -> Self {
        Self::Table(table)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

/// A key whose value will not do.
///
/// ```
/// use plugin_api::Config;
///
/// let error = Config::new().text("user").unwrap_err();
/// assert_eq!(error.key, "user");
/// assert_eq!(String::from(error), "user: missing, must be a text");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    /// The key with its place, such as `rules[0].header`.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(key: &str, problem: String) -> Self {
        Self {
            key: key.to_owned(),
            problem,
        }
    }
}

impl From<ConfigError> for String {
    fn from(error: ConfigError) -> Self {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_place_and_never_the_value() {
        let user = Config::new().with("password", 1234);
        let config = Config::new()
            .with("users", vec![Config::new(), user])
            .with("names", vec![Value::from("a"), Value::from(1.5)]);
        let user = config.tables("users").expect("tables")[1];
        let error = user.text("password").expect_err("a number");
        assert_eq!(
            error.to_string(),
            "users[1].password: expected a text, found a whole number"
        );
        let error = config.texts("names").expect_err("a number");
        assert_eq!(
            error.to_string(),
            "names[1]: expected a text, found a number"
        );
    }

    #[test]
    fn what_is_missing_has_a_default_or_an_error() {
        let config = Config::new();
        assert_eq!(config.text_or("a", "b"), Ok("b"));
        assert_eq!(config.float_or("a", 0.5), Ok(0.5));
        assert_eq!(config.list("a"), Ok([].as_slice()));
        assert_eq!(config.table("a"), Ok(None));
        assert!(config.integer("a").is_err());
    }
}
