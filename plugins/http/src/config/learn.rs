//! The keys of values that are learnt.

use std::time::Duration;

use plugin_api::{Config, ConfigError};

use super::{known, pattern, rule_name, within};
use crate::place::{Place, json_path};
use crate::values::{Counters, MAX_RULES, Rule, Source, Values};

/// Bytes of a body that are looked at unless said otherwise: pages with a form are longer than one
/// would think.
const BODY_BYTES: i64 = 256 * 1024;

/// The most that `body_bytes` may allow: what is kept of a body leaves in one call, with what came
/// while a value was waited for, and tcpcopy takes 4 MiB a call.
const MAX_BODY_BYTES: i64 = 2 << 20;

/// How long a request waits for a value unless said otherwise.
const WAIT_MS: i64 = 500;

/// How long a value is remembered unless said otherwise: a day.
const EXPIRY_S: i64 = 86_400;

pub(super) fn values(config: &Config) -> Result<Values, ConfigError> {
    let body_bytes = within(config, "body_bytes", BODY_BYTES, 1024, MAX_BODY_BYTES)?;
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
    let from = table.text("from")?;
    let (source, default) = source(from).map_err(|problem| table.error("from", problem))?;
    let mut to = table.texts("to")?;
    if to.is_empty() {
        if let Source::Body(_) = source {
            let problem = "missing: say where the value is used, such as form:NAME";
            return Err(table.error("to", problem));
        }
        to.push(from);
    }
    let place = |(at, text): (usize, &str)| {
        let place = Place::read(text);
        place.map_err(|problem| table.error(&format!("to[{at}]"), problem))
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
        counters: Counters::new(&rule_name(table, &default)?),
    })
}

/// Where a value is learnt, and a name for a rule that has none.
fn source(from: &str) -> Result<(Source, String), String> {
    let (kind, name) = from.split_once(':').unwrap_or((from, ""));
    if name.is_empty() {
        return Err(format!("`{from}` is no place such as cookie:NAME"));
    }
    let source = match kind {
        "cookie" => Source::Cookie(name.into()),
        "header" => Source::Header(name.into()),
        "json" => Source::Json(json_path(name)),
        "body" => {
            let pattern = super::compile(name)?;
            if pattern.groups() == 0 {
                return Err("the pattern needs a group in () around the value".into());
            }
            return Ok((Source::Body(Box::new(pattern)), "body".into()));
        }
        _ => {
            return Err(format!("`{kind}` is none of cookie, header, json and body"));
        }
    };
    let plain = |it: char| match it.is_ascii_alphanumeric() {
        true => it.to_ascii_lowercase(),
        false => '_',
    };
    Ok((source, name.chars().take(40).map(plain).collect()))
}
