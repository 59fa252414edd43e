//! The pre-shared key, and who may do without one.

use std::fmt;
use std::net::IpAddr;

/// Bytes of a key.
const KEY_LEN: usize = 32;

/// The key both ends of a tunnel share. Never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct TunnelKey([u8; KEY_LEN]);

/// Why a text is not a key. The text itself is never part of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Another number of characters.
    #[error("a key has 64 hexadecimal digits, this has {0} characters")]
    Length(usize),
    /// A character that is not a hexadecimal digit.
    #[error("a key has 64 hexadecimal digits, this has something else at position {0}")]
    Digit(usize),
}

impl TunnelKey {
    /// Takes 32 random bytes as a key.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Reads a key file's text: 64 hexadecimal digits, white space around them ignored.
    ///
    /// # Errors
    /// [`KeyError`] when the text is anything else.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.chars().count() != 2 * KEY_LEN {
            return Err(KeyError::Length(text.chars().count()));
        }
        let mut bytes = [0; KEY_LEN];
        for (position, digit) in text.chars().enumerate() {
            let value = digit.to_digit(16).ok_or(KeyError::Digit(position))?;
            let byte = &mut bytes[position / 2];
            *byte = *byte << 4 | u8::try_from(value).expect("a hexadecimal digit is below 16");
        }
        Ok(Self(bytes))
    }

    /// The key as it stands in a key file.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) const fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Debug for TunnelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TunnelKey(..)")
    }
}

/// How one end protects its tunnels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// Authenticated and encrypted.
    Key(TunnelKey),
    /// In the clear, and therefore only with peers on the loopback.
    LoopbackOnly,
    /// In the clear with anybody (`--insecure`).
    Insecure,
}

impl Security {
    /// Whether a tunnel with `peer` may be opened at all.
    #[must_use]
    pub fn admits(&self, peer: IpAddr) -> bool {
        match self {
            Self::Key(_) | Self::Insecure => true,
            Self::LoopbackOnly => peer.to_canonical().is_loopback(),
        }
    }

    pub(crate) const fn key(&self) -> Option<&TunnelKey> {
        match self {
            Self::Key(key) => Some(key),
            Self::LoopbackOnly | Self::Insecure => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text() {
        let key = TunnelKey::from_bytes(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(TunnelKey::parse(&format!(" {}\n", key.to_hex())), Ok(key));
    }

    #[test]
    fn other_texts_are_named_and_not_repeated() {
        assert_eq!(TunnelKey::parse("abc"), Err(KeyError::Length(3)));
        let text = format!("{}g0", "0".repeat(62));
        assert_eq!(TunnelKey::parse(&text), Err(KeyError::Digit(62)));
        assert!(
            !KeyError::Digit(62)
                .to_string()
                .contains('g'.to_string().as_str().repeat(2).as_str())
        );
        assert_eq!(
            format!("{:?}", TunnelKey::from_bytes([1; 32])),
            "TunnelKey(..)"
        );
    }

    #[test]
    fn without_a_key_only_the_loopback_is_admitted() {
        let outside: IpAddr = "192.0.2.1".parse().unwrap();
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(
                Security::LoopbackOnly.admits(address.parse().unwrap()),
                "{address}"
            );
        }
        assert!(!Security::LoopbackOnly.admits(outside));
        assert!(Security::Insecure.admits(outside));
        assert!(Security::Key(TunnelKey::from_bytes([0; 32])).admits(outside));
    }
}
