//! A plugin's configuration: its table of the configuration file, with `--set` over it.

mod value;

use std::collections::BTreeMap;

use thiserror::Error;

pub use value::Value;

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
    ///
    /// ```
    /// assert!(plugin_api::Config::new().is_empty());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key.
    ///
    /// ```
    /// let config = plugin_api::Config::new().with("user", "eve").with("retries", 3);
    /// assert_eq!(config.iter().count(), 2);
    /// ```
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.set(key, value);
        self
    }

    /// Sets a key.
    ///
    /// ```
    /// let mut config = plugin_api::Config::new();
    /// config.set("user", "eve");
    /// assert_eq!(config.text("user"), Ok("eve"));
    /// ```
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let mut value = value.into();
        value.settle(&place_of(&self.place, key));
        self.values.insert(key.to_owned(), value);
    }

    /// The value of a key, whatever it is.
    ///
    /// ```
    /// let config = plugin_api::Config::new().with("port", 80);
    /// assert_eq!(config.find("port"), Some(&80.into()));
    /// ```
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// The value of a key to be changed; whoever changes it settles the whole.
    pub(crate) fn find_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.values.get_mut(key)
    }

    /// All keys and values in the order of the keys.
    ///
    /// ```
    /// let config = plugin_api::Config::new().with("b", 1).with("a", true);
    /// let keys: Vec<_> = config.iter().map(|(key, _)| key).collect();
    /// assert_eq!(keys, ["a", "b"]);
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Whether there is no key.
    ///
    /// ```
    /// assert!(!plugin_api::Config::new().with("a", 1).is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// A text that must be there.
    ///
    /// ```
    /// let config = plugin_api::Config::new().with("user", "eve");
    /// assert_eq!(config.text("user"), Ok("eve"));
    /// assert!(config.text("password").is_err());
    /// ```
    ///
    /// # Errors
    /// When the key is missing or of another kind.
    pub fn text(&self, key: &str) -> Result<&str, ConfigError> {
        self.required(key, "a text", Value::as_text)
    }

    /// A text that may be missing.
    ///
    /// ```
    /// let config = plugin_api::Config::new();
    /// assert_eq!(config.optional_text("user"), Ok(None));
    /// ```
    ///
    /// # Errors
    /// When the key is of another kind.
    pub fn optional_text(&self, key: &str) -> Result<Option<&str>, ConfigError> {
        self.optional(key, "a text", Value::as_text)
    }

    /// A text, or `default` without it.
    ///
    /// ```
    /// let config = plugin_api::Config::new();
    /// assert_eq!(config.text_or("user", "eve"), Ok("eve"));
    /// ```
    ///
    /// # Errors
    /// When the key is of another kind.
    pub fn text_or<'a>(&'a self, key: &str, default: &'a str) -> Result<&'a str, ConfigError> {
        Ok(self.optional_text(key)?.unwrap_or(default))
    }

    /// A whole number that must be there.
    ///
    /// ```
    /// let config = plugin_api::Config::new().with("port", 80);
    /// assert_eq!(config.integer("port"), Ok(80));
    /// ```
    ///
    /// # Errors
    /// When the key is missing or of another kind.
    pub fn integer(&self, key: &str) -> Result<i64, ConfigError> {
        self.required(key, "a whole number", Value::as_integer)
    }

    /// A whole number, or `default` without it.
    ///
    /// ```
    /// let config = plugin_api::Config::new();
    /// assert_eq!(config.integer_or("retries", 3), Ok(3));
    /// ```
    ///
    /// # Errors
    /// When the key is of another kind.
    pub fn integer_or(&self, key: &str, default: i64) -> Result<i64, ConfigError> {
        let value = self.optional(key, "a whole number", Value::as_integer)?;
        Ok(value.unwrap_or(default))
    }

    /// A number, or `default` without it.
    ///
    /// ```
    /// let config = plugin_api::Config::new().with("speed", 2);
    /// assert_eq!(config.float_or("speed", 1.0), Ok(2.0));
    /// ```
    ///
    /// # Errors
    /// When the key is of another kind.
    pub fn float_or(&self, key: &str, default: f64) -> Result<f64, ConfigError> {
        let value = self.optional(key, "a number", Value::as_float)?;
        Ok(value.unwrap_or(default))
    }

    /// Yes or no, or `default` without it.
    ///
    /// ```
    /// let config = plugin_api::Config::new().with("strict", false);
    /// assert_eq!(config.boolean_or("strict", true), Ok(false));
    /// ```
    ///
    /// # Errors
    /// When the key is of another kind.
    pub fn boolean_or(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        let value = self.optional(key, "true or false", Value::as_boolean)?;
        Ok(value.unwrap_or(default))
    }

    /// A list; an empty one without the key.
    ///
    /// ```
    /// let config = plugin_api::Config::new().with("ports", vec![80, 443]);
    /// assert_eq!(config.list("ports").map(<[_]>::len), Ok(2));
    /// ```
    ///
    /// # Errors
    /// When the key is of another kind.
    pub fn list(&self, key: &str) -> Result<&[Value], ConfigError> {
        let list = self.optional(key, "a list", Value::as_list)?;
        Ok(list.unwrap_or_default())
    }

    /// A list of texts; an empty one without the key.
    ///
    /// ```
    /// let config = plugin_api::Config::new().with("drop", vec!["GET", "HEAD"]);
    /// assert_eq!(config.texts("drop"), Ok(vec!["GET", "HEAD"]));
    /// ```
    ///
    /// # Errors
    /// When the key or an element is of another kind.
    pub fn texts(&self, key: &str) -> Result<Vec<&str>, ConfigError> {
        self.elements(key, "a text", Value::as_text)
    }

    /// A list of tables; an empty one without the key.
    ///
    /// ```
    /// use plugin_api::Config;
    ///
    /// let rules = vec![Config::new().with("from", "a"), Config::new()];
    /// let config = Config::new().with("rules", rules);
    /// let rules = config.tables("rules")?;
    /// assert_eq!(rules[0].text("from"), Ok("a"));
    /// assert!(rules[1].text("from").is_err_and(|error| error.key == "rules[1].from"));
    /// # Ok::<(), plugin_api::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// When the key or an element is of another kind.
    pub fn tables(&self, key: &str) -> Result<Vec<&Config>, ConfigError> {
        self.elements(key, "a table", Value::as_table)
    }

    /// A table that may be missing.
    ///
    /// ```
    /// use plugin_api::Config;
    ///
    /// let config = Config::new().with("names", Config::new().with("a", "b"));
    /// let names = config.table("names")?.map(|names| names.iter().count());
    /// assert_eq!(names, Some(1));
    /// # Ok::<(), plugin_api::ConfigError>(())
    /// ```
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
