//! Values of TOML as a plugin's configuration has them.

use std::path::Path;

use plugin_api::{Config, KeyKind, Value as Told};
use toml::{Table, Value};

use super::SettingsError;
use super::secret::{Place, Source};

/// The value of a `--set`, for a key of this kind where that is known.
pub(super) fn of_text(text: &str, kind: Option<KeyKind>) -> Value {
    let is_text = matches!(kind, Some(KeyKind::Text | KeyKind::Secret));
    // A table may be the source of a secret.
    let first = text.trim_start().chars().next();
    let is_marked = matches!(first, Some('"' | '\'' | '{'));
    let read = match !is_text || is_marked {
        true => format!("value = {text}").parse::<Table>().ok(),
        false => None,
    };
    let value = read.filter(|table| table.len() == 1);
    let value = value.and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Puts a value where a `--set` wants it.
pub(super) fn put(table: &mut Table, place: &[String], value: Value) -> Result<(), String> {
    let [key, rest @ ..] = place else {
        return Ok(());
    };
    if rest.is_empty() {
        table.insert(key.clone(), value);
        return Ok(());
    }
    let inner = table.entry(key.as_str());
    match inner.or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => put(inner, rest, value),
        _ => Err(format!("`{key}` is no table, so there is nothing in it")),
    }
}

/// Makes a plugin's value of one of TOML; `place` is where it stands. `is_secret` where a secret is
/// due, which may come from elsewhere.
pub(super) fn convert(
    value: Value,
    place: &str,
    is_secret: bool,
    base: Option<&Path>,
) -> Result<Told, SettingsError> {
    Ok(match value {
        Value::String(text) => Told::Text(text),
        Value::Integer(number) => Told::Integer(number),
        Value::Float(number) => Told::Float(number),
        Value::Boolean(yes) => Told::Boolean(yes),
        Value::Datetime(_) => {
            let remedy = "put it in quotes";
            let why = "a date is no value that a plugin can be told";
            return Err(SettingsError::new(place, why, remedy));
        }
        Value::Array(list) => {
            let elements = list.into_iter().enumerate();
            let elements = elements.map(|(at, value)| {
                let place = format!("{place}[{at}]");
                convert(value, &place, false, base)
            });
            Told::List(elements.collect::<Result<_, _>>()?)
        }
        Value::Table(table) => {
            let where_to = if is_secret { Place::Key } else { Place::Inside };
            if let Some(source) = Source::of(&table, where_to) {
                return Ok(Told::Text(source.read(place, base)?));
            }
            let mut inner = Config::new();
            for (key, value) in table {
                let place = format!("{place}.{key}");
                inner.set(&key, convert(value, &place, false, base)?);
            }
            Told::Table(inner)
        }
    })
}
