//! The balance that tcpcopy writes with `--report`.

use std::fmt;

use serde_json::Value;

use crate::{LabError, Result};

/// The accounts of a balance.
const ACCOUNTS: [&str; 3] = ["connections", "requests", "bytes"];

/// A report, with the accounts that tests ask for.
#[derive(Debug, Clone)]
pub struct Report(Value);

impl Report {
    /// Reads a report.
    ///
    /// # Errors
    /// [`LabError::Unreadable`] when the text is no JSON.
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map(Self)
            .map_err(|error| LabError::Unreadable {
                program: "tcpcopy",
                detail: format!("its report is no JSON ({error}):\n{text}"),
            })
    }

    /// The count `name` in `section`, such as `captured` in `requests`; a dot in the section
    /// leads deeper, and a number is a place in a list, as in `targets.0.requests`.
    ///
    /// # Panics
    /// When the report has no such count.
    pub fn count(&self, section: &str, name: &str) -> u64 {
        let value = self.section(section);
        value[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no {section}.{name} in the report:\n{self}"))
    }

    /// The same of counts that reports leave out while they are zero, such as those of plugins.
    ///
    /// # Panics
    /// When the report has no such section.
    pub fn count_if_any(&self, section: &str, name: &str) -> u64 {
        let counts = self.section(section).as_object();
        let counts = counts.unwrap_or_else(|| panic!("no {section} in the report:\n{self}"));
        counts.get(name).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The figure `name` in `section`, which may be a fraction.
    ///
    /// # Panics
    /// When the report has no such figure.
    pub fn figure(&self, section: &str, name: &str) -> f64 {
        let value = self.section(section)[name].as_f64();
        value.unwrap_or_else(|| panic!("no {section}.{name} in the report:\n{self}"))
    }

    /// How many of `section` (`connections`, `requests` or `bytes`) were dropped for `reason`.
    ///
    /// # Panics
    /// When the report does not know the reason.
    pub fn dropped(&self, section: &str, reason: &str) -> u64 {
        self.count(&format!("{section}.dropped_by_reason"), reason)
    }

    /// How much of `section` was captured and has not ended in exactly one place: zero, unless
    /// tcpcopy is wrong.
    ///
    /// # Panics
    /// When the report has no such account.
    pub fn difference(&self, section: &str) -> i128 {
        let reasons = self.section(section)["dropped_by_reason"].as_object();
        let reasons = reasons.unwrap_or_else(|| panic!("no reasons of {section}:\n{self}"));
        let dropped: u64 = reasons.values().filter_map(Value::as_u64).sum();
        let ended = self.count(section, "delivered") + dropped;
        i128::from(self.count(section, "captured")) - i128::from(ended)
    }

    /// Asserts that everything captured ended in exactly one place, in sum and for each target.
    ///
    /// # Panics
    /// When an account does not come out even.
    pub fn assert_balanced(&self) {
        let of_targets = (0..self.target_count())
            .flat_map(|target| ACCOUNTS.map(|account| format!("targets.{target}.{account}")));
        for section in ACCOUNTS.map(str::to_owned).into_iter().chain(of_targets) {
            assert_eq!(
                self.difference(&section),
                0,
                "{section} do not come out even:\n{self}"
            );
        }
    }

    /// How many targets have a column of their own.
    pub fn target_count(&self) -> usize {
        self.0["targets"].as_array().map_or(0, Vec::len)
    }

    /// Asserts that nothing at all was lost of what one target was to get.
    ///
    /// # Panics
    /// When something was, with the whole report.
    pub fn assert_nothing_lost_at(&self, target: usize) {
        for account in ACCOUNTS {
            let section = format!("targets.{target}.{account}");
            let captured = self.count(&section, "captured");
            assert_eq!(
                captured,
                self.count(&section, "delivered"),
                "{section} lost:\n{self}"
            );
        }
    }

    /// What the report says at a path, as in [`count`](Self::count); null where it says nothing.
    pub fn section(&self, path: &str) -> &Value {
        path.split('.')
            .fold(&self.0, |value, key| match key.parse::<usize>() {
                Ok(place) => &value[place],
                Err(_) => &value[key],
            })
    }

    /// Asserts that nothing at all was lost.
    ///
    /// # Panics
    /// When something was, with the whole report.
    pub fn assert_nothing_lost(&self) {
        self.assert_balanced();
        for section in ACCOUNTS {
            let captured = self.count(section, "captured");
            assert_eq!(
                captured,
                self.count(section, "delivered"),
                "{section} lost:\n{self}"
            );
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_no_place_or_in_two_shows() {
        let account = |captured: u64, delivered: u64| {
            serde_json::json!({
                "captured": captured, "delivered": delivered, "dropped_by_reason": { "bug": 2, "shut_down": 1 }
            })
        };
        let report = Report(serde_json::json!({
            "connections": account(10, 7), "requests": account(10, 6), "bytes": account(10, 8)
        }));
        let differences = ACCOUNTS.map(|section| report.difference(section));
        assert_eq!(differences, [0, 1, -1]);
        assert_eq!(report.dropped("bytes", "bug"), 2);
    }
}
