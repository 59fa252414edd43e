//! `caching_sha2_password`, its short form: SHA256(password) XOR
//! SHA256(SHA256(SHA256(password)) ‖ nonce).
//!
//! The server knows it only of passwords that it has had whole since its start; the first time it
//! asks for the password itself ([`FULL`]), enciphered with its public key.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::secret::Secret;

use super::NONCE_BYTES;

/// What the server says when it knows the answer to be right.
pub(crate) const FAST: u8 = 3;

/// What the server says when it wants the password itself.
pub(crate) const FULL: u8 = 4;

/// What a client says to be given the public key.
pub(crate) const KEY_REQUEST: u8 = 2;

/// The same of `sha256_password`.
pub(crate) const SHA256_KEY_REQUEST: u8 = 1;

/// The answer to a nonce; nothing for an empty password.
#[must_use]
pub(crate) fn answer(password: &Secret, nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once: Zeroizing<[u8; 32]> = Zeroizing::new(Sha256::digest(password.reveal()).into());
    let twice = Sha256::digest(once.as_slice());
    let mask = Sha256::new()
        .chain_update(twice)
        .chain_update(nonce)
        .finalize();
    once.iter()
        .zip(mask)
        .map(|(byte, mask)| byte ^ mask)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// From the tests of Go's MySQL driver.
    #[test]
    fn the_vectors_of_another_client() {
        let nonce = [
            10, 47, 74, 111, 75, 73, 34, 48, 88, 76, 114, 74, 37, 13, 3, 80, 82, 2, 23, 21,
        ];
        let vectors = [
            (
                "secret",
                "f490e76f66d9d86665ce54d98c78d0acfe2fb0b08b423da807144873d30b312c",
            ),
            (
                "secret2",
                "abc3934a012cf342e876071c8ee202de51785b430258a7a0138bc79c4d800bc6",
            ),
        ];
        for (password, expected) in vectors {
            assert_eq!(hex(&answer(&Secret::from(password), &nonce)), expected);
        }
        assert!(answer(&Secret::from(""), &nonce).is_empty());
    }

    /// An exchange of a real server and client, from Boost.MySQL's tests.
    #[test]
    fn a_captured_exchange() {
        let nonce = [
            0x3e, 0x3b, 0x04, 0x55, 0x04, 0x70, 0x16, 0x3a, 0x4c, 0x15, 0x35, 0x03, 0x15, 0x76,
            0x73, 0x22, 0x46, 0x08, 0x18, 0x01,
        ];
        let expected = "a1c1e1e91bb6544ba7374b9c566d693e06ca070298acd10618c690389d88e120";
        assert_eq!(hex(&answer(&Secret::from("hola"), &nonce)), expected);
    }
}
