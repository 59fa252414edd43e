//! A server that checks logins as real ones do, and a client that logs in there.

use std::collections::BTreeMap;

use ed25519_dalek::hazmat::ExpandedSecretKey;
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use rsa::Oaep;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::super::greeting::Greeting;
use super::super::response::Response;
use super::super::{ERROR, MORE, OK, Packet, SWITCH};
use crate::auth::{Credential, Dialogue, Method, Rules};
use crate::capability::Capabilities;
use crate::secret::Secret;
use crate::testing::{Counted, PRIVATE_KEY, public_key_pem};

pub(super) const MYSQL: Capabilities = Capabilities(0xdfff_ffff);
pub(super) const MARIADB: Capabilities = Capabilities(0x1d_81ff_f7fe);

/// A server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) capabilities: Capabilities,
    /// The method of its greeting.
    pub(super) begins_with: Method,
    pub(super) users: BTreeMap<Vec<u8>, (Method, &'static str)>,
    /// Whether it knows the passwords of caching_sha2_password already.
    pub(super) is_warm: bool,
    pub(super) databases: Vec<&'static str>,
    pub(super) connection_id: u32,
    /// What its nonces are made of, and how many it has made.
    pub(super) seed: u8,
    stage: Stage,
    nonce: Vec<u8>,
    /// Who is in, or about to be.
    pub(super) response: Response,
    pub(super) is_in: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Response,
    Proof(Method),
    KeyRequest(Method),
    Enciphered,
    SaltRequest,
    Signature,
    Command,
    Over,
}

const SALT: [u8; 18] = [5; 18];

impl Server {
    pub(super) fn new(capabilities: Capabilities, begins_with: Method) -> Self {
        Self {
            capabilities,
            begins_with,
            users: BTreeMap::new(),
            is_warm: false,
            databases: vec!["shop"],
            connection_id: 7,
            seed: 1,
            stage: Stage::Response,
            nonce: Vec::new(),
            response: Response::default(),
            is_in: false,
        }
    }

    pub(super) fn with(mut self, user: &str, method: Method, password: &'static str) -> Self {
        self.users.insert(user.into(), (method, password));
        self
    }

    fn is_mariadb(&self) -> bool {
        !self.capabilities.has(Capabilities::LONG_PASSWORD)
    }

    pub(super) fn greet(&mut self) -> Packet {
        self.nonce = self.fresh_nonce(20);
        let [c0, c1, c2, c3, e0, e1, e2, e3] = self.capabilities.0.to_le_bytes();
        let mut payload = vec![10];
        payload.extend_from_slice(if self.is_mariadb() {
            b"5.5.5-10.11.19-MariaDB\0"
        } else {
            b"9.7.4\0"
        });
        payload.extend_from_slice(&self.connection_id.to_le_bytes());
        payload.extend_from_slice(&self.nonce[..8]);
        payload.extend_from_slice(&[0, c0, c1, 45, 2, 0, c2, c3, 21, 0, 0, 0, 0, 0, 0]);
        payload.extend_from_slice(&[e0, e1, e2, e3]);
        payload.extend_from_slice(&self.nonce[8..]);
        payload.push(0);
        payload.extend_from_slice(self.begins_with.name().as_bytes());
        payload.push(0);
        Packet {
            sequence: 0,
            payload,
        }
    }

    /// What it answers to a packet of its client.
    pub(super) fn hear(&mut self, packet: &Packet) -> Option<Packet> {
        let payload = self.answer(&packet.payload)?;
        let sequence = packet.sequence.wrapping_add(1);
        Some(Packet { sequence, payload })
    }

    fn answer(&mut self, said: &[u8]) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Response => {
                self.response = Response::parse(said).expect("a response");
                let extra = self.response.capabilities & !self.capabilities;
                let allowed = Capabilities::CONNECT_WITH_DB | Capabilities::LONG_PASSWORD;
                assert!(
                    allowed.has(extra),
                    "asks for {extra:?}, which was not offered"
                );
                let (method, proof) = self.offer();
                self.begin(&method, &proof)
            }
            Stage::Command => self.change_user(said),
            Stage::Proof(method) => self.judge(method, said),
            Stage::KeyRequest(method) => {
                let request = if method == Method::Sha256 { 1 } else { 2 };
                assert_eq!(said, [request]);
                self.stage = Stage::Enciphered;
                Some([&[MORE], public_key_pem().as_bytes()].concat())
            }
            Stage::Enciphered => {
                let masked = PRIVATE_KEY
                    .decrypt(Oaep::new::<Sha1>(), said)
                    .expect("enciphered");
                let pairs = masked.iter().zip(self.nonce.iter().cycle());
                let text: Vec<u8> = pairs.map(|(byte, mask)| byte ^ mask).collect();
                let good = text.strip_suffix(&[0]) == Some(self.password());
                self.verdict(good)
            }
            Stage::SaltRequest => {
                assert_eq!(said, []);
                self.stage = Stage::Signature;
                // Not behind a marker, as MariaDB does it.
                Some([&b"P\0"[..], &SALT].concat())
            }
            Stage::Signature => {
                let mut key = [0; 32];
                pbkdf2::pbkdf2_hmac::<Sha512>(self.password(), &SALT, 1024, &mut key);
                let key = SigningKey::from_bytes(&key).verifying_key();
                let good = said.split_at_checked(32).is_some_and(|(nonce, signature)| {
                    let signed = [&self.nonce, nonce].concat();
                    Signature::from_slice(signature)
                        .is_ok_and(|signature| key.verify_strict(&signed, &signature).is_ok())
                });
                self.verdict(good)
            }
            Stage::Over => panic!("a client that speaks after the end"),
        }
    }

    fn change_user(&mut self, said: &[u8]) -> Option<Vec<u8>> {
        let capabilities = self.response.capabilities;
        self.response = Response::parse_change_user(said, capabilities).expect("a change of user");
        self.response.capabilities = capabilities;
        self.is_in = false;
        let (method, proof) = self.offer();
        match self.account() {
            // Every other method challenges anew.
            Some((Method::Native, _)) if method == b"mysql_native_password" => {
                self.begin(&method, &proof)
            }
            Some((method, _)) => self.switch(method),
            None => self.deny(),
        }
    }

    /// The method that the client came with, and what it said for it.
    fn offer(&self) -> (Vec<u8>, Vec<u8>) {
        let response = &self.response;
        (response.method.clone(), response.proof.reveal().to_vec())
    }

    fn begin(&mut self, method: &[u8], proof: &[u8]) -> Option<Vec<u8>> {
        match self.account() {
            None => self.deny(),
            Some((wanted, _)) if wanted.name().as_bytes() == method => match wanted {
                Method::Parsec | Method::Ed25519 => self.switch(wanted),
                _ => self.judge(wanted, proof),
            },
            Some((wanted, _)) => self.switch(wanted),
        }
    }

    fn switch(&mut self, method: Method) -> Option<Vec<u8>> {
        let long = matches!(method, Method::Ed25519 | Method::Parsec);
        self.nonce = self.fresh_nonce(if long { 32 } else { 20 });
        self.stage = match method {
            Method::Parsec => Stage::SaltRequest,
            method => Stage::Proof(method),
        };
        let mut payload = vec![SWITCH];
        payload.extend_from_slice(method.name().as_bytes());
        payload.push(0);
        payload.extend_from_slice(&self.nonce);
        if !long {
            payload.push(0);
        }
        Some(payload)
    }

    fn judge(&mut self, method: Method, proof: &[u8]) -> Option<Vec<u8>> {
        let password = self.password();
        match method {
            Method::Native => {
                let good = native_fits(password, &self.nonce, proof);
                self.verdict(good)
            }
            Method::CachingSha2 if password.is_empty() || matches!(proof, [] | [0]) => {
                self.verdict(password.is_empty() && matches!(proof, [] | [0]))
            }
            Method::CachingSha2 if self.is_warm => {
                if !sha2_fits(password, &self.nonce, proof) {
                    return self.deny();
                }
                self.stage = Stage::Over;
                self.is_in = true;
                // The verdict follows at once; see `after`.
                Some(vec![MORE, 3])
            }
            Method::CachingSha2 => {
                self.stage = Stage::KeyRequest(method);
                Some(vec![MORE, 4])
            }
            Method::Sha256 if matches!(proof, [0]) => self.verdict(password.is_empty()),
            Method::Sha256 => {
                self.stage = Stage::KeyRequest(method);
                self.answer(proof)
            }
            Method::Ed25519 => {
                let hash: [u8; 64] = Sha512::digest(password).into();
                let key = VerifyingKey::from(&ExpandedSecretKey::from_bytes(&hash));
                let good = Signature::from_slice(proof)
                    .is_ok_and(|signature| key.verify_strict(&self.nonce, &signature).is_ok());
                self.verdict(good)
            }
            Method::Clear => {
                let good = proof.strip_suffix(&[0]) == Some(password);
                self.verdict(good)
            }
            Method::Parsec => panic!("parsec asks for the salt first"),
        }
    }

    /// What it says without being asked: the OK behind "I know you".
    pub(super) fn after(&mut self, said: &Packet) -> Option<Packet> {
        (said.payload == [MORE, 3]).then(|| {
            let payload = self.verdict(true).expect("an OK");
            let sequence = said.sequence.wrapping_add(1);
            Packet { sequence, payload }
        })
    }

    fn verdict(&mut self, good: bool) -> Option<Vec<u8>> {
        if !good {
            return self.deny();
        }
        let database = self.response.database.as_slice();
        if !database.is_empty()
            && !self
                .databases
                .iter()
                .any(|name| name.as_bytes() == database)
        {
            self.stage = Stage::Over;
            return Some([&[ERROR, 0x19, 0x04], &b"#42000Unknown database"[..]].concat());
        }
        self.is_in = true;
        self.stage = Stage::Command;
        Some(vec![OK, 0, 0, 2, 0, 0, 0])
    }

    fn deny(&mut self) -> Option<Vec<u8>> {
        self.stage = Stage::Over;
        Some([&[ERROR, 0x15, 0x04], &b"#28000Access denied"[..]].concat())
    }

    fn account(&self) -> Option<(Method, &'static str)> {
        self.users.get(&self.response.user).copied()
    }

    fn password(&self) -> &'static [u8] {
        self.account().expect("an account").1.as_bytes()
    }

    fn fresh_nonce(&mut self, bytes: u8) -> Vec<u8> {
        self.seed = self.seed.wrapping_add(31);
        (0..bytes).map(|at| (at ^ self.seed) % 127 + 1).collect()
    }
}

/// Whether SHA1 of what is left without the mask is what a server stores.
fn native_fits(password: &[u8], nonce: &[u8], proof: &[u8]) -> bool {
    if password.is_empty() || proof.is_empty() {
        return password.is_empty() && proof.is_empty();
    }
    let stored = Sha1::digest(Sha1::digest(password));
    let mask = Sha1::new()
        .chain_update(nonce)
        .chain_update(stored)
        .finalize();
    let sha1: Vec<u8> = proof
        .iter()
        .zip(mask)
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    Sha1::digest(sha1) == stored
}

fn sha2_fits(password: &[u8], nonce: &[u8], proof: &[u8]) -> bool {
    let cached = Sha256::digest(Sha256::digest(password));
    let mask = Sha256::new()
        .chain_update(cached)
        .chain_update(nonce)
        .finalize();
    let once: Vec<u8> = proof
        .iter()
        .zip(mask)
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    Sha256::digest(once) == cached
}

/// A client that logs in at a server with the password itself.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) response: Response,
    pub(super) password: &'static str,
    dialogue: Option<Dialogue>,
}

impl Client {
    pub(super) fn new(user: &str, password: &'static str, database: &str) -> Self {
        let capabilities = MYSQL & !Capabilities::SSL & !Capabilities::COMPRESS;
        let response = Response {
            capabilities: capabilities & !Capabilities::ZSTD & !Capabilities::MULTI_FACTOR,
            max_packet_bytes: 1 << 24,
            character_set: 45,
            user: user.into(),
            database: database.into(),
            attributes: b"\x05_name\x05value".to_vec(),
            ..Response::default()
        };
        Self {
            response,
            password,
            dialogue: None,
        }
    }

    /// What it answers to a packet of its server; `None` for the last one.
    pub(super) fn hear(&mut self, packet: &Packet) -> Option<Packet> {
        let payload = match packet.payload.as_slice() {
            [10, ..] => {
                let greeting = Greeting::parse(&packet.payload).expect("a greeting");
                let mut response = self.response.clone();
                response.capabilities =
                    response.capabilities & (greeting.capabilities | Capabilities::CONNECT_WITH_DB);
                response.proof = Secret::new(self.begin(&greeting.method, &greeting.nonce));
                response.method = greeting.method;
                response.write()
            }
            [SWITCH, rest @ ..] => {
                let end = rest.iter().position(|byte| *byte == 0).expect("a name");
                self.begin(&rest[..end], &rest[end + 1..])
            }
            [OK | ERROR, ..] => return None,
            [MORE, said @ ..] | said => {
                let dialogue = self.dialogue.as_mut().expect("a dialogue");
                let answer = dialogue.answer(said, &mut Counted::default());
                answer.expect("an answer")?
            }
        };
        let sequence = packet.sequence.wrapping_add(1);
        Some(Packet { sequence, payload })
    }

    fn begin(&mut self, method: &[u8], nonce: &[u8]) -> Vec<u8> {
        let method = Method::named(method).expect("a method");
        let credential = Credential::Password(Secret::from(self.password));
        let rules = Rules {
            clear_password: true,
        };
        let (dialogue, said) =
            Dialogue::begin(method, nonce, &credential, rules).expect("a dialogue");
        self.dialogue = Some(dialogue);
        said
    }
}
