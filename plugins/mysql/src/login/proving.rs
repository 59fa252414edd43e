//! Our proof to the target: the method that it wants, and its questions.

use crate::accounts::Accounts;
use crate::auth::{Credential, Dialogue, Method, Refusal};
use crate::secret::Secret;
use crate::wire::Reader;

use super::{Login, LoginStep, MORE, NEXT_FACTOR, OK, Packet, SWITCH, Stage, Surroundings};

/// How often a target may speak before its verdict. The longest dialogue has five rounds.
const MAX_ROUNDS: u8 = 16;

impl Login {
    /// Whether the target waits for us, and we for the origin.
    pub(crate) fn waits_for_origin(&self) -> bool {
        matches!(self.stage, Stage::Response(_)) && self.captured.response.is_some()
    }

    /// Begins a proof by the method that the target begins with, if that is one for us; another one
    /// otherwise, and the target will say which it wants. The method's name, and the proof.
    pub(super) fn prove(
        &mut self,
        accounts: &Accounts,
        method: &[u8],
        nonce: &[u8],
        credential: Credential,
    ) -> (Vec<u8>, Secret) {
        let offered = match credential {
            Credential::Password(_) => Method::named(method).unwrap_or(Method::Native),
            Credential::Sha1(_) => Method::Native,
        };
        self.challenged(nonce, Some(offered));
        for method in [offered, Method::Native] {
            let begun = Dialogue::begin(method, nonce, &credential, accounts.rules);
            if let Ok((dialogue, proof)) = begun {
                self.stage = Stage::Proving(credential, Some(dialogue));
                return (method.name().into(), Secret::new(proof));
            }
        }
        self.stage = Stage::Proving(credential, None);
        (Method::Native.name().into(), Secret::default())
    }

    /// What we answer to what the target said; `None` for nothing.
    pub(super) fn proceed(
        &mut self,
        accounts: &Accounts,
        credential: Credential,
        dialogue: Option<Dialogue>,
        packet: &Packet,
        ctx: &mut impl Surroundings,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return Err(Refusal::Unexpected);
        }
        let (dialogue, said) = match packet.payload.as_slice() {
            [OK, ..] => return Ok(None),
            [SWITCH] => return Err(Refusal::OldPassword),
            [SWITCH, switch @ ..] => {
                let mut reader = Reader::new(switch);
                let method = Method::named(reader.nul_bytes().ok_or(Refusal::Unexpected)?)?;
                let nonce = match reader.rest() {
                    [] => self.result.challenges.target.clone(),
                    nonce => nonce.to_vec(),
                };
                self.challenged(&nonce, Some(method));
                let (dialogue, said) =
                    Dialogue::begin(method, &nonce, &credential, accounts.rules)?;
                (Some(dialogue), Some(said))
            }
            [NEXT_FACTOR, ..] => return Err(Refusal::SecondFactor),
            [MORE, said @ ..] | said => {
                let mut dialogue = dialogue.ok_or(Refusal::Unexpected)?;
                let said = dialogue.answer(said, ctx)?;
                (Some(dialogue), said)
            }
        };
        self.stage = Stage::Proving(credential, dialogue);
        Ok(said)
    }

    fn challenged(&mut self, nonce: &[u8], method: Option<Method>) {
        self.result.challenges.target = nonce.to_vec();
        self.result.challenges.method = method;
    }

    pub(super) fn done(&mut self) -> LoginStep {
        self.result.client = self.client_capabilities();
        self.result
            .challenges
            .origin
            .clone_from(&self.captured.nonces);
        self.captured.wipe();
        LoginStep::Done(Box::new(self.result.clone()))
    }
}
