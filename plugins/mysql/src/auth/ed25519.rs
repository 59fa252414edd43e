//! `client_ed25519` of MariaDB: an Ed25519 signature (RFC 8032, 5.1.6) of the server's nonce, with
//! the password itself, of whatever length, where Ed25519 has its 32 bytes of secret key.

use ed25519_dalek::VerifyingKey;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Bytes of the server's nonce.
pub(crate) const NONCE_BYTES: usize = 32;

/// Bytes of a signature.
pub(crate) const SIGNATURE_BYTES: usize = 64;

/// The signature of `message` by the key that is `secret`.
#[must_use]
pub(crate) fn sign(secret: &Secret, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
    let key = expand(secret);
    raw_sign::<Sha512>(&key, message, &VerifyingKey::from(&key)).to_bytes()
}

/// The key of RFC 8032's step 1, from a secret of any length.
fn expand(secret: &Secret) -> ExpandedSecretKey {
    let hash: Zeroizing<[u8; 64]> = Zeroizing::new(Sha512::digest(secret.reveal()).into());
    ExpandedSecretKey::from_bytes(&hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    /// With a password of 32 bytes it is Ed25519 itself: RFC 8032, 7.1, tests 1 to 3.
    #[test]
    fn the_vectors_of_rfc_8032() {
        let vectors = [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ];
        for (secret, message, signature) in vectors {
            let signed = sign(&Secret::new(bytes(secret)), &bytes(message));
            assert_eq!(signed.as_slice(), bytes(signature));
        }
    }

    /// From MariaDB's own test of its plugin: password `foobar`, a nonce of 32 times `A`.
    #[test]
    fn the_vector_of_mariadb() {
        let expected = [
            232, 61, 201, 63, 67, 63, 51, 53, 86, 73, 238, 35, 170, 117, 146, 214, 26, 17, 35, 9,
            8, 132, 245, 141, 48, 99, 66, 58, 36, 228, 48, 84, 115, 254, 187, 168, 88, 162, 249,
            57, 35, 85, 79, 238, 167, 106, 68, 117, 56, 135, 171, 47, 20, 14, 133, 79, 15, 229,
            124, 160, 176, 100, 138, 14,
        ];
        assert_eq!(
            sign(&Secret::from("foobar"), &[b'A'; NONCE_BYTES]),
            expected
        );
    }
}
