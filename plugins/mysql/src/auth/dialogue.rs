//! One proof under way: what the server says in, what we answer out.

use crate::secret::Secret;

use super::public_key;
use super::{Credential, Method, NONCE_BYTES, Refusal, caching_sha2, ed25519, native, parsec};

/// Where random bytes come from.
pub(crate) trait Random {
    /// Fills `bytes` with random ones.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// What the configuration allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// To send a password as it is to whoever asks for it.
    pub(crate) clear_password: bool,
}

/// A proof of who we are, by one method, from its first answer to the server's verdict.
#[derive(Clone, Debug)]
pub(crate) struct Dialogue {
    credential: Credential,
    expects: Expects,
}

/// What the server may say next, besides its verdict.
#[derive(Clone, Debug)]
enum Expects {
    Nothing,
    /// Whether it knows the answer to be right, or wants the password itself.
    Opinion {
        nonce: [u8; NONCE_BYTES],
    },
    /// Its public key.
    PublicKey {
        nonce: [u8; NONCE_BYTES],
    },
    /// Salt and rounds.
    Salt {
        nonce: [u8; parsec::NONCE_BYTES],
    },
}

impl Dialogue {
    /// Begins, and answers the server's nonce.
    ///
    /// # Errors
    /// The method does not go with the credential, the rules or the nonce.
    pub(crate) fn begin(
        method: Method,
        nonce: &[u8],
        credential: &Credential,
        rules: Rules,
    ) -> Result<(Self, Vec<u8>), Refusal> {
        let (expects, said) = match (method, credential) {
            (Method::Native, Credential::Password(password)) => {
                (Expects::Nothing, native::answer(password, &sized(nonce)?))
            }
            (Method::Native, Credential::Sha1(sha1)) => (
                Expects::Nothing,
                native::answer_of_sha1(sha1, &sized(nonce)?),
            ),
            (_, Credential::Sha1(_)) => return Err(Refusal::HashOnly),
            (method, Credential::Password(password)) => {
                begin_with_password(method, nonce, password, rules)?
            }
        };
        let dialogue = Self {
            credential: credential.clone(),
            expects,
        };
        Ok((dialogue, said))
    }

    /// Answers what the server said after our first answer; `None` where there is nothing to answer.
    ///
    /// # Errors
    /// It is nothing that this method knows, or can't be answered.
    pub(crate) fn answer(
        &mut self,
        said: &[u8],
        random: &mut impl Random,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let Credential::Password(password) = &self.credential else {
            return Err(Refusal::Unexpected);
        };
        let expects = std::mem::replace(&mut self.expects, Expects::Nothing);
        match (expects, said) {
            (Expects::Opinion { .. }, [caching_sha2::FAST]) => Ok(None),
            (Expects::Opinion { nonce }, [caching_sha2::FULL]) => {
                self.expects = Expects::PublicKey { nonce };
                Ok(Some(vec![caching_sha2::KEY_REQUEST]))
            }
            (Expects::PublicKey { nonce }, pem) => {
                public_key::encipher(pem, password, &nonce, random).map(Some)
            }
            (Expects::Salt { nonce }, salt) => {
                let mut own_nonce = [0; parsec::NONCE_BYTES];
                random.fill(&mut own_nonce);
                parsec::answer(password, &nonce, salt, &own_nonce).map(Some)
            }
            (Expects::Opinion { .. } | Expects::Nothing, _) => Err(Refusal::Unexpected),
        }
    }
}

/// The first answer by a method that wants the password itself.
fn begin_with_password(
    method: Method,
    nonce: &[u8],
    password: &Secret,
    rules: Rules,
) -> Result<(Expects, Vec<u8>), Refusal> {
    Ok(match method {
        Method::Native => (Expects::Nothing, native::answer(password, &sized(nonce)?)),
        Method::CachingSha2 => {
            let nonce = sized(nonce)?;
            (
                Expects::Opinion { nonce },
                caching_sha2::answer(password, &nonce),
            )
        }
        Method::Sha256 if password.is_empty() => (Expects::Nothing, vec![0]),
        Method::Sha256 => {
            let nonce = sized(nonce)?;
            (
                Expects::PublicKey { nonce },
                vec![caching_sha2::SHA256_KEY_REQUEST],
            )
        }
        Method::Ed25519 => {
            let nonce: [u8; ed25519::NONCE_BYTES] = sized(nonce)?;
            (Expects::Nothing, ed25519::sign(password, &nonce).to_vec())
        }
        Method::Parsec => {
            let nonce = sized(nonce)?;
            (Expects::Salt { nonce }, Vec::new())
        }
        Method::Clear if rules.clear_password => {
            (Expects::Nothing, [password.reveal(), &[0]].concat())
        }
        Method::Clear => return Err(Refusal::ClearPassword),
    })
}

/// The nonce without the NUL that may follow it.
fn sized<const BYTES: usize>(nonce: &[u8]) -> Result<[u8; BYTES], Refusal> {
    let bare = match nonce {
        [bare @ .., 0] if bare.len() == BYTES => bare,
        nonce => nonce,
    };
    bare.try_into().map_err(|_| Refusal::Nonce)
}

#[cfg(test)]
mod tests {
    use rsa::Oaep;
    use sha1::Sha1;

    use super::*;
    use crate::testing::{Counted, PRIVATE_KEY, public_key_pem};

    const NONCE: &[u8; 21] = b"abcdefghijklmnopqrst\0";

    fn begin(method: Method, password: &str) -> Result<(Dialogue, Vec<u8>), Refusal> {
        let credential = Credential::Password(Secret::from(password));
        Dialogue::begin(method, NONCE, &credential, Rules::default())
    }

    #[test]
    fn caching_sha2_takes_the_long_way_when_the_server_wants_it() {
        let (mut dialogue, said) = begin(Method::CachingSha2, "secret").expect("a dialogue");
        assert_eq!(said.len(), 32);
        let random = &mut Counted::default();
        assert_eq!(dialogue.answer(&[4], random), Ok(Some(vec![2])));
        let key = public_key_pem();
        let said = dialogue.answer(key.as_bytes(), random).expect("an answer");
        let masked = PRIVATE_KEY
            .decrypt(Oaep::new::<Sha1>(), &said.expect("enciphered"))
            .expect("deciphered");
        assert_eq!(masked[0] ^ NONCE[0], b's');
        assert_eq!(dialogue.answer(&[3], random), Err(Refusal::Unexpected));
    }

    #[test]
    fn caching_sha2_is_done_when_the_server_knows_the_password() {
        let (mut dialogue, _) = begin(Method::CachingSha2, "secret").expect("a dialogue");
        assert_eq!(dialogue.answer(&[3], &mut Counted::default()), Ok(None));
    }

    #[test]
    fn sha256_asks_for_the_key_at_once() {
        let (mut dialogue, said) = begin(Method::Sha256, "secret").expect("a dialogue");
        assert_eq!(said, [1]);
        let key = public_key_pem();
        let said = dialogue.answer(key.as_bytes(), &mut Counted::default());
        assert_eq!(said.expect("an answer").expect("enciphered").len(), 256);
    }

    #[test]
    fn an_empty_password_is_said_as_each_method_says_it() {
        let said = |method| begin(method, "").expect("a dialogue").1;
        assert_eq!(said(Method::Native), []);
        assert_eq!(said(Method::CachingSha2), []);
        assert_eq!(said(Method::Sha256), [0]);
    }

    #[test]
    fn a_clear_password_needs_permission() {
        assert_eq!(
            begin(Method::Clear, "p").expect_err("no"),
            Refusal::ClearPassword
        );
        let credential = Credential::Password(Secret::from("p"));
        let rules = Rules {
            clear_password: true,
        };
        let (_, said) = Dialogue::begin(Method::Clear, b"", &credential, rules).expect("allowed");
        assert_eq!(said, b"p\0");
    }

    #[test]
    fn a_hash_is_enough_for_one_method_only() {
        let password = Secret::from("secret");
        let hash = Credential::Sha1(native::sha1_of(&password));
        let begin_with = |method| Dialogue::begin(method, NONCE, &hash, Rules::default());
        let (_, said) = begin_with(Method::Native).expect("a dialogue");
        assert_eq!(said, begin(Method::Native, "secret").expect("a dialogue").1);
        for method in [Method::CachingSha2, Method::Sha256, Method::Clear] {
            assert_eq!(begin_with(method).expect_err("no"), Refusal::HashOnly);
        }
    }

    #[test]
    fn a_nonce_of_another_length_is_refused() {
        for method in [Method::Ed25519, Method::Parsec] {
            assert_eq!(begin(method, "p").expect_err("20 bytes"), Refusal::Nonce);
        }
        let credential = Credential::Password(Secret::from("p"));
        for nonce in [&NONCE[..19], &NONCE[..0], b"abcdefghijklmnopqrstu"] {
            let begun = Dialogue::begin(Method::Native, nonce, &credential, Rules::default());
            assert_eq!(begun.expect_err("a nonce"), Refusal::Nonce);
        }
        let begun = Dialogue::begin(Method::Native, &NONCE[..20], &credential, Rules::default());
        assert!(begun.is_ok());
    }

    #[test]
    fn no_debug_output_has_a_credential_in_it() {
        let (dialogue, _) = begin(Method::CachingSha2, "hunter2").expect("a dialogue");
        let shown = format!("{dialogue:?} {:?}", Secret::from("hunter2"));
        assert!(
            !shown.contains("hunter2") && !shown.contains("104, 117"),
            "{shown}"
        );
    }
}
