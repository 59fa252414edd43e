//! What the captured client and the origin said to each other while the client logged in.

use crate::accounts::Proof;
use crate::auth::native::{self, StoredHash};
use crate::auth::{Credential, NONCE_BYTES};
use crate::secret::Secret;

use super::greeting::Greeting;
use super::response::Response;

/// How many challenges and proofs of one login are remembered.
const REMEMBERED: usize = 8;

/// The captured half of a login.
#[derive(Clone, Debug, Default)]
pub(crate) struct Captured {
    pub(crate) greeting: Option<Greeting>,
    pub(crate) response: Option<Response>,
    /// What the origin challenged with: nonces of `mysql_native_password`'s length.
    pub(crate) nonces: Vec<[u8; NONCE_BYTES]>,
    /// What the client may have proved itself with by `mysql_native_password`.
    proofs: Vec<Secret>,
    /// Whether the client said anything that may have come of a password.
    has_password: bool,
    /// How many challenges behind the greeting the client has still to answer, which may be heard
    /// of after the origin's verdict.
    unanswered: i32,
    /// Nothing of the origin will be heard any more.
    is_origin_lost: bool,
    /// How it ended at the origin.
    pub(crate) verdict: Option<Verdict>,
}

/// How a login ended at the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    LoggedIn,
    Denied,
}

/// What there is to log in with, as far as that is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    Enough(Credential),
    /// More must come from client or origin.
    NotYet,
    /// There is nothing that would do.
    Missing,
}

impl Captured {
    /// The origin's greeting.
    pub(crate) fn greeted(&mut self, greeting: Greeting) {
        self.challenged(&greeting.nonce);
        self.greeting = Some(greeting);
    }

    /// The origin asked for another method.
    pub(crate) fn switched(&mut self, nonce: &[u8]) {
        self.unanswered = self.unanswered.saturating_add(1);
        self.challenged(nonce);
    }

    fn challenged(&mut self, nonce: &[u8]) {
        let bare = nonce.strip_suffix(&[0]).unwrap_or(nonce);
        if let (Ok(nonce), true) = (bare.try_into(), self.nonces.len() < REMEMBERED) {
            self.nonces.push(nonce);
        }
    }

    /// The client's handshake response, or its `COM_CHANGE_USER`.
    pub(crate) fn responded(&mut self, response: Response) {
        self.proof(response.proof.reveal());
        self.response = Some(response);
    }

    /// The client said more.
    pub(crate) fn proved(&mut self, proof: &[u8]) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.proof(proof);
    }

    fn proof(&mut self, proof: &[u8]) {
        self.has_password |= !matches!(proof, [] | [0]);
        if proof.len() == native::HASH_BYTES && self.proofs.len() < REMEMBERED {
            self.proofs.push(Secret::new(proof.to_vec()));
        }
    }

    /// Nothing of the origin will be heard any more.
    pub(crate) fn lose_origin(&mut self) {
        self.is_origin_lost = true;
    }

    /// Nothing will be proved with it any more.
    pub(crate) fn wipe(&mut self) {
        self.proofs.clear();
        self.nonces.clear();
        if let Some(response) = &mut self.response {
            response.proof = Secret::default();
        }
    }

    /// What the captured user logs in with at the target, from what the configuration has.
    pub(crate) fn evidence(&self, configured: Option<&Proof>) -> Evidence {
        if let Some(Proof::Password(password)) = configured {
            return Evidence::Enough(Credential::Password(password.clone()));
        }
        if let Some(Proof::Hashes(hashes)) = configured
            && let Some(sha1) = self.recover(hashes)
        {
            return Evidence::Enough(Credential::Sha1(sha1));
        }
        let no_password = || Evidence::Enough(Credential::Password(Secret::new(Vec::new())));
        match self.verdict.filter(|_| self.unanswered <= 0) {
            // Who got in without saying anything has no password.
            Some(Verdict::LoggedIn) if !self.has_password => no_password(),
            None if self.is_origin_lost && !self.has_password => no_password(),
            None if configured.is_none() && self.has_password => Evidence::Missing,
            None if !self.is_origin_lost => Evidence::NotYet,
            _ => Evidence::Missing,
        }
    }

    /// SHA1(password), from any pair of challenge and proof that fits a hash: the fit is its own
    /// proof.
    fn recover(&self, hashes: &[StoredHash]) -> Option<Secret> {
        let pairs = self
            .nonces
            .iter()
            .flat_map(|nonce| self.proofs.iter().map(move |proof| (nonce, proof)));
        let mut tries =
            pairs.flat_map(|pair| hashes.iter().map(move |hash| (hash, pair.0, pair.1)));
        tries.find_map(|(hash, nonce, proof)| native::recover(hash, nonce, proof.reveal()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; 20] = *b"abcdefghijklmnopqrst";

    fn stored() -> Vec<StoredHash> {
        let text = "*81F5E21E35407D884A6CD4A731AEBFB6AF209E1B";
        vec![StoredHash::parse(text).expect("the hash of `root`")]
    }

    fn hashes() -> Proof {
        Proof::Hashes(stored())
    }

    #[test]
    fn a_hash_waits_for_the_exchange_that_fits() {
        let mut captured = Captured::default();
        captured.challenged(b"tsrqponmlkjihgfedcba\0");
        captured.proved(&[7; 32]);
        assert_eq!(captured.evidence(Some(&hashes())), Evidence::NotYet);
        captured.challenged(&NONCE);
        captured.proved(&native::answer(&Secret::from("root"), &NONCE));
        let sha1 = Credential::Sha1(native::sha1_of(&Secret::from("root")));
        assert_eq!(captured.evidence(Some(&hashes())), Evidence::Enough(sha1));
    }

    #[test]
    fn a_hash_that_fits_nothing_is_given_up_with_the_origins_verdict() {
        let mut captured = Captured::default();
        captured.challenged(&NONCE);
        captured.proved(&native::answer(&Secret::from("other"), &NONCE));
        assert_eq!(captured.evidence(Some(&hashes())), Evidence::NotYet);
        captured.verdict = Some(Verdict::LoggedIn);
        assert_eq!(captured.evidence(Some(&hashes())), Evidence::Missing);
    }

    #[test]
    fn what_the_origin_would_have_said_is_not_waited_for_when_it_is_lost() {
        let mut captured = Captured::default();
        captured.proved(&[]);
        assert_eq!(captured.evidence(Some(&hashes())), Evidence::NotYet);
        captured.lose_origin();
        let empty = Credential::Password(Secret::new(Vec::new()));
        assert_eq!(captured.evidence(None), Evidence::Enough(empty));
        captured.proved(&[7; 20]);
        assert_eq!(captured.evidence(Some(&hashes())), Evidence::Missing);
    }

    #[test]
    fn what_is_wiped_proves_nothing() {
        let mut captured = Captured::default();
        captured.challenged(&NONCE);
        let proof = native::answer(&Secret::from("root"), &NONCE);
        captured.responded(Response {
            proof: Secret::new(proof),
            ..Response::default()
        });
        assert!(captured.recover(&stored()).is_some());
        captured.wipe();
        assert_eq!(captured.recover(&stored()), None);
        assert!(captured.response.expect("kept").proof.is_empty());
    }

    #[test]
    fn who_has_no_password_needs_none() {
        let mut captured = Captured::default();
        captured.proved(&[]);
        assert_eq!(captured.evidence(None), Evidence::NotYet);
        captured.verdict = Some(Verdict::LoggedIn);
        let empty = Credential::Password(Secret::new(Vec::new()));
        assert_eq!(captured.evidence(None), Evidence::Enough(empty));
        captured.proved(&[1]);
        assert_eq!(captured.evidence(None), Evidence::Missing);
    }
}
