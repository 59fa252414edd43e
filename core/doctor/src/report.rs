//! What a doctor tells: each hop with what was measured, then the findings.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::finding::Finding;

/// How a hop fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Good,
    /// It does not.
    Bad,
    /// It was not tried, or could not be.
    Untried,
}

impl Health {
    const fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Bad => "FAIL",
            Self::Untried => "-",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Untried => "untried",
        }
    }
}

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Such as `capture`.
    pub name: &'static str,
    /// How it fared.
    pub health: Health,
    /// What was measured.
    pub fact: String,
}

/// All that a doctor tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    hops: Vec<Hop>,
    findings: Vec<Finding>,
}

impl Report {
    /// A report of nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            hops: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Adds a hop.
    pub fn hop(&mut self, name: &'static str, health: Health, fact: impl Into<String>) {
        self.hops.push(Hop {
            name,
            health,
            fact: fact.into(),
        });
    }

    /// Adds a finding, once.
    pub fn find(&mut self, finding: impl Into<Finding>) {
        let finding = finding.into();
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// What was found so far.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The exit status: 0 without a finding, 1 with one.
    #[must_use]
    pub fn status(&self) -> ExitCode {
        ExitCode::from(u8::from(!self.findings.is_empty()))
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        const NAME_WIDTH: usize = 10;
        let mut text = String::new();
        for Hop { name, health, fact } in &self.hops {
            let word = health.word();
            text.push_str(&format!("{word:<5}{name:<NAME_WIDTH$} {fact}\n"));
        }
        for finding in &self.findings {
            let (name, what, remedy) = (finding.name(), finding.what(), finding.remedy());
            text.push_str(&format!("\nfinding: {name}\n  {what}\n\nhint: {remedy}\n"));
        }
        let untried = self.hops.iter().any(|hop| hop.health == Health::Untried);
        text.push_str(match (self.findings.is_empty(), untried) {
            (true, false) => "\nno finding: the path works\n",
            (true, true) => "\nno finding; what could not be tried is marked '-'\n",
            (false, _) => "",
        });
        text
    }

    /// The report for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let hop = |Hop { name, health, fact }: &Hop| json!({ "hop": name, "health": health.name(), "fact": fact });
        let finding = |finding: &Finding| json!({ "name": finding.name(), "what": finding.what(), "hint": finding.remedy() });
        json!({
            "healthy": self.findings.is_empty(),
            "hops": self.hops.iter().map(hop).collect::<Vec<_>>(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }

    /// The report in the form asked for.
    #[must_use]
    pub fn render(&self, as_json: bool) -> String {
        if as_json {
            format!("{:#}\n", self.json())
        } else {
            self.text()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Here;

    #[test]
    fn people_and_programs_are_told_the_same() {
        let mut report = Report::new();
        report.hop("capture", Health::Good, "a packet of 192.0.2.1 on eth0");
        assert!(report.text().ends_with("no finding: the path works\n"));
        assert_eq!(report.json()["healthy"], true);
        report.find(Here::NoDescriptor);
        report.find(Here::NoDescriptor);
        let text = report.text();
        assert!(text.starts_with("ok   capture    a packet of 192.0.2.1 on eth0\n"));
        assert!(text.contains("finding: no_descriptor\n"), "{text}");
        assert!(text.contains("hint: raise the limit"), "{text}");
        let json = report.json();
        assert_eq!(json["healthy"], false);
        assert_eq!(json["findings"].as_array().map(Vec::len), Some(1));
        assert_eq!(json["hops"][0]["health"], "good");
    }
}
