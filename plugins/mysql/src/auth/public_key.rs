//! What `caching_sha2_password` and `sha256_password` do where there is no TLS: the password, with a
//! NUL behind it and the nonce over it, enciphered with the server's RSA key (RFC 8017, 7.1:
//! RSAES-OAEP, with SHA-1).

use rsa::pkcs8::DecodePublicKey;
use rsa::rand_core::{CryptoRng, Error, RngCore};
use rsa::{Oaep, RsaPublicKey};
use sha1::Sha1;
use zeroize::Zeroizing;

use crate::secret::Secret;

use super::dialogue::Random;
use super::{NONCE_BYTES, Refusal};

/// The password for a server whose public key is this PEM.
pub(super) fn encipher(
    pem: &[u8],
    password: &Secret,
    nonce: &[u8; NONCE_BYTES],
    random: &mut impl Random,
) -> Result<Vec<u8>, Refusal> {
    let pem = std::str::from_utf8(pem).map_err(|_| Refusal::PublicKey)?;
    let key = RsaPublicKey::from_public_key_pem(pem.trim_matches(['\0', '\n', '\r', ' ']))
        .map_err(|_| Refusal::PublicKey)?;
    let text = password.reveal().iter().chain(&[0]);
    let masked = text
        .zip(nonce.iter().cycle())
        .map(|(byte, mask)| byte ^ mask);
    oaep(&key, &Zeroizing::new(masked.collect::<Vec<u8>>()), random)
}

fn oaep(key: &RsaPublicKey, text: &[u8], random: &mut impl Random) -> Result<Vec<u8>, Refusal> {
    key.encrypt(&mut Drawn(random), Oaep::new::<Sha1>(), text)
        .map_err(|_| Refusal::PublicKey)
}

/// Our randomness in the shape that RSA wants it.
struct Drawn<'a, R>(&'a mut R);

impl<R: Random> RngCore for Drawn<'_, R> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl<R: Random> CryptoRng for Drawn<'_, R> {}

#[cfg(test)]
mod tests {
    use rsa::BigUint;

    use super::*;
    use crate::testing::{PRIVATE_KEY, bytes, public_key_pem};

    /// A generator that gives the seed of a vector.
    struct Seed(Vec<u8>);

    impl Random for Seed {
        fn fill(&mut self, bytes: &mut [u8]) {
            bytes.copy_from_slice(&self.0);
        }
    }

    /// Example 1.1 of RSA Laboratories' vectors for PKCS #1 v2.1 (`oaep-vect.txt`).
    #[test]
    fn the_vector_of_pkcs_1() {
        let modulus = bytes(
            "a8b3b284af8eb50b387034a860f146c4919f318763cd6c5598c8ae4811a1e0abc4c7e0b082d693a5\
             e7fced675cf4668512772c0cbc64a742c6c630f533c8cc72f62ae833c40bf25842e984bb78bdbf97\
             c0107d55bdb662f5c4e0fab9845cb5148ef7392dd3aaff93ae1e6b667bb3d4247616d4f5ba10d4cf\
             d226de88d39f16fb",
        );
        let message = bytes("6628194e12073db03ba94cda9ef9532397d50dba79b987004afefe34");
        let seed = bytes("18b776ea21069d69776a33e96bad48e1dda0a5ef");
        let enciphered = bytes(
            "354fe67b4a126d5d35fe36c777791a3f7ba13def484e2d3908aff722fad468fb21696de95d0be911\
             c2d3174f8afcc201035f7b6d8e69402de5451618c21a535fa9d7bfc5b8dd9fc243f8cf927db31322\
             d6e881eaa91a996170e657a05a266426d98c88003f8477c1227094a0d9fa1e8c4024309ce1ecccb5\
             210035d47ac72e8a",
        );
        let exponent = BigUint::from(0x1_0001_u32);
        let key = RsaPublicKey::new(BigUint::from_bytes_be(&modulus), exponent).expect("key");
        assert_eq!(oaep(&key, &message, &mut Seed(seed)), Ok(enciphered));
    }

    #[test]
    fn a_server_finds_the_password_again() {
        let nonce = *b"abcdefghijklmnopqrst";
        let password = "a password that is longer than the nonce";
        let enciphered = encipher(
            public_key_pem().as_bytes(),
            &Secret::from(password),
            &nonce,
            &mut Seed(vec![7; 20]),
        )
        .expect("a key");
        let masked = PRIVATE_KEY
            .decrypt(Oaep::new::<Sha1>(), &enciphered)
            .expect("enciphered");
        let pairs = masked.iter().zip(nonce.iter().cycle());
        let found: Vec<u8> = pairs.map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(found, [password.as_bytes(), &[0]].concat());
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        let good = public_key_pem();
        let keys = [
            "",
            "-----BEGIN PUBLIC KEY-----",
            "\u{fffd}",
            &good[..good.len() / 2],
        ];
        for key in keys {
            let random = &mut Seed(vec![0; 20]);
            let refused = encipher(key.as_bytes(), &Secret::from("p"), &[0; 20], random);
            assert_eq!(refused, Err(Refusal::PublicKey), "{key}");
        }
        let long = Secret::new(vec![b'p'; 300]);
        let refused = encipher(good.as_bytes(), &long, &[0; 20], &mut Seed(vec![0; 20]));
        assert_eq!(refused, Err(Refusal::PublicKey));
    }
}
