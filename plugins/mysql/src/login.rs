//! The dialogue that ends with the target's OK, whatever dialogue the captured client had with the
//! origin: of a connection that begins, of one that was joined late, and of `COM_CHANGE_USER`.
//!
//! A login is told whole packets of three streams and answers with packets for the target. The
//! session (`session.rs`) splits streams into packets, puts headers on, and keeps all commands back
//! until the login is done.

use plugin_api::Context;

use crate::accounts::Accounts;
use crate::capability::Capabilities;

/// One packet of a login, without its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) sequence: u8,
    pub(crate) payload: Vec<u8>,
}

/// What has come of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LoginStep {
    /// The dialogue goes on.
    Continue,
    /// The target has let us in.
    Done(Box<LoggedIn>),
    /// The target has refused us with this error, after a dialogue led as it should be.
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
}

/// What is known of a connection whose beginning was not captured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Empty: the default account.
    pub(crate) user: Vec<u8>,
    /// Empty: the configured one, if any.
    pub(crate) database: Vec<u8>,
    /// 0: the default of the target.
    pub(crate) character_set: u16,
    /// What the client had agreed upon with the origin.
    pub(crate) client: Option<Capabilities>,
}

/// A login that is under way.
#[derive(Debug)]
pub(crate) struct Login {}

impl Login {
    /// Of a connection whose beginning was captured: the first packet of origin and target is the
    /// greeting, that of the client the handshake response.
    pub(crate) fn new() -> Self {
        Self {}
    }

    /// Of a connection that was joined late: nothing of client and origin will come; it answers the
    /// target's greeting with the account for `known.user`.
    pub(crate) fn late(known: Known) -> Self {
        let _ = known;
        Self {}
    }

    /// Of `COM_CHANGE_USER`, on a connection where `before` holds. The command itself is the first
    /// client packet (sequence 0, first byte 0x11); its answers come as target and origin packets.
    pub(crate) fn change_user(before: &LoggedIn) -> Self {
        let _ = before;
        Self {}
    }

    /// What client and origin have agreed upon, as soon as both have spoken (for a login that began
    /// with the connection: what each of them said, joined with `&`, where the origin's greeting was
    /// seen, else what the client said).
    pub(crate) fn client_capabilities(&self) -> Option<Capabilities> {
        None
    }

    /// A packet of the captured client that belongs to its login (its sequence number is not 0, but
    /// for `COM_CHANGE_USER` itself).
    pub(crate) fn on_client(
        &mut self,
        accounts: &Accounts,
        packet: Packet,
        ctx: &mut Context<'_>,
        out: &mut Vec<Packet>,
    ) -> LoginStep {
        let _ = (accounts, packet, ctx, out);
        LoginStep::Continue
    }

    /// A packet of the target, from its greeting on.
    pub(crate) fn on_target(
        &mut self,
        accounts: &Accounts,
        packet: Packet,
        ctx: &mut Context<'_>,
        out: &mut Vec<Packet>,
    ) -> LoginStep {
        let _ = (accounts, packet, ctx, out);
        LoginStep::Continue
    }

    /// A packet of the origin: its greeting, then what belongs to the captured client's login, the
    /// final OK or error included. May come before or after what client and target say, and not at
    /// all. After `Done` it may still be called (for what can be learnt from it).
    pub(crate) fn on_origin(
        &mut self,
        accounts: &Accounts,
        packet: Packet,
        ctx: &mut Context<'_>,
        out: &mut Vec<Packet>,
    ) -> LoginStep {
        let _ = (accounts, packet, ctx, out);
        LoginStep::Continue
    }
}
