//! The keys of values that are learnt.

use std::time::Duration;

use plugin_api::{Config, ConfigError};

use super::{known, pattern, rule_name, within};
use crate::place::{Place, json_path};
use crate::values::{Counters, MAX_RULES, Rule, Source, Values};

/// Bytes of a body that are looked at unless said otherwise: pages with a form are longer than one
/// would think.
const BODY_BYTES: i64 = 256 * 1024;

/// How long a request waits for a value unless said otherwise.
const WAIT_MS: i64 = 500;

/// How long a value is remembered unless said otherwise: a day.
const EXPIRY_S: i64 = 86_400;

pub(super) fn values(config: &Config) -> Result<Values, ConfigError> {
    let body_bytes = within(config, "body_bytes", BODY_BYTES, 1024, 16 << 20)?;
    let tables = config.tables("learn")?;
    if tables.len() > MAX_RULES {
        return Err(config.error("learn", format!("there may be {MAX_RULES} rules at most")));
    }
    Ok(Values {
        rules: tables.into_iter().map(rule).collect::<Result<_, _>>()?,
        body_bytes: usize::try_from(body_bytes).unwrap_or(usize::MAX),
    })
}

fn rule(table: &Config) -> Result<Rule, ConfigError> {
    known(
        table,
        &[
            "name",
            "from",
            "to",
            "path",
            "wait_ms",
            "otherwise",
            "expiry_s",
        ],
    )?;
    let wrong = |problem: String| table.error("from", problem);
    let from = table.text("from")?;
    let (kind, name) = from.split_once(':').unwrap_or((from, ""));
    if name.is_empty() {
        return Err(wrong(format!("`{from}` is no place such as cookie:NAME")));
    }
    let source = match kind {
        "cookie" => Source::Cookie(name.into()),
        "header" => Source::Header(name.into()),
        "json" => Source::Json(json_path(name)),
        "body" => {
            let pattern = super::compile(name).map_err(wrong)?;
            if pattern.groups() == 0 {
                return Err(wrong(
                    "the pattern needs a group in () around the value".into(),
                ));
            }
            Source::Body(Box::new(pattern))
        }
        _ => {
            return Err(wrong(format!(
                "`{kind}` is none of cookie, header, json and body"
            )));
        }
    };
    let mut to = table.texts("to")?;
    if to.is_empty() {
        if let Source::Body(_) = source {
            return Err(table.error(
                "to",
                "missing: say where the value is used, such as form:NAME",
            ));
        }
        to.push(from);
    }
    let place = |(at, text): (usize, &str)| {
        let place = Place::read(text);
        place.map_err(|problem| table.error(&format!("to[{at}]"), problem))
    };
    let default: String = match source {
        Source::Body(_) => "body".into(),
        _ => name
            .to_ascii_lowercase()
            .replace(|it: char| !it.is_ascii_alphanumeric(), "_"),
    };
    Ok(Rule {
        from: source,
        to: to
            .into_iter()
            .enumerate()
            .map(place)
            .collect::<Result<_, _>>()?,
        path: pattern(table, "path")?,
        wait: Duration::from_millis(within(table, "wait_ms", WAIT_MS, 0, 60_000)?),
        drops: match table.text_or("otherwise", "send")? {
            "send" => false,
            "drop" => true,
            _ => return Err(table.error("otherwise", "must be send or drop")),
        },
        expiry: Duration::from_secs(within(table, "expiry_s", EXPIRY_S, 1, 366 * 86_400)?),
        counters: Counters::new(&rule_name(table, default.get(..40).unwrap_or(&default))?),
    })
}
