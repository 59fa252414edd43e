//! The keys that leave requests out, and those that rewrite them.

use plugin_api::{Config, ConfigError, Value};

use super::{check_name, known, pattern};
use crate::place::Place;
use crate::rules::{Filter, Match, Part, Rewrite, SHARES, Sample, Without};
use crate::template;

pub(super) fn filter(config: &Config) -> Result<Filter, ConfigError> {
    let mut filter = Filter::default();
    for (at, table) in config.tables("drop")?.into_iter().enumerate() {
        let default = format!("rule_{}", at + 1);
        let name = super::rule_name(table, &default)?;
        filter
            .drop
            .push((condition(table)?, format!("dropped_{name}")));
    }
    for table in config.tables("keep")? {
        filter.keep.push(condition(table)?);
    }
    filter.sample = config.table("sample")?.map(sample).transpose()?;
    Ok(filter)
}

fn condition(table: &Config) -> Result<Match, ConfigError> {
    known(table, &["name", "method", "path", "header", "value"])?;
    let methods = match table.find("method") {
        Some(Value::Text(method)) => vec![method.as_str()],
        _ => table.texts("method")?,
    };
    let header = table.optional_text("header")?;
    if let Some(name) = header {
        template::check_name(name).map_err(|problem| table.error("header", problem))?;
    }
    let value = pattern(table, "value")?;
    if value.is_some() && header.is_none() {
        return Err(table.error("value", "is the value of a header: `header` is missing"));
    }
    let path = pattern(table, "path")?;
    if methods.is_empty() && path.is_none() && header.is_none() {
        return Err(table.error("path", "missing: say a method, a path or a header"));
    }
    Ok(Match {
        methods: methods
            .into_iter()
            .map(|it| it.as_bytes().to_vec())
            .collect(),
        path,
        header: header.map(|it| it.as_bytes().to_vec()),
        value,
    })
}

fn sample(table: &Config) -> Result<Sample, ConfigError> {
    known(table, &["by", "percent", "without"])?;
    let by = Place::read(table.text("by")?).map_err(|problem| table.error("by", problem))?;
    if by.is_in_body() {
        return Err(table.error("by", "must be a cookie, a header or a query parameter"));
    }
    table
        .find("percent")
        .ok_or_else(|| table.error("percent", "missing, must be a number"))?;
    let percent = table.float_or("percent", 100.0)?;
    if !(0.0..=100.0).contains(&percent) {
        return Err(table.error("percent", "must be 0 to 100"));
    }
    let without = match table.text_or("without", "client")? {
        "client" => Without::Client,
        "keep" => Without::Keep,
        "drop" => Without::Drop,
        _ => return Err(table.error("without", "must be client, keep or drop")),
    };
    Ok(Sample {
        by,
        share: (percent / 100.0 * SHARES as f64).round() as u64,
        without,
    })
}

pub(super) fn rewrite(config: &Config) -> Result<Vec<Rewrite>, ConfigError> {
    let rule = |table: &Config| {
        known(table, &["in", "pattern", "with"])?;
        let part = match table.text("in")?.split_once(':') {
            None if table.text("in")? == "path" => Part::Path,
            Some(("header", name)) => {
                check_name(name).map_err(|problem| table.error("in", problem))?;
                Part::Header(name.as_bytes().to_vec())
            }
            _ => return Err(table.error("in", "must be path or header:NAME")),
        };
        let with = table.text("with")?;
        template::check(with).map_err(|problem| table.error("with", problem))?;
        let pattern = super::compile(table.text("pattern")?)
            .map_err(|problem| table.error("pattern", problem))?;
        pattern
            .check_groups(with)
            .map_err(|problem| table.error("with", problem))?;
        Ok(Rewrite {
            part,
            pattern,
            with: with.to_owned(),
        })
    };
    config.tables("rewrite")?.into_iter().map(rule).collect()
}
