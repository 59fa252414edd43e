//! What the tests of several modules need.

use std::sync::LazyLock;

use rsa::pkcs8::{EncodePublicKey, LineEnding};
use rsa::{BigUint, RsaPrivateKey};

use crate::auth::Random;

/// The bytes of hexadecimal digits.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// Random bytes that are none: 0, 1, 2...
#[derive(Debug, Default)]
pub(crate) struct Counted(u8);

impl Random for Counted {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
    }
}

/// The public half of [`PRIVATE_KEY`], as a server sends it.
pub(crate) fn public_key_pem() -> String {
    let key = PRIVATE_KEY.to_public_key();
    key.to_public_key_pem(LineEnding::LF).expect("a PEM")
}

/// A model server's key of 2048 bits: example 10 of RSA Laboratories' `oaep-vect.txt`.
pub(crate) static PRIVATE_KEY: LazyLock<RsaPrivateKey> = LazyLock::new(|| {
    let number = |hex| BigUint::from_bytes_be(&bytes(hex));
    let modulus = number(
        "ae45ed5601cec6b8cc05f803935c674ddbe0d75c4c09fd7951fc6b0caec313a8df39970c518bffba5ed68f3f\
         0d7f22a4029d413f1ae07e4ebe9e4177ce23e7f5404b569e4ee1bdcf3c1fb03ef113802d4f855eb9b5134b5a\
         7c8085adcae6fa2fa1417ec3763be171b0c62b760ede23c12ad92b980884c641f5a8fac26bdad4a03381a22f\
         e1b754885094c82506d4019a535a286afeb271bb9ba592de18dcf600c2aeeae56e02f7cf79fc14cf3bdc7cd8\
         4febbbf950ca90304b2219a7aa063aefa2c3c1980e560cd64afe779585b6107657b957857efde6010988ab7d\
         e417fc88d8f384c4e6e72c3f943e0c31c0c4a5cc36f879d8a3ac9d7d59860eaada6b83bb",
    );
    let private = number(
        "056b04216fe5f354ac77250a4b6b0c8525a85c59b0bd80c56450a22d5f438e596a333aa875e291dd43f48cb8\
         8b9d5fc0d499f9fcd1c397f9afc070cd9e398c8d19e61db7c7410a6b2675dfbf5d345b804d201add502d5ce2\
         dfcb091ce9997bbebe57306f383e4d588103f036f7e85d1934d152a323e4a8db451d6f4a5b1b0f102cc150e0\
         2feee2b88dea4ad4c1baccb24d84072d14e1d24a6771f7408ee30564fb86d4393a34bcf0b788501d193303f1\
         3a2284b001f0f649eaf79328d4ac5c430ab4414920a9460ed1b7bc40ec653e876d09abc509ae45b525190116\
         a0c26101848298509c1c3bf3a483e7274054e15e97075036e989f60932807b5257751e79",
    );
    let exponent = BigUint::from(0x1_0001_u32);
    RsaPrivateKey::from_components(modulus, exponent, private, Vec::new()).expect("a key")
});
