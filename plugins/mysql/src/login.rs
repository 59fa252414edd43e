//! The dialogue that ends with the target's OK, whatever dialogue the captured client had with the
//! origin: of a connection that begins, of one that was joined late, and of `COM_CHANGE_USER`.
//!
//! A login is told whole packets of three streams and answers with packets for the target. The
//! session (`session.rs`) splits streams into packets, puts headers on, and keeps all commands back
//! until the login is done.
//!
//! What the captured client says is heard, and only its handshake response is taken over, rebuilt
//! for the target (`request.rs`): all proofs are our own. So nothing depends on how many packets
//! either dialogue has. What client and origin say may come in any order with what the target says;
//! `captured.rs` keeps it, and the target waits only for what is needed of it.

mod captured;
mod greeting;
mod proving;
mod refusing;
mod request;
mod response;
mod told;

use std::fmt;
use std::net::SocketAddr;

use plugin_api::{Context, Level};
use zeroize::Zeroize;

use crate::accounts::{Account, Accounts, Proof};
use crate::auth::{Credential, Dialogue, Method, NONCE_BYTES, Random, Refusal};
use crate::capability::Capabilities;
use crate::secret::Secret;
use crate::wire::Reader;

use captured::{Captured, Evidence, Verdict};
use greeting::Greeting;
use response::{NoResponse, Response};

/// The first byte of a packet of a server that ends a login well.
const OK: u8 = 0x00;
/// The same of one that refuses it.
const ERROR: u8 = 0xff;
/// The server asks for another method.
const SWITCH: u8 = 0xfe;
/// The server's method says more. MariaDB leaves this out where it can.
const MORE: u8 = 0x01;
/// The server asks for a second proof.
const NEXT_FACTOR: u8 = 0x02;

/// One packet of a login, without its header.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) sequence: u8,
    pub(crate) payload: Vec<u8>,
}

/// It may be a password.
impl Drop for Packet {
    fn drop(&mut self) {
        self.payload.zeroize();
    }
}

/// Without the payload, which may be a password.
impl fmt::Debug for Packet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Packet")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// What has come of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LoginStep {
    /// The dialogue goes on.
    Continue,
    /// The target has let us in.
    Done(Box<LoggedIn>),
    /// The target has refused us with this error, after a dialogue led as it should be. Whether the
    /// origin refused too tells [`Login::is_denied_at_origin`].
    Denied { code: u16 },
    /// The login can't be replayed; counted under this name.
    Refused(&'static str),
}

/// What holds on a connection after its login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoggedIn {
    /// In force between us and the target.
    pub(crate) target: Capabilities,
    /// In force between the captured client and the origin; `None` where that was not captured.
    pub(crate) client: Option<Capabilities>,
    /// Who the captured client is (not who logs in at the target); empty where not known.
    pub(crate) user: Vec<u8>,
    /// The database at the origin, before renaming; empty for none.
    pub(crate) database: Vec<u8>,
    /// Character set and collation, by number.
    pub(crate) character_set: u16,
    /// The connection's number at the origin, as `CONNECTION_ID()` and `KILL` have it.
    pub(crate) origin_id: Option<u32>,
    /// The same at the target.
    pub(crate) target_id: u32,
    /// Whether the target is a MariaDB.
    pub(crate) target_is_mariadb: bool,
    /// Whether the origin is; `None` where its greeting was not captured.
    pub(crate) origin_is_mariadb: Option<bool>,
    /// What a change of user builds upon.
    pub(crate) challenges: Challenges,
}

/// What both servers have challenged with: a change of user may be proved with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Challenges {
    /// The target's last, and the method it was for.
    target: Vec<u8>,
    method: Option<Method>,
    /// The origin's.
    origin: Vec<[u8; NONCE_BYTES]>,
    /// Where the target is.
    address: Option<SocketAddr>,
}

/// What is known of a connection whose beginning was not captured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Empty: the default account.
    pub(crate) user: Vec<u8>,
    /// Empty: the configured one, if any.
    pub(crate) database: Vec<u8>,
    /// 0: not known; then `utf8mb4`, which clients of the last ten years begin with.
    pub(crate) character_set: u16,
    /// What the client had agreed upon with the origin.
    pub(crate) client: Option<Capabilities>,
}

/// What a login needs around it.
pub(crate) trait Surroundings: Random {
    /// Writes to the log.
    fn log(&mut self, level: Level, message: &str);
}

impl Random for Context<'_> {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.random(bytes);
    }
}

impl Surroundings for Context<'_> {
    fn log(&mut self, level: Level, message: &str) {
        Context::log(self, level, message);
    }
}

/// A login that is under way.
#[derive(Debug)]
pub(crate) struct Login {
    kind: Kind,
    captured: Captured,
    stage: Stage,
    rounds: u8,
    /// What will hold, as far as it is known.
    result: LoggedIn,
}

/// How a login came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Begun,
    Late(Known),
    ChangeUser,
}

/// Whose turn it is.
#[derive(Debug)]
enum Stage {
    /// The target's, to greet.
    Greeting,
    /// Ours, as soon as there is what it takes. Without a greeting: `COM_CHANGE_USER`.
    Response(Option<Greeting>),
    /// The target's, to judge or to ask. There is no dialogue where we said nothing yet.
    Proving(Credential, Option<Dialogue>),
    Over,
}

impl Login {
    /// Of a connection whose beginning was captured: the first packet of origin and target is the
    /// greeting, that of the client the handshake response.
    pub(crate) fn new() -> Self {
        Self::of(Kind::Begun, Stage::Greeting, LoggedIn::default())
    }

    /// Of a connection that was joined late: nothing of client and origin will come; it answers the
    /// target's greeting with the account for `known.user`.
    pub(crate) fn late(known: Known) -> Self {
        let result = LoggedIn {
            client: known.client,
            user: known.user.clone(),
            database: known.database.clone(),
            character_set: known.character_set,
            ..LoggedIn::default()
        };
        Self::of(Kind::Late(known), Stage::Greeting, result)
    }

    /// Of `COM_CHANGE_USER`, on a connection where `before` holds. The command itself is the first
    /// client packet (sequence 0, first byte 0x11); its answers come as target and origin packets.
    pub(crate) fn change_user(before: &LoggedIn) -> Self {
        let mut login = Self::of(Kind::ChangeUser, Stage::Response(None), before.clone());
        login.captured.nonces.clone_from(&before.challenges.origin);
        login
    }

    /// Tells where the target is, for accounts that hold at one target only.
    #[must_use]
    pub(crate) fn at(mut self, target: SocketAddr) -> Self {
        self.result.challenges.address = Some(target);
        self
    }

    fn of(kind: Kind, stage: Stage, result: LoggedIn) -> Self {
        Self {
            kind,
            captured: Captured::default(),
            stage,
            rounds: 0,
            result,
        }
    }

    /// A packet of the captured client that belongs to its login (its sequence number is not 0, but
    /// for `COM_CHANGE_USER` itself).
    pub(crate) fn on_client(
        &mut self,
        accounts: &Accounts,
        packet: Packet,
        ctx: &mut impl Surroundings,
        out: &mut Vec<Packet>,
    ) -> LoginStep {
        let payload = packet.payload.as_slice();
        if self.captured.response.is_some() && matches!(self.stage, Stage::Over) {
            return LoginStep::Continue;
        }
        if self.captured.response.is_some() {
            self.captured.proved(payload);
            return self.respond(accounts, ctx, out);
        }
        let response = match self.kind {
            Kind::Late(_) => return LoginStep::Continue,
            Kind::Begun => Response::parse(payload),
            Kind::ChangeUser => {
                let capabilities = self.result.client.unwrap_or(self.result.target);
                let parsed = Response::parse_change_user(payload, capabilities);
                parsed.ok_or(NoResponse::Malformed)
            }
        };
        match response {
            Ok(response) => {
                self.captured.responded(response);
                self.respond(accounts, ctx, out)
            }
            Err(what) => self.no_response(what, ctx),
        }
    }

    /// A packet of the target, from its greeting on.
    pub(crate) fn on_target(
        &mut self,
        accounts: &Accounts,
        packet: Packet,
        ctx: &mut impl Surroundings,
        out: &mut Vec<Packet>,
    ) -> LoginStep {
        if let [ERROR, rest @ ..] = packet.payload.as_slice() {
            let code = Reader::new(rest).u16().unwrap_or(0);
            return self.denied(code, ctx);
        }
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Greeting => match Greeting::parse(&packet.payload) {
                Some(greeting) => {
                    self.stage = Stage::Response(Some(greeting));
                    self.respond(accounts, ctx, out)
                }
                None => LoginStep::Refused("login_not_mysql"),
            },
            Stage::Proving(credential, dialogue) => {
                match self.proceed(accounts, credential, dialogue, &packet, ctx) {
                    Ok(Some(payload)) => {
                        let sequence = packet.sequence.wrapping_add(1);
                        out.push(Packet { sequence, payload });
                        LoginStep::Continue
                    }
                    Ok(None) => match packet.payload.first() {
                        Some(&OK) => self.done(),
                        _ => LoginStep::Continue,
                    },
                    Err(refusal) => self.refused(refusal.name(), refusal.remedy(), ctx),
                }
            }
            // It spoke out of turn.
            Stage::Response(_) => LoginStep::Refused(Refusal::Unexpected.name()),
            Stage::Over => LoginStep::Continue,
        }
    }

    /// A packet of the origin: its greeting, then what belongs to the captured client's login, the
    /// final OK or error included. May come before or after what client and target say, and not at
    /// all. After `Done` it may still be called (for what can be learnt from it).
    pub(crate) fn on_origin(
        &mut self,
        accounts: &Accounts,
        packet: Packet,
        ctx: &mut impl Surroundings,
        out: &mut Vec<Packet>,
    ) -> LoginStep {
        let captured = &mut self.captured;
        if captured.verdict.is_some() {
            return LoginStep::Continue;
        }
        if self.kind == Kind::Begun
            && captured.greeting.is_none()
            && let Some(greeting) = Greeting::parse(&packet.payload)
        {
            self.result.origin_id = Some(greeting.connection_id);
            self.result.origin_is_mariadb = Some(greeting.is_mariadb);
            captured.greeted(greeting);
        } else {
            match packet.payload.as_slice() {
                [OK, ..] => captured.verdict = Some(Verdict::LoggedIn),
                [ERROR, ..] => captured.verdict = Some(Verdict::Denied),
                [SWITCH, switch @ ..] => {
                    let mut reader = Reader::new(switch);
                    if reader.nul_bytes().is_some() {
                        captured.switched(reader.rest());
                    }
                }
                _ => {}
            }
        }
        self.respond(accounts, ctx, out)
    }

    /// Nothing of the origin will come any more: what would have waited for it is decided now.
    pub(crate) fn lose_origin(
        &mut self,
        accounts: &Accounts,
        ctx: &mut impl Surroundings,
        out: &mut Vec<Packet>,
    ) -> LoginStep {
        self.captured.lose_origin();
        self.respond(accounts, ctx, out)
    }

    /// Answers the target's greeting, or asks it to change the user, once there is what it takes.
    fn respond(
        &mut self,
        accounts: &Accounts,
        ctx: &mut impl Surroundings,
        out: &mut Vec<Packet>,
    ) -> LoginStep {
        let Stage::Response(greeting) = &self.stage else {
            return LoginStep::Continue;
        };
        let of_origin = match (&self.kind, &self.captured.response) {
            (Kind::Late(known), _) => known.user.clone(),
            (_, Some(response)) => response.user.clone(),
            (_, None) => return LoginStep::Continue,
        };
        let account = accounts.account(&of_origin, self.result.challenges.address);
        let credential = match self.evidence(account.as_ref()) {
            Evidence::Enough(credential) => credential,
            Evidence::NotYet => return LoginStep::Continue,
            Evidence::Missing => return self.nothing_to_prove_with(&of_origin, account, ctx),
        };
        let user = match account {
            Some(account) => account.user,
            None => accounts.user(&of_origin).to_vec(),
        };
        let greeting = greeting.clone();
        let (sequence, payload) = match greeting {
            Some(greeting) => (
                1,
                self.handshake_response(accounts, user, &greeting, credential),
            ),
            None => (0, self.change_user_command(accounts, user, credential)),
        };
        out.push(Packet { sequence, payload });
        LoginStep::Continue
    }

    fn evidence(&self, account: Option<&Account>) -> Evidence {
        let proof = account.map(|account| &account.proof);
        match (&self.kind, proof) {
            // Nothing more will come.
            (Kind::Late(_), None | Some(Proof::Hashes(_))) => Evidence::Missing,
            _ => self.captured.evidence(proof),
        }
    }

    fn handshake_response(
        &mut self,
        accounts: &Accounts,
        user: Vec<u8>,
        greeting: &Greeting,
        credential: Credential,
    ) -> Vec<u8> {
        let captured = self.as_captured();
        let database = match captured.database.as_slice() {
            [] if matches!(self.kind, Kind::Late(_)) => accounts.late_database(),
            of_origin => accounts.database(of_origin),
        };
        let mut response = request::response(&captured, database, greeting);
        response.user = user;
        self.result.target = response.capabilities;
        self.result.target_id = greeting.connection_id;
        self.result.target_is_mariadb = greeting.is_mariadb;
        self.result.user = captured.user;
        self.result.database = captured.database;
        self.result.character_set = captured.character_set;
        let nonce = &greeting.nonce;
        (response.method, response.proof) =
            self.prove(accounts, &greeting.method, nonce, credential);
        response.write()
    }

    /// The captured client's response, with what it has agreed upon; of a connection joined late, the
    /// response that the client may have given.
    fn as_captured(&self) -> Response {
        /// What libraries allow at least: 16 MiB.
        const MAX_PACKET_BYTES: u32 = 1 << 24;
        let mut response = match (&self.captured.response, &self.kind) {
            (Some(response), _) => response.clone(),
            (None, Kind::Late(known)) => Response {
                capabilities: known.client.unwrap_or(request::USUAL),
                max_packet_bytes: MAX_PACKET_BYTES,
                character_set: match known.character_set {
                    0 => request::UTF8MB4,
                    known => known,
                },
                user: known.user.clone(),
                database: known.database.clone(),
                ..Response::default()
            },
            (None, _) => Response::default(),
        };
        if let Kind::Begun = self.kind {
            let origin = self.captured.greeting.as_ref();
            response.capabilities = request::agreed(response.capabilities, origin);
            if let Some(origin) = origin {
                response.character_set =
                    request::collation_at_origin(response.character_set, origin);
            } else {
                // Whether its statements have attributes depends on the origin too.
                response.capabilities = response.capabilities & !Capabilities::QUERY_ATTRIBUTES;
            }
        }
        response
    }

    fn change_user_command(
        &mut self,
        accounts: &Accounts,
        user: Vec<u8>,
        credential: Credential,
    ) -> Vec<u8> {
        let captured = self.captured.response.clone().unwrap_or_default();
        let mut response = Response {
            capabilities: self.result.target,
            character_set: request::collation(
                captured.character_set,
                self.result.target_is_mariadb,
            ),
            user,
            database: accounts.database(&captured.database).to_vec(),
            attributes: captured.attributes,
            ..Response::default()
        };
        self.result.user = captured.user;
        self.result.database = captured.database;
        self.result.character_set = captured.character_set;
        // The old challenge counts for this method alone; for others the target challenges anew.
        let method = self.result.challenges.method.unwrap_or(Method::Native);
        (response.method, response.proof) = match method {
            Method::Native => {
                let nonce = self.result.challenges.target.clone();
                self.prove(accounts, method.name().as_bytes(), &nonce, credential)
            }
            method => {
                self.stage = Stage::Proving(credential, None);
                (method.name().into(), Secret::default())
            }
        };
        response.write_change_user()
    }
}

#[cfg(test)]
mod tests;
