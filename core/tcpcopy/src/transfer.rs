//! The grammar of `-x`: `[ORIGIN:]PORT-TARGET:PORT`.
//!
//! Host names may contain dashes, so the dash that parts origin and target is the one that leaves
//! something valid on both sides; there is at most one: a valid left side ends with its port, and
//! a second candidate would need a second port on the right.

use crate::host::{Host, HostError, parse_host_and_port, parse_port};

/// One item of `-x`, names not yet resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The origin; `None` for every address that receives on the port.
    pub origin: Option<Host>,
    /// The origin's port.
    pub origin_port: u16,
    /// The target.
    pub target: Host,
    /// The target's port.
    pub target_port: u16,
}

/// Why an item of `-x` can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// An empty item, as after a stray comma.
    #[error("-x has an empty item")]
    Empty,
    /// No dash at all.
    #[error("'{0}' in -x names no target: there is no dash")]
    NoDash(String),
    /// The classic grammar's MAC address, which has no meaning here.
    #[error(
        "'{0}' in -x has a MAC address: packets are sent by the kernel's routes and neighbour \
         table, which know it"
    )]
    Mac(String),
    /// The part before the dash.
    #[error("'{item}' in -x: the origin '{origin}' is wrong: {source}")]
    Origin {
        /// The whole item.
        item: String,
        /// Its part before the dash.
        origin: String,
        /// What is wrong with it.
        #[source]
        source: HostError,
    },
    /// A target that is just a port.
    #[error("'{0}' in -x: the target has no host, only a port")]
    TargetHost(String),
    /// The part after the dash.
    #[error("'{item}' in -x: the target '{target}' is wrong: {source}")]
    Target {
        /// The whole item.
        item: String,
        /// Its part after the dash.
        target: String,
        /// What is wrong with it.
        #[source]
        source: HostError,
    },
}

impl TransferError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Mac(_) => "leave out the @ and what follows it up to the dash or the end",
            _ => "write [ORIGIN:]PORT-TARGET:PORT, for example 80-10.0.0.9:8080",
        }
    }
}

/// Reads one item of `-x`.
///
/// # Errors
/// [`TransferError`], which names the item and its wrong part.
pub fn parse_transfer(item: &str) -> Result<Transfer, TransferError> {
    if item.is_empty() {
        return Err(TransferError::Empty);
    }
    if item.contains('@') {
        return Err(TransferError::Mac(item.to_owned()));
    }
    let mut best_error = None;
    for (dash, _) in item.match_indices('-') {
        match parse_sides(item, &item[..dash], &item[dash + 1..]) {
            Ok(transfer) => return Ok(transfer),
            // A split with a valid origin tells more than one without.
            Err(error) => match (&best_error, &error) {
                (None, _) | (Some(TransferError::Origin { .. }), _) => best_error = Some(error),
                (Some(_), _) => {}
            },
        }
    }
    Err(best_error.unwrap_or_else(|| TransferError::NoDash(item.to_owned())))
}

fn parse_sides(item: &str, origin: &str, target: &str) -> Result<Transfer, TransferError> {
    let (origin_host, origin_port) =
        parse_origin(origin).map_err(|source| TransferError::Origin {
            item: item.to_owned(),
            origin: origin.to_owned(),
            source,
        })?;
    if parse_port(target).is_ok() {
        return Err(TransferError::TargetHost(item.to_owned()));
    }
    let wrong = |source| TransferError::Target {
        item: item.to_owned(),
        target: target.to_owned(),
        source,
    };
    let (host, port) = parse_host_and_port(target).map_err(wrong)?;
    let target_port = port.ok_or_else(|| wrong(HostError::NoPort(target.to_owned())))?;
    Ok(Transfer {
        origin: origin_host,
        origin_port,
        target: host,
        target_port,
    })
}

/// Reads `PORT` or `HOST:PORT`.
///
/// # Errors
/// [`HostError`] for the part that is wrong.
pub fn parse_origin(text: &str) -> Result<(Option<Host>, u16), HostError> {
    if let Ok(port) = parse_port(text) {
        return Ok((None, port));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(HostError::NotAPort(text.to_owned()));
    }
    match parse_host_and_port(text)? {
        (host, Some(port)) => Ok((Some(host), port)),
        (_, None) => Err(HostError::NoPort(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(item: &str, origin: &str, target: &str) {
        let found = parse_transfer(item).unwrap_or_else(|error| panic!("{item}: {error}"));
        let found_origin = match &found.origin {
            Some(host) => format!("{host}:{}", found.origin_port),
            None => found.origin_port.to_string(),
        };
        assert_eq!(found_origin, origin, "{item}");
        assert_eq!(
            format!("{}:{}", found.target, found.target_port),
            target,
            "{item}"
        );
    }

    fn refused(item: &str, message: &str) {
        assert_eq!(parse_transfer(item).expect_err(item).to_string(), message);
    }

    #[test]
    fn accepted() {
        check("80-10.0.0.9:8080", "80", "10.0.0.9:8080");
        check("10.0.0.1:80-10.0.0.9:8080", "10.0.0.1:80", "10.0.0.9:8080");
        check("80-test-web-2.example:80", "80", "test-web-2.example:80");
        check("web-1:80-web-2:80", "web-1:80", "web-2:80");
        check("80-foo:80-target:90", "80-foo:80", "target:90");
        check(
            "[fd00::1]:80-[fd00::9]:8080",
            "[fd00::1]:80",
            "[fd00::9]:8080",
        );
        check("80-[fd00::9]:8080", "80", "[fd00::9]:8080");
        check("1-a:65535", "1", "a:65535");
    }

    #[test]
    fn refused_with_what_is_wrong() {
        refused("", "-x has an empty item");
        refused("80", "'80' in -x names no target: there is no dash");
        refused(
            "80:10.0.0.9:80",
            "'80:10.0.0.9:80' in -x names no target: there is no dash",
        );
        refused(
            "80-80",
            "'80-80' in -x: the target has no host, only a port",
        );
        refused(
            "80-",
            "'80-' in -x: the target '' is wrong: the host is missing",
        );
        refused(
            "-a:80",
            "'-a:80' in -x: the origin '' is wrong: '' is not a port (1 to 65535)",
        );
        refused(
            "80-10.0.0.9",
            "'80-10.0.0.9' in -x: the target '10.0.0.9' is wrong: '10.0.0.9' has no port",
        );
        refused(
            "0-a:80",
            "'0-a:80' in -x: the origin '0' is wrong: '0' is not a port (1 to 65535)",
        );
        refused(
            "web-80-a:80",
            "'web-80-a:80' in -x: the origin 'web-80' is wrong: 'web-80' has no port",
        );
        refused(
            "80-fd00::9:80",
            "'80-fd00::9:80' in -x: the target 'fd00::9:80' is wrong: \
             the IPv6 address 'fd00::9' needs brackets: [fd00::9]",
        );
    }

    #[test]
    fn mac_addresses_are_refused_with_the_reason() {
        let error = parse_transfer("80@02:00:00:00:00:01-10.0.0.9:80").expect_err("mac");
        assert!(error.to_string().contains("MAC address"), "{error}");
        assert!(error.hint().contains('@'));
    }
}
