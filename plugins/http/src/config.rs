//! The configuration: its keys, and what is made of them.

mod learn;
mod selection;

use std::time::Duration;

use plugin_api::{Config, ConfigError, Key, Manifest, Needs, Value};

use crate::head::Head;
use crate::limits::{Limits, MAX_FIELDS};
use crate::pattern::Pattern;
use crate::plugin::Http;
use crate::rules::{Names, Path, Rules};
use crate::template::{self, Template};

/// How long a body waits for `100 Continue` unless said otherwise.
const EXPECT_WAIT_MS: i64 = 1000;

/// Headers that say where a body ends: nobody but the plugin may change them.
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];

pub(crate) fn manifest() -> Manifest {
    let manifest = Manifest::new(
        "http",
        env!("CARGO_PKG_VERSION"),
        "changes HTTP/1 requests on their way to the target",
    );
    keys()
        .into_iter()
        .fold(manifest.needs(Needs::TARGET), Manifest::key)
}

#[rustfmt::skip]
fn keys() -> Vec<Key> {
    vec![
        Key::text("host", "the Host of every request, such as \"staging.example:8080\"").default("as it came"),
        Key::text("strip_prefix", "taken off the paths that begin with it, such as \"/v1\"").default("nothing"),
        Key::text("path_prefix", "put before every path, after strip_prefix, such as \"/v2\"").default("nothing"),
        Key::list("rewrite", "changes by regular expression: tables of in (\"path\", with the query, or \"header:NAME\"), pattern, with ($1 stands for a group)"),
        Key::table("rename", "headers to rename: old name = new name"),
        Key::list("remove", "names of headers to remove"),
        Key::table("set", "headers to set, in place of any of that name: name = value; in values, {copy}, {client}, {client_port} and {origin} stand for those of the connection, {{ for a brace"),
        Key::table("add", "headers to add behind all others: name = value, as in set"),
        Key::secret("authorization", "the Authorization of every request, such as \"Bearer ...\"").default("as it came"),
        Key::text("marker", "a header that tells replayed requests: \"X-Replayed: tcpcopy {copy}\"; the value as in set").default("none"),
        Key::list("drop", "requests to leave out: tables of method (a text or a list), path (a pattern), header (a name), value (a pattern, of that header), all of which must fit; name (for the counter dropped_NAME)"),
        Key::list("keep", "requests to replay, all others are left out: tables as in drop"),
        Key::table("sample", "a part of the requests, all with the same value or none: by (cookie:NAME, header:NAME or query:NAME), percent (0 to 100), without (what becomes of requests without it: client, its address takes its place; keep; drop)"),
        Key::list("learn", "values that both servers issue, each its own: tables of from (cookie:NAME, header:NAME, json:PATH, body:PATTERN), to (list of cookie:NAME, header:NAME, query:NAME, form:NAME, json:PATH; the same place without it), path (a pattern: of requests whose answers are looked at), wait_ms (how long a request waits, 0 to 60000, 500 without it), otherwise (send or drop what has no counterpart, send without it), expiry_s (1 to 31622400, 86400 without it), name (for counters)").needs(Needs::ORIGIN),
        Key::integer("body_bytes", "bytes of a body that rules look at, 1024 to 2097152").default("262144"),
        Key::integer("expect_wait_ms", "how long a body waits for the target's 100 Continue, 0 to 60000 ms").default("1000"),
        Key::integer("header_bytes", "bytes of a head at most, and of trailers; a session with more is refused; 1024 to 1048576").default("65536"),
        Key::integer("header_count", "headers of a request or answer at most; 1 to 256").default("128"),
    ]
}

/// Makes the plugin of its configuration.
pub(crate) fn read(config: &Config) -> Result<Http, ConfigError> {
    let expect_wait = within(config, "expect_wait_ms", EXPECT_WAIT_MS, 0, 60_000)?;
    Ok(Http {
        limits: limits(config)?,
        expect_wait: Duration::from_millis(expect_wait),
        filter: selection::filter(config)?,
        values: learn::values(config)?,
        rules: rules(config)?,
        head: Head::default(),
        label: String::new(),
    })
}

fn limits(config: &Config) -> Result<Limits, ConfigError> {
    let Limits { head_bytes, fields } = Limits::DEFAULT;
    let head_bytes = within(config, "header_bytes", head_bytes as i64, 1024, 1 << 20)?;
    let fields = within(config, "header_count", fields as i64, 1, MAX_FIELDS as i64)?;
    Ok(Limits {
        head_bytes: head_bytes as usize,
        fields: fields as usize,
    })
}

/// A whole number within bounds.
fn within(
    config: &Config,
    key: &str,
    default: i64,
    least: i64,
    most: i64,
) -> Result<u64, ConfigError> {
    let value = config.integer_or(key, default)?;
    match (least..=most).contains(&value) {
        true => Ok(value as u64),
        false => Err(config.error(key, format!("must be {least} to {most}"))),
    }
}

fn rules(config: &Config) -> Result<Rules, ConfigError> {
    let mut set = headers(config, "set")?;
    let host = config.optional_text("host")?;
    for (key, name, value) in [
        ("host", "Host", host),
        (
            "authorization",
            "Authorization",
            config.optional_text("authorization")?,
        ),
    ] {
        if let Some(value) = value {
            template::check(value).map_err(|problem| config.error(key, problem))?;
            set.push((name.into(), Template::plain(value)));
        }
    }
    if let Some(marker) = config.optional_text("marker")? {
        let wrong = |problem: String| config.error("marker", problem);
        let (name, value) = marker
            .split_once(':')
            .ok_or_else(|| wrong("must be a name, a colon and a value".into()))?;
        check_name(name).map_err(wrong)?;
        set.push((name.into(), Template::read(value.trim()).map_err(wrong)?));
    }
    Ok(Rules {
        path: Path {
            strip_prefix: prefix(config, "strip_prefix")?,
            prefix: prefix(config, "path_prefix")?,
        },
        rewrite: selection::rewrite(config)?,
        rename: rename(config)?,
        remove: remove(config)?,
        set,
        add: headers(config, "add")?,
        host: host.map(|host| host.as_bytes().to_vec()),
    })
}

/// The beginning of a path.
fn prefix(config: &Config, key: &str) -> Result<Vec<u8>, ConfigError> {
    let prefix = config.text_or(key, "")?;
    let is_path = prefix.starts_with('/') && !prefix.ends_with('/');
    let is_plain = prefix
        .bytes()
        .all(|it| it > b' ' && it != 0x7f && it != b'?');
    match prefix.is_empty() || (is_path && is_plain) {
        true => Ok(prefix.as_bytes().to_vec()),
        false => Err(config.error(
            key,
            "must begin with /, not end with it, and have no blanks",
        )),
    }
}

/// Names of headers with their values.
fn headers(config: &Config, key: &str) -> Result<Vec<(Vec<u8>, Template)>, ConfigError> {
    let Some(table) = config.table(key)? else {
        return Ok(Vec::new());
    };
    let header = |(name, _): (&str, &Value)| {
        let wrong = |problem| table.error(name, problem);
        check_name(name).map_err(wrong)?;
        let value = Template::read(table.text(name)?).map_err(wrong)?;
        Ok((name.as_bytes().to_vec(), value))
    };
    table.iter().map(header).collect()
}

fn rename(config: &Config) -> Result<Names, ConfigError> {
    let Some(table) = config.table("rename")? else {
        return Ok(Vec::new());
    };
    let names = |(old, _): (&str, &Value)| {
        let new = table.text(old)?;
        for name in [old, new] {
            check_name(name).map_err(|problem| table.error(old, problem))?;
        }
        Ok((old.as_bytes().to_vec(), new.as_bytes().to_vec()))
    };
    table.iter().map(names).collect()
}

fn remove(config: &Config) -> Result<Vec<Vec<u8>>, ConfigError> {
    let names = config.texts("remove")?.into_iter().enumerate();
    let name = |(at, name): (usize, &str)| match check_name(name) {
        Ok(()) => Ok(name.as_bytes().to_vec()),
        Err(problem) => Err(config.error(&format!("remove[{at}]"), problem)),
    };
    names.map(name).collect()
}

/// A pattern, if there is one under this key.
fn pattern(table: &Config, key: &str) -> Result<Option<Pattern>, ConfigError> {
    let text = table.optional_text(key)?;
    let compiled = text.map(compile).transpose();
    compiled.map_err(|problem| table.error(key, problem))
}

fn compile(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|problem| format!("no regular expression: {problem}"))
}

/// The name of a rule, for its counters.
fn rule_name(table: &Config, default: &str) -> Result<String, ConfigError> {
    let name = table.text_or("name", default)?;
    let is_plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_';
    match (1..=40).contains(&name.len()) && name.bytes().all(is_plain) {
        true => Ok(name.to_owned()),
        false => Err(table.error("name", "must be 1 to 40 of a-z, 0-9 and _")),
    }
}

/// Refuses the keys of a rule that nobody knows.
fn known(table: &Config, keys: &[&str]) -> Result<(), ConfigError> {
    match table.iter().find(|(key, _)| !keys.contains(key)) {
        Some((key, _)) => {
            Err(table.error(key, format!("unknown key, there is: {}", keys.join(", "))))
        }
        None => Ok(()),
    }
}

/// Whether a header may be changed.
fn check_name(name: &str) -> Result<(), String> {
    template::check_name(name)?;
    match FRAMING.iter().any(|it| name.eq_ignore_ascii_case(it)) {
        true => Err(format!(
            "{name} says where a body ends and can't be changed"
        )),
        false => Ok(()),
    }
}
