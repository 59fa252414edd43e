//! `parsec` of MariaDB: an Ed25519 signature of both sides' nonces, by a key that PBKDF2 makes of
//! the password and of the salt that the server tells when asked with an empty packet.

use pbkdf2::pbkdf2_hmac;
use sha2::Sha512;
use zeroize::Zeroizing;

use crate::secret::Secret;

use super::{Refusal, ed25519};

/// Bytes of each side's nonce.
pub(crate) const NONCE_BYTES: usize = 32;

/// Bytes of the salt.
const SALT_BYTES: usize = 18;

/// What the server's salt begins with: the way the key is made, which is PBKDF2.
const PBKDF2: u8 = b'P';

/// Rounds of PBKDF2 for a factor of 0; each step of the factor doubles them.
const ROUNDS: u32 = 1024;

/// The greatest factor that we work for: 8192 rounds, some 10 ms.
const MAX_FACTOR: u8 = 3;

/// The answer to the server's `nonce` and `salt` (with the two bytes before it): our own nonce, and
/// the signature.
///
/// # Errors
/// The salt is none, or its factor is too great.
pub(crate) fn answer(
    password: &Secret,
    nonce: &[u8; NONCE_BYTES],
    salt: &[u8],
    own_nonce: &[u8; NONCE_BYTES],
) -> Result<Vec<u8>, Refusal> {
    let [PBKDF2, factor @ 0..=MAX_FACTOR, salt @ ..] = salt else {
        return Err(Refusal::Unexpected);
    };
    if salt.len() != SALT_BYTES {
        return Err(Refusal::Unexpected);
    }
    let key = derive(password, salt, ROUNDS << factor);
    let signature = ed25519::sign(&key, &[*nonce, *own_nonce].concat());
    Ok([own_nonce.as_slice(), &signature].concat())
}

/// The secret key of Ed25519.
fn derive(password: &Secret, salt: &[u8], rounds: u32) -> Secret {
    let mut key = Zeroizing::new(vec![0; 32]);
    pbkdf2_hmac::<Sha512>(password.reveal(), salt, rounds, &mut key);
    Secret::new(std::mem::take(&mut *key))
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signature, SigningKey, Verifier};

    use super::*;
    use crate::testing::bytes;

    /// PBKDF2 with SHA-512 over the inputs of RFC 6070.
    #[test]
    fn the_vectors_of_pbkdf2() {
        let long = (
            "passwordPASSWORDpassword",
            "saltSALTsaltSALTsaltSALTsaltSALTsalt",
            4096,
            "8c0511f4c6e597c6ac6315d8f0362e225f3c501495ba23b868",
        );
        let vectors = [
            (
                "password",
                "salt",
                1,
                "867f70cf1ade02cff3752599a3a53dc4af34c7a6",
            ),
            (
                "password",
                "salt",
                2,
                "e1d9c16aa681708a45f5c7c4e215ceb66e011a2e",
            ),
            (
                "password",
                "salt",
                4096,
                "d197b1b33db0143e018b12f3d1d1479e6cdebdcc",
            ),
            long,
        ];
        for (password, salt, rounds, expected) in vectors {
            let key = derive(&Secret::from(password), salt.as_bytes(), rounds);
            assert!(key.reveal().starts_with(&bytes(expected)));
        }
    }

    #[test]
    fn a_server_can_verify_the_answer() {
        let salt = [&b"P\x01"[..], &[9; SALT_BYTES]].concat();
        let password = Secret::from("secret");
        let said = answer(&password, &[1; 32], &salt, &[2; 32]).expect("an answer");
        assert_eq!(said[..32], [2; 32]);

        let key: [u8; 32] = derive(&password, &[9; SALT_BYTES], 2048)
            .reveal()
            .try_into()
            .expect("32 bytes");
        let signature = Signature::from_slice(&said[32..]).expect("a signature");
        let signed = [[1; 32], [2; 32]].concat();
        let public = SigningKey::from_bytes(&key).verifying_key();
        assert!(public.verify(&signed, &signature).is_ok());
    }

    #[test]
    fn a_salt_that_is_none_or_costs_too_much_is_refused() {
        let good = [&b"P\x00"[..], &[9; SALT_BYTES]].concat();
        let costly = [&b"P\x04"[..], &[9; SALT_BYTES]].concat();
        let other = [&b"S\x00"[..], &[9; SALT_BYTES]].concat();
        for salt in [&[][..], b"P", &good[..19], &costly, &other] {
            let refused = answer(&Secret::from("p"), &[1; 32], salt, &[2; 32]);
            assert_eq!(refused, Err(Refusal::Unexpected));
        }
    }
}
