//! Hosts as users write them, and how names become addresses.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, ToSocketAddrs};

/// A host: an address, or a name still to be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address literal.
    Address(IpAddr),
    /// A name, as written.
    Name(String),
}

/// Why a text is not a host or port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing where a host belongs.
    #[error("the host is missing")]
    NoHost,
    /// An IPv6 address without brackets, of which the port can't be told apart.
    #[error("the IPv6 address '{0}' needs brackets: [{0}]")]
    BareIpv6(String),
    /// Neither an address nor a possible name.
    #[error("'{0}' is neither an address nor a host name")]
    NotAHost(String),
    /// Not a number from 1 to 65535.
    #[error("'{0}' is not a port (1 to 65535)")]
    NotAPort(String),
    /// A host without its port.
    #[error("'{0}' has no port")]
    NoPort(String),
}

/// Resolves host names; the system's resolver outside tests.
pub type Resolve<'a> = &'a dyn Fn(&str) -> io::Result<Vec<IpAddr>>;

/// Asks the system's resolver for every address of `name`, in its order of preference.
///
/// # Errors
/// What the resolver said.
pub fn system_resolver(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for address in (name, 0).to_socket_addrs()? {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    Ok(addresses)
}

impl Host {
    /// Reads an address, an IPv6 address in brackets, or a name.
    ///
    /// # Errors
    /// [`HostError`] when `text` is none of these.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::NoHost);
        }
        if let Some(inner) = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            let address: Result<Ipv6Addr, _> = inner.parse();
            return address
                .map(|address| Self::Address(address.into()))
                .map_err(|_| HostError::NotAHost(text.to_owned()));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let possible_name = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        let numeric = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if !possible_name || numeric || text.starts_with('-') {
            return Err(HostError::NotAHost(text.to_owned()));
        }
        Ok(Self::Name(text.to_owned()))
    }

    /// Every address of the host; a literal is its own.
    ///
    /// # Errors
    /// What the resolver said; a name without any address is `NotFound`.
    pub fn resolve(&self, resolve: Resolve<'_>) -> io::Result<Vec<IpAddr>> {
        match self {
            Self::Address(address) => Ok(vec![*address]),
            Self::Name(name) => {
                let addresses = resolve(name)?;
                if addresses.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "no address found"));
                }
                Ok(addresses)
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Reads `HOST` or `HOST:PORT`; IPv6 addresses with a port stand in brackets.
///
/// # Errors
/// [`HostError`] for the part that is wrong.
pub fn parse_host_and_port(text: &str) -> Result<(Host, Option<u16>), HostError> {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((inner, port)) = rest.split_once(']') else {
            return Err(HostError::NotAHost(text.to_owned()));
        };
        let host = Host::parse(&format!("[{inner}]"))?;
        return match port.strip_prefix(':') {
            Some(port) => Ok((host, Some(parse_port(port)?))),
            None if port.is_empty() => Ok((host, None)),
            None => Err(HostError::NotAHost(text.to_owned())),
        };
    }
    match text.split_once(':') {
        None => Ok((Host::parse(text)?, None)),
        Some((_, port)) if port.contains(':') => Err(bare_ipv6(text)),
        Some((host, port)) => Ok((Host::parse(host)?, Some(parse_port(port)?))),
    }
}

/// Reads a port, 1 to 65535.
///
/// # Errors
/// [`HostError::NotAPort`].
pub fn parse_port(text: &str) -> Result<u16, HostError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(HostError::NotAPort(text.to_owned())),
    }
}

/// Says which part of a text with several colons is the address, where that can be told.
fn bare_ipv6(text: &str) -> HostError {
    let address = [
        Some(text),
        text.rsplit_once(':').map(|(address, _)| address),
    ]
    .into_iter()
    .flatten()
    .rfind(|part| part.parse::<Ipv6Addr>().is_ok());
    match address {
        Some(address) => HostError::BareIpv6(address.to_owned()),
        None => HostError::NotAHost(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, Option<u16>), &str>) {
        let found = parse_host_and_port(text);
        let found = found
            .map(|(h, p)| (h.to_string(), p))
            .map_err(|e| e.to_string());
        let expected = expected
            .map(|(h, p)| (h.to_owned(), p))
            .map_err(str::to_owned);
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn hosts_and_ports() {
        check("10.0.0.9", Ok(("10.0.0.9", None)));
        check("10.0.0.9:80", Ok(("10.0.0.9", Some(80))));
        check("web-1.example:80", Ok(("web-1.example", Some(80))));
        check("[fd00::1]:80", Ok(("[fd00::1]", Some(80))));
        check("[fd00::1]", Ok(("[fd00::1]", None)));
        check(
            "fd00::1",
            Err("the IPv6 address 'fd00::1' needs brackets: [fd00::1]"),
        );
        check(
            "fd00::a:b:8080",
            Err("the IPv6 address 'fd00::a:b' needs brackets: [fd00::a:b]"),
        );
        check("", Err("the host is missing"));
        check(":80", Err("the host is missing"));
        check("a:", Err("'' is not a port (1 to 65535)"));
        check("a:0", Err("'0' is not a port (1 to 65535)"));
        check("a:+80", Err("'+80' is not a port (1 to 65535)"));
        check("a:65536", Err("'65536' is not a port (1 to 65535)"));
        check(
            "10.0.0.300:80",
            Err("'10.0.0.300' is neither an address nor a host name"),
        );
        check("a b:80", Err("'a b' is neither an address nor a host name"));
        check(
            "[10.0.0.1]:80",
            Err("'[10.0.0.1]' is neither an address nor a host name"),
        );
        check(
            "[fd00::1",
            Err("'[fd00::1' is neither an address nor a host name"),
        );
    }

    #[test]
    fn a_name_without_addresses_is_an_error() {
        let nothing = |_: &str| Ok(Vec::new());
        let error = Host::Name("a".into())
            .resolve(&nothing)
            .expect_err("no address");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
