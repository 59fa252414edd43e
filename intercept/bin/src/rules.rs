//! The firewall rules that queue the target's replies.
//!
//! A rule carries a comment with the queue's number, by which it is found again. Rules are written
//! just as `iptables -S` lists them, so that a wanted rule can be told from a stale one by its
//! text; new ones are in place before stale ones go, so that nothing leaks in between.
//!
//! Of two rules that cover a packet only the first sees it: what a queue accepts does not come to
//! the next rule. So two intercepts can't share a port.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::Error;

/// How a rule's comment begins; the number of the first queue follows.
const COMMENT: &str = "intercept:";
/// The chain that all packets of local servers pass.
const CHAIN: &str = "OUTPUT";
/// Seconds to wait for another program that changes rules.
const LOCK_WAIT_S: &str = "5";
/// Exists when the kernel speaks IPv6.
const IPV6_MARKER: &str = "/proc/net/if_inet6";

/// One of the two firewall commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const ALL: [Self; 2] = [Self::V4, Self::V6];

    const fn program(self) -> &'static str {
        match self {
            Self::V4 => "iptables",
            Self::V6 => "ip6tables",
        }
    }

    fn exists(self) -> bool {
        self == Self::V4 || Path::new(IPV6_MARKER).exists()
    }

    const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    const fn prefix_len(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// Which packets go into which queues.
#[derive(Clone, Debug)]
pub(crate) struct RuleSet {
    /// The target's ports.
    pub(crate) ports: Vec<u16>,
    /// The target's addresses; all of them if there is none.
    pub(crate) addresses: Vec<IpAddr>,
    /// The first queue.
    pub(crate) queue: u16,
    /// How many queues packets are spread over, by connection.
    pub(crate) queues: u16,
    /// Let packets pass while nobody has the queue.
    pub(crate) bypass: bool,
}

/// A rule as words after the chain's name.
type Rule = Vec<String>;

/// Rules that are in place; [`InstalledRules::remove`] takes them away. They stay when the process
/// dies: then nothing passes, rather than what must not.
#[derive(Debug)]
pub(crate) struct InstalledRules {
    queue: u16,
    /// What this run has inserted; other rules of the same queue were left by a killed one.
    inserted: Vec<(Family, Rule)>,
    /// What a killed run left and this one does not want.
    stale: Vec<(Family, Rule)>,
}

impl RuleSet {
    /// Puts the rules in place. Other rules for the same queue stay until
    /// [`InstalledRules::settle`].
    ///
    /// # Errors
    /// [`Error::PortTaken`] when another intercept has rules for one of the ports; [`Error::Rule`]
    /// with the command and what it said. What was inserted before is removed.
    pub(crate) fn install(&self) -> Result<InstalledRules, Error> {
        let mut installed = InstalledRules {
            queue: self.queue,
            inserted: Vec::new(),
            stale: Vec::new(),
        };
        for family in Family::ALL.into_iter().filter(|family| family.exists()) {
            if let Err(error) = self.install_family(family, &mut installed) {
                installed.undo();
                return Err(error);
            }
        }
        Ok(installed)
    }

    fn install_family(&self, family: Family, installed: &mut InstalledRules) -> Result<(), Error> {
        let wanted = self.rules(family);
        let present = match list(family, |comment| comment.starts_with(COMMENT)) {
            Ok(rules) => rules,
            // Nothing is wanted of a command that may not be there.
            Err(_) if wanted.is_empty() => return Ok(()),
            Err(error) => return Err(error),
        };
        let own = comment_of(self.queue);
        let (present, others): (BTreeSet<Rule>, BTreeSet<Rule>) = present
            .into_iter()
            .partition(|rule| value(rule, "--comment") == Some(&own));
        if let Some(other) = others
            .iter()
            .find(|other| wanted.iter().any(|rule| overlap(rule, other)))
        {
            return Err(Error::PortTaken {
                port: value(other, "--sport").cloned().unwrap_or_default(),
                comment: value(other, "--comment").cloned().unwrap_or_default(),
            });
        }
        for rule in wanted.iter().filter(|rule| !present.contains(*rule)) {
            change(family, "-I", rule)?;
            installed.inserted.push((family, rule.clone()));
        }
        let stale = present.into_iter().filter(|rule| !wanted.contains(rule));
        installed.stale.extend(stale.map(|rule| (family, rule)));
        Ok(())
    }

    fn rules(&self, family: Family) -> Vec<Rule> {
        let sources: Vec<Option<IpAddr>> = if self.addresses.is_empty() {
            vec![None]
        } else {
            let of_family = |address: &&IpAddr| Family::of(**address) == family;
            self.addresses
                .iter()
                .filter(of_family)
                .copied()
                .map(Some)
                .collect()
        };
        let mut rules = Vec::new();
        for source in sources {
            for port in &self.ports {
                rules.push(self.rule(family, source, *port));
            }
        }
        rules
    }

    fn rule(&self, family: Family, source: Option<IpAddr>, port: u16) -> Rule {
        let mut words = Vec::new();
        if let Some(source) = source {
            words.extend(["-s".to_owned(), format!("{source}/{}", family.prefix_len())]);
        }
        let port = port.to_string();
        words.extend(["-p", "tcp", "-m", "tcp", "--sport", &port].map(str::to_owned));
        words.extend(["-m", "comment", "--comment"].map(str::to_owned));
        words.push(comment_of(self.queue));
        words.extend(["-j", "NFQUEUE"].map(str::to_owned));
        let last = self.queue + (self.queues - 1);
        if last == self.queue {
            words.extend(["--queue-num".to_owned(), self.queue.to_string()]);
        } else {
            words.extend([
                "--queue-balance".to_owned(),
                format!("{}:{last}", self.queue),
            ]);
        }
        if self.bypass {
            words.push("--queue-bypass".to_owned());
        }
        words
    }
}

impl InstalledRules {
    /// Takes away what a killed run left for the same queue and this one does not want: the start
    /// has succeeded.
    ///
    /// # Errors
    /// [`Error::Rule`].
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        self.stale
            .drain(..)
            .try_for_each(|(family, rule)| change(family, "-D", &rule))
    }

    /// Takes away what this run has inserted: the start has failed. What a killed run left stays
    /// and keeps the packets of its sessions in.
    pub(crate) fn undo(self) {
        for (family, rule) in self.inserted {
            // The error that made the start fail is the one to report.
            let _ = change(family, "-D", &rule);
        }
    }

    /// Removes the rules.
    ///
    /// # Errors
    /// [`Error::Rule`]; the other rules are removed nevertheless.
    pub(crate) fn remove(self) -> Result<usize, Error> {
        remove_where(|comment| comment == comment_of(self.queue))
    }
}

/// Removes the rules of every intercept, running or not; returns how many there were.
///
/// # Errors
/// [`Error::Rule`]; the other rules are removed nevertheless.
pub(crate) fn cleanup() -> Result<usize, Error> {
    remove_where(|comment| comment.starts_with(COMMENT))
}

fn remove_where(is_ours: impl Fn(&str) -> bool) -> Result<usize, Error> {
    let mut removed = 0;
    let mut outcome = Ok(());
    for family in Family::ALL.into_iter().filter(|family| family.exists()) {
        let rules = list(family, &is_ours).unwrap_or_else(|error| {
            outcome = Err(error);
            Vec::new()
        });
        for rule in rules {
            match change(family, "-D", &rule) {
                Ok(()) => removed += 1,
                Err(error) => outcome = Err(error),
            }
        }
    }
    outcome.map(|()| removed)
}

/// Whether there may be packets that both rules of ours cover.
fn overlap(one: &[String], other: &[String]) -> bool {
    let same_or_any = |name| match (value(one, name), value(other, name)) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    same_or_any("--sport") && same_or_any("-s")
}

/// The word after `name` in a rule.
fn value<'r>(rule: &'r [String], name: &str) -> Option<&'r String> {
    let at = rule.iter().position(|word| word == name)?;
    rule.get(at + 1)
}

fn comment_of(queue: u16) -> String {
    format!("{COMMENT}{queue}")
}

/// The rules whose comment `is_ours`, as words after the chain's name.
fn list(family: Family, is_ours: impl Fn(&str) -> bool) -> Result<Vec<Rule>, Error> {
    let output = run(family, &["-S".to_owned(), CHAIN.to_owned()])?;
    Ok(output
        .lines()
        .filter_map(|line| rule_of(line, &is_ours))
        .collect())
}

/// Reads a line of `iptables -S`; `None` unless it is a rule of ours.
fn rule_of(line: &str, is_ours: impl Fn(&str) -> bool) -> Option<Rule> {
    let words = split_words(line);
    let rule = match words.as_slice() {
        [append, chain, rule @ ..] if append == "-A" && chain == CHAIN => rule,
        _ => return None,
    };
    is_ours(value(rule, "--comment")?).then(|| rule.to_vec())
}

/// Splits a line at blanks, with double quotes around words that hold blanks.
fn split_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("never empty").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn change(family: Family, action: &str, rule: &[String]) -> Result<(), Error> {
    let mut arguments = vec![action.to_owned(), CHAIN.to_owned()];
    arguments.extend_from_slice(rule);
    run(family, &arguments).map(drop)
}

fn run(family: Family, arguments: &[String]) -> Result<String, Error> {
    let program = family.program();
    let command = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(["-w", LOCK_WAIT_S])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::Rule {
            command: command(),
            stderr: error.to_string(),
            hint: "install iptables (apt-get install iptables), or leave out --port and write \
                   the rules yourself",
        })?;
    if !output.status.success() {
        return Err(Error::Rule {
            command: command(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            hint: "rules need root, and a kernel with NFQUEUE (module xt_NFQUEUE)",
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> RuleSet {
        RuleSet {
            ports: vec![80, 81],
            addresses: vec![],
            queue: 3,
            queues: 1,
            bypass: false,
        }
    }

    #[test]
    fn rules_are_written_as_iptables_lists_them() {
        let texts = |set: &RuleSet, family| -> Vec<String> {
            set.rules(family)
                .iter()
                .map(|rule| rule.join(" "))
                .collect()
        };
        assert_eq!(
            texts(&set(), Family::V6),
            [
                "-p tcp -m tcp --sport 80 -m comment --comment intercept:3 -j NFQUEUE --queue-num 3",
                "-p tcp -m tcp --sport 81 -m comment --comment intercept:3 -j NFQUEUE --queue-num 3",
            ]
        );
        let special = RuleSet {
            ports: vec![80],
            addresses: vec!["192.0.2.1".parse().unwrap()],
            queues: 4,
            bypass: true,
            ..set()
        };
        assert_eq!(
            texts(&special, Family::V4),
            [
                "-s 192.0.2.1/32 -p tcp -m tcp --sport 80 -m comment --comment intercept:3 \
              -j NFQUEUE --queue-balance 3:6 --queue-bypass"
            ]
        );
        assert_eq!(texts(&special, Family::V6), Vec::<String>::new());
    }

    #[test]
    fn rules_that_share_packets_are_found() {
        let first = |set: RuleSet| set.rules(Family::V4).swap_remove(0);
        let at = |address: &str| RuleSet {
            addresses: vec![address.parse().unwrap()],
            ..set()
        };
        let any = first(set());
        let (one, two) = (first(at("192.0.2.1")), first(at("192.0.2.2")));
        assert!(overlap(&any, &one) && overlap(&two, &any) && overlap(&one, &one));
        assert!(!overlap(&one, &two));
        assert!(!overlap(&any, &set().rules(Family::V4)[1]));
    }

    #[test]
    fn only_rules_of_ours_are_recognised() {
        let ours = |comment: &str| comment == "intercept:3";
        let rule =
            "-p tcp -m tcp --sport 80 -m comment --comment intercept:3 -j NFQUEUE --queue-num 3";
        let expected: Vec<String> = rule.split(' ').map(str::to_owned).collect();
        assert_eq!(
            rule_of(&format!("-A OUTPUT {rule}"), ours),
            Some(expected.clone())
        );
        let quoted = rule.replace("intercept:3", "\"intercept:3\"");
        assert_eq!(
            rule_of(&format!("-A OUTPUT {quoted}"), ours),
            Some(expected)
        );
        for other in [
            "-P OUTPUT ACCEPT".to_owned(),
            "-A OUTPUT -p tcp -m tcp --sport 80 -j NFQUEUE --queue-num 3".to_owned(),
            format!("-A INPUT {rule}"),
            format!("-A OUTPUT {}", rule.replace("intercept:3", "intercept:30")),
            format!(
                "-A OUTPUT {}",
                rule.replace("intercept:3", "\"my intercept:3\"")
            ),
        ] {
            assert_eq!(rule_of(&other, ours), None, "{other}");
        }
    }
}
