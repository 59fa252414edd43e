//! One value of a configuration.

use super::Config;

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
    pub(super) fn settle(&mut self, place: &str) {
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
