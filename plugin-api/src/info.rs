//! What a session is told of itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Which of the three streams.
///
/// ```
/// use plugin_api::Direction;
/// assert_eq!(Direction::Origin.to_string(), "origin");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// What the captured client sent to the origin.
    Client,
    /// What the origin answered to it.
    Origin,
    /// What the target answers to the replay.
    Target,
}

impl Direction {
    /// The stream's name: `client`, `origin` or `target`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Origin => "origin",
            Self::Target => "target",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Which connection a session replays.
///
/// ```
/// use plugin_api::SessionInfo;
///
/// let info = SessionInfo { copy: 2, ..SessionInfo::example() };
/// assert!(info.start_seen && info.client.port() == 50001);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The session's number: unique within the plugin's instance, for as long as it runs.
    pub id: u64,
    /// The captured client.
    pub client: SocketAddr,
    /// The server it speaks to.
    pub origin: SocketAddr,
    /// The server that the session is replayed to.
    pub target: SocketAddr,
    /// Which of the `-n` sessions of this captured connection, from 0.
    pub copy: u16,
    /// Whether the connection's beginning was captured. If not, the first byte that comes may be
    /// anywhere in the protocol.
    pub start_seen: bool,
}

impl SessionInfo {
    /// A session between documentation addresses (RFC 5737), for tests.
    #[must_use]
    pub fn example() -> Self {
        let endpoint = |ip: [u8; 4], port| SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), port);
        Self {
            id: 1,
            client: endpoint([192, 0, 2, 1], 50001),
            origin: endpoint([198, 51, 100, 1], 80),
            target: endpoint([203, 0, 113, 1], 80),
            copy: 0,
            start_seen: true,
        }
    }
}
