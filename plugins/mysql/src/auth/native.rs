//! `mysql_native_password`: SHA1(password) XOR SHA1(nonce ‖ SHA1(SHA1(password))).
//!
//! The server stores SHA1(SHA1(password)), and compares the SHA-1 of what it gets by the same XOR.
//! So whoever has seen an exchange and knows what is stored can do that too, and is left with
//! SHA1(password), which is all that a client needs ([`recover`]).

use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use crate::secret::Secret;

use super::NONCE_BYTES;

/// Bytes of a SHA-1, thus of an answer.
pub(crate) const HASH_BYTES: usize = 20;

/// What `mysql.user` stores: SHA1(SHA1(password)), written as `*` and 40 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredHash([u8; HASH_BYTES]);

impl StoredHash {
    /// Reads a hash as the server shows it, such as
    /// `*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19`. `None` where it is not one.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('*')?.as_bytes();
        if digits.len() != 2 * HASH_BYTES {
            return None;
        }
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        let mut hash = [0; HASH_BYTES];
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::try_from(digit(2 * at)? * 16 + digit(2 * at + 1)?).ok()?;
        }
        Some(Self(hash))
    }
}

impl std::fmt::Debug for StoredHash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("StoredHash")
    }
}

/// SHA1(password).
#[must_use]
pub(crate) fn sha1_of(password: &Secret) -> Secret {
    Secret::new(Sha1::digest(password.reveal()).to_vec())
}

/// The answer to a nonce; nothing for an empty password.
#[must_use]
pub(crate) fn answer(password: &Secret, nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
    match password.is_empty() {
        true => Vec::new(),
        false => answer_of_sha1(&sha1_of(password), nonce),
    }
}

/// The answer to a nonce by who knows SHA1(password).
#[must_use]
pub(crate) fn answer_of_sha1(sha1: &Secret, nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
    let mask = mask(nonce, &Sha1::digest(sha1.reveal()).into());
    let pairs = sha1.reveal().iter().zip(mask.iter());
    pairs.map(|(byte, mask)| byte ^ mask).collect()
}

/// SHA1(password), from what the server stores and what a client answered to a nonce. `None` where
/// the three don't belong together: the answer was of another password or method.
#[must_use]
pub(crate) fn recover(
    stored: &StoredHash,
    nonce: &[u8; NONCE_BYTES],
    answer: &[u8],
) -> Option<Secret> {
    if answer.len() != HASH_BYTES {
        return None;
    }
    let mask = mask(nonce, &stored.0);
    let pairs = answer.iter().zip(mask.iter());
    let sha1 = Secret::new(pairs.map(|(byte, mask)| byte ^ mask).collect());
    let is_it = Sha1::digest(sha1.reveal())[..] == stored.0[..];
    is_it.then_some(sha1)
}

/// SHA1(nonce ‖ SHA1(SHA1(password))).
fn mask(nonce: &[u8; NONCE_BYTES], stored: &[u8; HASH_BYTES]) -> Zeroizing<[u8; HASH_BYTES]> {
    let hash = Sha1::new().chain_update(nonce).chain_update(stored);
    Zeroizing::new(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An exchange of a real server and client, from Boost.MySQL's tests.
    const NONCE: [u8; 20] = [
        0x79, 0x64, 0x3d, 0x12, 0x1d, 0x71, 0x74, 0x47, 0x5f, 0x48, 0x3e, 0x3e, 0x0b, 0x62, 0x0a,
        0x03, 0x3d, 0x27, 0x3a, 0x4c,
    ];
    const ANSWER: [u8; 20] = [
        0xf1, 0xb2, 0xfb, 0x1c, 0x8d, 0xe7, 0x5d, 0xb8, 0xeb, 0xa8, 0x12, 0x6a, 0xd1, 0x0f, 0xe9,
        0xb1, 0x10, 0x50, 0xd4, 0x28,
    ];

    #[test]
    fn a_captured_exchange_is_computed() {
        assert_eq!(answer(&Secret::from("root"), &NONCE), ANSWER);
        assert!(answer(&Secret::from(""), &NONCE).is_empty());
    }

    #[test]
    fn the_hash_and_an_exchange_give_what_a_client_needs() {
        // As `SELECT PASSWORD('root')` says it.
        let stored = StoredHash::parse("*81F5E21E35407D884A6CD4A731AEBFB6AF209E1B").expect("hash");
        let sha1 = recover(&stored, &NONCE, &ANSWER).expect("the exchange");
        assert_eq!(sha1, sha1_of(&Secret::from("root")));
        assert_eq!(answer_of_sha1(&sha1, &NONCE), ANSWER);
    }

    #[test]
    fn what_does_not_belong_together_gives_nothing() {
        let other = StoredHash::parse("*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19").expect("hash");
        assert_eq!(recover(&other, &NONCE, &ANSWER), None);
        assert_eq!(recover(&other, &NONCE, &ANSWER[1..]), None);
        for text in [
            "",
            "*",
            "2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19",
            "*247",
            "*é",
        ] {
            assert_eq!(StoredHash::parse(text), None, "{text}");
        }
    }
}
