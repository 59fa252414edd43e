//! The firewall rules that queue the target's replies.
//!
//! A rule carries a comment with the queue's number, by which it is found again. Rules are written
//! just as `iptables -S` lists them, so that a wanted rule can be told from a stale one by its
//! text; new ones are in place before stale ones go, so that nothing leaks in between.

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

/// Rules that are in place; [`InstalledRules::remove`] takes them away. They stay when the process
/// dies: then nothing passes, rather than what must not.
#[derive(Debug)]
pub(crate) struct InstalledRules {
    queue: u16,
}

impl RuleSet {
    /// Puts the rules in place, and takes away other rules for the same queue.
    ///
    /// # Errors
    /// [`Error::Rule`] with the command and what it said; what was installed before is removed.
    pub(crate) fn install(&self) -> Result<InstalledRules, Error> {
        let installed = InstalledRules { queue: self.queue };
        for family in Family::ALL.into_iter().filter(|family| family.exists()) {
            if let Err(error) = self.install_family(family) {
                // The first error is the one to report.
                let _ = installed.remove();
                return Err(error);
            }
        }
        Ok(installed)
    }

    fn install_family(&self, family: Family) -> Result<(), Error> {
        let wanted = self.rules(family);
        let is_ours = |comment: &str| comment == comment_of(self.queue);
        let present: BTreeSet<Vec<String>> = match list(family, is_ours) {
            Ok(rules) => rules.into_iter().collect(),
            // Nothing is wanted of a command that may not be there.
            Err(_) if wanted.is_empty() => return Ok(()),
            Err(error) => return Err(error),
        };
        for rule in wanted.iter().filter(|rule| !present.contains(*rule)) {
            change(family, "-I", rule)?;
        }
        for rule in present.iter().filter(|rule| !wanted.contains(rule)) {
            change(family, "-D", rule)?;
        }
        Ok(())
    }

    fn rules(&self, family: Family) -> Vec<Vec<String>> {
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

    fn rule(&self, family: Family, source: Option<IpAddr>, port: u16) -> Vec<String> {
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

fn comment_of(queue: u16) -> String {
    format!("{COMMENT}{queue}")
}

/// The rules whose comment `is_ours`, as words after the chain's name.
fn list(family: Family, is_ours: impl Fn(&str) -> bool) -> Result<Vec<Vec<String>>, Error> {
    let output = run(family, &["-S".to_owned(), CHAIN.to_owned()])?;
    Ok(output
        .lines()
        .filter_map(|line| rule_of(line, &is_ours))
        .collect())
}

/// Reads a line of `iptables -S`; `None` unless it is a rule of ours.
fn rule_of(line: &str, is_ours: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let words = split_words(line);
    let rule = match words.as_slice() {
        [append, chain, rule @ ..] if append == "-A" && chain == CHAIN => rule,
        _ => return None,
    };
    let comment = rule.iter().position(|word| word == "--comment")?;
    is_ours(rule.get(comment + 1)?).then(|| rule.to_vec())
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
