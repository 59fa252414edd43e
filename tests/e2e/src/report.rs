//! The balance that tcpcopy writes with `--report`.

use serde_json::Value;

/// A report, with the accounts that the tests ask for.
#[derive(Debug, Clone)]
pub struct Report(Value);

impl Report {
    /// Reads a report.
    ///
    /// # Panics
    /// When the text is no JSON.
    pub fn parse(text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(value) => Self(value),
            Err(error) => panic!("the report is no JSON ({error}):\n{text}"),
        }
    }

    /// The count `name` in `section`, such as `captured` in `requests`; a dot in the section
    /// leads deeper.
    ///
    /// # Panics
    /// When the report has no such count.
    pub fn count(&self, section: &str, name: &str) -> u64 {
        let path = section.split('.').chain([name]);
        let value = path.fold(&self.0, |value, key| &value[key]);
        value
            .as_u64()
            .unwrap_or_else(|| panic!("no {section}.{name} in the report:\n{self}"))
    }

    /// How many of `section` (`connections`, `requests` or `bytes`) were dropped for `reason`.
    ///
    /// # Panics
    /// When the report does not know the reason.
    pub fn dropped(&self, section: &str, reason: &str) -> u64 {
        self.count(&format!("{section}.dropped"), reason)
    }

    /// Asserts that everything captured ended in exactly one place.
    ///
    /// # Panics
    /// When an account does not come out even.
    pub fn assert_balanced(&self) {
        for section in ["connections", "requests", "bytes"] {
            let dropped = self.0[section]["dropped"].as_object();
            let dropped = dropped.unwrap_or_else(|| panic!("no drops of {section}:\n{self}"));
            let dropped: u64 = dropped.values().filter_map(Value::as_u64).sum();
            let (captured, delivered) = (
                self.count(section, "captured"),
                self.count(section, "delivered"),
            );
            assert_eq!(
                captured,
                delivered + dropped,
                "{section} do not come out even:\n{self}"
            );
        }
    }

    /// Asserts that nothing at all was lost.
    ///
    /// # Panics
    /// When something was, with the whole report.
    pub fn assert_nothing_lost(&self) {
        self.assert_balanced();
        for section in ["connections", "requests", "bytes"] {
            let (captured, delivered) = (
                self.count(section, "captured"),
                self.count(section, "delivered"),
            );
            assert_eq!(captured, delivered, "{section} were lost:\n{self}");
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:#}", self.0)
    }
}
