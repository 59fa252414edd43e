//! What a server says first.

use crate::capability::Capabilities;
use crate::wire::Reader;

/// The version of the protocol that every server since MySQL 3.21 speaks.
const PROTOCOL_10: u8 = 10;

/// A server's greeting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// The connection's number at that server.
    pub(crate) connection_id: u32,
    pub(crate) capabilities: Capabilities,
    pub(crate) is_mariadb: bool,
    /// The server's own collation, by number; 0 where a byte is too small for it.
    pub(crate) collation: u8,
    /// What the method challenges with; may have a NUL behind it.
    pub(crate) nonce: Vec<u8>,
    /// The method that it begins with; empty where it does not name methods.
    pub(crate) method: Vec<u8>,
}

impl Greeting {
    /// Reads a greeting. `None` where it is none, or one of the protocol before version 10.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != PROTOCOL_10 {
            return None;
        }
        let version = reader.nul_bytes()?;
        let connection_id = reader.u32()?;
        let mut nonce = reader.bytes(8)?.to_vec();
        reader.skip(1)?;
        let lower = reader.u16()?;
        let collation = reader.u8().unwrap_or(0);
        // The status.
        reader.skip(2);
        let upper = reader.u16().unwrap_or(0);
        let nonce_bytes = usize::from(reader.u8().unwrap_or(0));
        reader.skip(6);
        let extended = reader.u32().unwrap_or(0);
        let standard = Capabilities(u64::from(lower) | u64::from(upper) << 16);
        let capabilities = match standard.has(Capabilities::LONG_PASSWORD) {
            true => standard,
            false => standard | Capabilities(u64::from(extended) << 32),
        };
        if standard.has(Capabilities::SECURE_CONNECTION) {
            let second = nonce_bytes
                .saturating_sub(8)
                .max(13)
                .min(reader.rest().len());
            nonce.extend_from_slice(reader.bytes(second)?);
        }
        let rest = reader.rest();
        let method = match standard.has(Capabilities::PLUGIN_AUTH) {
            // Some servers leave the NUL out.
            true => rest
                .split(|byte| *byte == 0)
                .next()
                .unwrap_or(rest)
                .to_vec(),
            false => Vec::new(),
        };
        Some(Self {
            connection_id,
            capabilities,
            is_mariadb: is_mariadb(version) || !standard.has(Capabilities::LONG_PASSWORD),
            collation,
            nonce,
            method,
        })
    }
}

/// MariaDB says its name, though before it often `5.5.5-`, for old replicas.
fn is_mariadb(version: &[u8]) -> bool {
    version.windows(7).any(|word| word == b"MariaDB")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As MariaDB 10.11 sends it.
    fn mariadb() -> Vec<u8> {
        let mut bytes = b"\x0a5.5.5-10.11.19-MariaDB\0\x2a\0\0\0abcdefgh\0".to_vec();
        bytes.extend_from_slice(&[0xfe, 0xf7, 0x2d, 0x02, 0x00, 0xff, 0xc1, 21]);
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0x1d, 0, 0, 0]);
        bytes.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
        bytes
    }

    #[test]
    fn mariadb_has_capabilities_of_its_own_in_the_filler() {
        let greeting = Greeting::parse(&mariadb()).expect("a greeting");
        assert_eq!(greeting.connection_id, 42);
        assert!(greeting.is_mariadb);
        assert_eq!(greeting.nonce, b"abcdefghijklmnopqrst\0");
        assert_eq!(greeting.method, b"mysql_native_password");
        assert_eq!(greeting.capabilities, Capabilities(0x1d_c1ff_f7fe));
    }

    #[test]
    fn mysql_has_none_whatever_the_filler_says() {
        let mut bytes = b"\x0a9.7.4\0\x08\0\0\0abcdefgh\0".to_vec();
        bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0x02, 0x00, 0xff, 0xdf, 21]);
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0x1d, 0, 0, 0]);
        bytes.extend_from_slice(b"ijklmnopqrst\0caching_sha2_password");
        let greeting = Greeting::parse(&bytes).expect("a greeting");
        assert!(!greeting.is_mariadb);
        assert_eq!(greeting.capabilities, Capabilities(0xdfff_ffff));
        assert_eq!(greeting.method, b"caching_sha2_password");
    }

    #[test]
    fn a_greeting_cut_short_is_none_or_has_no_method() {
        let bytes = mariadb();
        for cut in 0..bytes.len() {
            if let Some(greeting) = Greeting::parse(&bytes[..cut]) {
                assert_ne!(greeting.method, b"mysql_native_password".repeat(2));
                assert!(greeting.nonce.len() <= 21);
            }
        }
        assert_eq!(Greeting::parse(b"\x09old"), None);
    }
}
