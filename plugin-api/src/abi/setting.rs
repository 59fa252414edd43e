//! A configuration as a flat list of values with their places, since neither WIT nor C has trees.
//!
//! ```text
//! place   = key { "." key | "[" number "]" }      user   rules[0].header   names."x.y"
//! key     = 1 or more of a-z, A-Z, 0-9, _, -
//!         | '"' any text, with \" for " and \\ for \ '"'
//! ```
//!
//! Elements of a list come in order. A list or table with nothing in it is a value of its own, so
//! that nothing is lost on the way.

use thiserror::Error;

use crate::{Config, Value};

/// How deep tables and lists may be nested.
pub const DEPTH: usize = 32;

/// One value and its place.
///
/// ```
/// use plugin_api::abi::{Scalar, Setting, assemble};
///
/// let setting = Setting { place: "rules[1]".to_owned(), value: Scalar::Boolean(true) };
/// let error = assemble([setting]).unwrap_err();
/// assert_eq!(error.to_string(), "rules[1]: the elements of a list must come in order");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Where it stands.
    pub place: String,
    /// What it is.
    pub value: Scalar,
}

/// A value that holds no others.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// Yes or no.
    Boolean(bool),
    /// A list without elements.
    EmptyList,
    /// A table without keys.
    EmptyTable,
}

/// Why settings are no configuration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}: {problem}")]
pub struct SettingError {
    /// The place as it was given.
    pub place: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Writes a configuration as settings.
///
/// ```
/// use plugin_api::Config;
/// use plugin_api::abi::{assemble, flatten};
///
/// let rule = Config::new().with("x.y", 1);
/// let config = Config::new().with("rules", vec![rule]);
/// let settings = flatten(&config);
/// assert_eq!(settings[0].place, r#"rules[0]."x.y""#);
/// assert_eq!(assemble(settings)?, config);
/// # Ok::<(), plugin_api::abi::SettingError>(())
/// ```
#[must_use]
pub fn flatten(config: &Config) -> Vec<Setting> {
    let mut settings = Vec::new();
    flatten_table(config, "", &mut settings);
    settings
}

/// Makes a configuration of settings; [`flatten`] has an example.
///
/// # Errors
/// When a place is none, comes twice, is both one value and several, is an element out of order, or
/// lies too deep.
pub fn assemble(settings: impl IntoIterator<Item = Setting>) -> Result<Config, SettingError> {
    let mut config = Config::new();
    for Setting { place, value } in settings {
        let value = match value {
            Scalar::Text(text) => Value::Text(text),
            Scalar::Integer(number) => Value::Integer(number),
            Scalar::Float(number) => Value::Float(number),
            Scalar::Boolean(yes) => Value::Boolean(yes),
            Scalar::EmptyList => Value::List(Vec::new()),
            Scalar::EmptyTable => Value::Table(Config::new()),
        };
        let steps = steps(&place);
        let put = steps.and_then(|steps| put(&mut config, &steps, value));
        put.map_err(|problem| SettingError { place, problem })?;
    }
    config.settle();
    Ok(config)
}

fn flatten_table(table: &Config, place: &str, settings: &mut Vec<Setting>) {
    for (key, value) in table.iter() {
        let dot = if place.is_empty() { "" } else { "." };
        flatten_value(value, format!("{place}{dot}{}", quoted(key)), settings);
    }
}

fn flatten_value(value: &Value, place: String, settings: &mut Vec<Setting>) {
    let value = match value {
        Value::List(list) if !list.is_empty() => {
            for (at, value) in list.iter().enumerate() {
                flatten_value(value, format!("{place}[{at}]"), settings);
            }
            return;
        }
        Value::Table(table) if !table.is_empty() => {
            return flatten_table(table, &place, settings);
        }
        Value::Text(text) => Scalar::Text(text.clone()),
        Value::Integer(number) => Scalar::Integer(*number),
        Value::Float(number) => Scalar::Float(*number),
        Value::Boolean(yes) => Scalar::Boolean(*yes),
        Value::List(_) => Scalar::EmptyList,
        Value::Table(_) => Scalar::EmptyTable,
    };
    settings.push(Setting { place, value });
}

fn is_bare(key: &str) -> bool {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !key.is_empty() && key.bytes().all(bare)
}

fn quoted(key: &str) -> String {
    match is_bare(key) {
        true => key.to_owned(),
        false => format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

/// One step of the way to a value.
#[derive(Debug)]
enum Step {
    Key(String),
    Element(usize),
}

/// Reads a place.
fn steps(place: &str) -> Result<Vec<Step>, &'static str> {
    let mut steps = Vec::new();
    let mut rest = place;
    loop {
        if let Some(inside) = rest.strip_prefix('[') {
            let (number, after) = inside.split_once(']').ok_or("a [ without its ]")?;
            let number = number.parse().map_err(|_| "no number between [ and ]")?;
            steps.push(Step::Element(number));
            rest = after;
        } else {
            if !steps.is_empty() {
                rest = rest.strip_prefix('.').ok_or("a key must follow a dot")?;
            }
            let (key, after) = key(rest)?;
            steps.push(Step::Key(key));
            rest = after;
        }
        if rest.is_empty() {
            return Ok(steps);
        }
        if steps.len() == DEPTH {
            return Err("it lies too deep");
        }
    }
}

/// Reads a key and what comes after it.
fn key(text: &str) -> Result<(String, &str), &'static str> {
    let Some(inside) = text.strip_prefix('"') else {
        let end = text.find(['.', '[']).unwrap_or(text.len());
        let (key, after) = text.split_at(end);
        return match is_bare(key) {
            true => Ok((key.to_owned(), after)),
            false => Err("a key must be quoted"),
        };
    };
    let mut key = String::new();
    let mut letters = inside.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((key, &inside[at + 1..])),
            '\\' => match letters.next() {
                Some((_, escaped @ ('"' | '\\'))) => key.push(escaped),
                _ => return Err("\\ must be followed by \" or \\"),
            },
            letter => key.push(letter),
        }
    }
    Err("a quote without its end")
}

const TWICE: &str = "it is set twice";

fn put(table: &mut Config, steps: &[Step], value: Value) -> Result<(), &'static str> {
    let (step, rest) = steps.split_first().ok_or("a place has at least a key")?;
    let Step::Key(key) = step else {
        return Err("a table has no numbered elements");
    };
    if table.find(key).is_none() {
        table.set(key, new_value(rest, value)?);
        return Ok(());
    }
    let there = table.find_mut(key).ok_or(TWICE)?;
    put_into(there, rest, value)
}

fn put_into(there: &mut Value, steps: &[Step], value: Value) -> Result<(), &'static str> {
    match (there, steps.first()) {
        (_, None) => Err(TWICE),
        (Value::Table(table), Some(Step::Key(_))) if !table.is_empty() => put(table, steps, value),
        (Value::List(list), Some(Step::Element(at))) if !list.is_empty() => {
            let (rest, length) = (&steps[1..], list.len());
            match list.get_mut(*at) {
                Some(element) => put_into(element, rest, value),
                None if *at == length => {
                    list.push(new_value(rest, value)?);
                    Ok(())
                }
                None => Err("the elements of a list must come in order"),
            }
        }
        _ => Err("it is both one value and several"),
    }
}

/// A value that has a place all for itself.
fn new_value(steps: &[Step], value: Value) -> Result<Value, &'static str> {
    match steps.first() {
        None => Ok(value),
        Some(Step::Key(_)) => {
            let mut table = Config::new();
            put(&mut table, steps, value)?;
            Ok(Value::Table(table))
        }
        Some(Step::Element(0)) => Ok(Value::List(vec![new_value(&steps[1..], value)?])),
        Some(Step::Element(_)) => Err("the elements of a list must come in order"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            "\\PC{0,9}".prop_map(Value::Text),
            any::<i64>().prop_map(Value::Integer),
            (-1e9..1e9).prop_map(Value::Float),
            any::<bool>().prop_map(Value::Boolean),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::List),
                table(inner).prop_map(Value::Table),
            ]
        })
    }

    fn table(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Config> {
        let key = prop_oneof!["[a-z_-]{1,5}", "[a.\"\\\\\\[\\] é]{0,5}"];
        btree_map(key, value, 0..4).prop_map(|values| {
            let set = |config: Config, (key, value): (String, Value)| config.with(&key, value);
            values.into_iter().fold(Config::new(), set)
        })
    }

    proptest! {
        #[test]
        fn what_is_flattened_is_assembled(config in table(value())) {
            prop_assert_eq!(assemble(flatten(&config)), Ok(config));
        }

        #[test]
        fn any_places_are_read_or_refused(
            places in vec("([a-c]|\\.|\\[[0-9]\\]|\"|\\\\|\\PC|\\[){0,12}", 0..6),
        ) {
            let setting = |place: String| Setting { place, value: Scalar::Integer(1) };
            let settings: Vec<_> = places.into_iter().map(setting).collect();
            let count = settings.len();
            if let Ok(config) = assemble(settings) {
                prop_assert_eq!(flatten(&config).len(), count);
            }
        }
    }

    fn problem(places: &[&str]) -> &'static str {
        let setting = |place: &&str| Setting {
            place: (*place).to_owned(),
            value: Scalar::Boolean(true),
        };
        let assembled = assemble(places.iter().map(setting).collect::<Vec<_>>());
        assembled.map_or_else(|error| error.problem, |_| "none")
    }

    #[test]
    fn each_error_has_its_words() {
        assert_eq!(
            problem(&["a", "b.c", "b.d", "e[0][0]", "e[0][1].x"]),
            "none"
        );
        assert_eq!(problem(&[""]), "a key must be quoted");
        assert_eq!(problem(&["a b"]), "a key must be quoted");
        assert_eq!(problem(&["a."]), "a key must be quoted");
        assert_eq!(problem(&["[0]"]), "a table has no numbered elements");
        assert_eq!(problem(&["a[x]"]), "no number between [ and ]");
        assert_eq!(problem(&["a[0"]), "a [ without its ]");
        assert_eq!(problem(&["a[0]b"]), "a key must follow a dot");
        assert_eq!(problem(&["\"a"]), "a quote without its end");
        assert_eq!(problem(&["\"\\a\""]), "\\ must be followed by \" or \\");
        assert_eq!(problem(&["a", "a"]), TWICE);
        assert_eq!(problem(&["a", "a.b"]), "it is both one value and several");
        assert_eq!(
            problem(&["a.b", "a[0]"]),
            "it is both one value and several"
        );
        assert_eq!(
            problem(&["a[1]"]),
            "the elements of a list must come in order"
        );
        let deep = format!("a{}", "[0]".repeat(100_000));
        assert_eq!(problem(&[&deep]), "it lies too deep");
    }

    #[test]
    fn tables_know_their_place_afterwards() {
        let setting = Setting {
            place: "rules[0].header".to_owned(),
            value: Scalar::Integer(1),
        };
        let config = assemble([setting]).expect("good");
        let rule = config.tables("rules").expect("tables")[0];
        let error = rule.text("header").expect_err("a number");
        assert_eq!(error.key, "rules[0].header");
    }
}
