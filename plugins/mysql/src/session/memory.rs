//! What outlives a session, for others: what is known of a connection, in case another session goes
//! on with it, and which connection of the target is which of the origin.

use std::time::Duration;

use plugin_api::{Context, SessionInfo};

use crate::capability::Capabilities;
use crate::login::Known;
use crate::statements::Statement;
use crate::wire::{Reader, put_lenenc_bytes};

/// Pools keep connections for hours.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// Where a session stands: the connection that it replays, and which of its copies it is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Of the origin and the copy: connections are numbered by the origin.
    server: String,
    /// Of this very connection.
    connection: String,
}

impl Place {
    pub(super) fn of(info: &SessionInfo) -> Self {
        let server = format!("{} {}", info.copy, info.origin);
        Self {
            connection: format!("{server} {}", info.client),
            server,
        }
    }

    fn of_connection(&self, what: &str) -> Vec<u8> {
        format!("{what} {}", self.connection).into_bytes()
    }

    fn of_number(&self, number: u32) -> Vec<u8> {
        format!("number {} {number}", self.server).into_bytes()
    }

    fn of_statement(&self, id: u32) -> Vec<u8> {
        format!("statement {} {id}", self.connection).into_bytes()
    }

    /// Remembers what is known of the connection.
    pub(super) fn remember(&self, known: &Known, ctx: &mut Context<'_>) {
        let mut value = Vec::new();
        put_lenenc_bytes(&mut value, &known.user);
        put_lenenc_bytes(&mut value, &known.database);
        value.extend_from_slice(&known.character_set.to_le_bytes());
        if let Some(client) = known.client {
            value.extend_from_slice(&client.0.to_le_bytes());
        }
        ctx.share()
            .set(&self.of_connection("connection"), &value, LIFE);
    }

    pub(super) fn recall(&self, ctx: &mut Context<'_>) -> Option<Known> {
        let value = ctx.share().get(&self.of_connection("connection"))?;
        let mut reader = Reader::new(&value);
        Some(Known {
            user: reader.lenenc_bytes()?.to_vec(),
            database: reader.lenenc_bytes()?.to_vec(),
            character_set: reader.u16()?,
            client: reader
                .rest()
                .try_into()
                .ok()
                .map(|it| Capabilities(u64::from_le_bytes(it))),
        })
    }

    /// Remembers that the connection is between two commands, and outside a transaction.
    pub(super) fn leave_rest(&self, ctx: &mut Context<'_>) {
        ctx.share().set(&self.of_connection("rest"), b"", LIFE);
    }

    /// Whether it was; it is asked once.
    pub(super) fn take_rest(&self, ctx: &mut Context<'_>) -> bool {
        ctx.share().take(&self.of_connection("rest")).is_some()
    }

    /// Remembers the number that the target has given to the origin's connection `origin`.
    pub(super) fn remember_number(&self, origin: u32, target: u32, ctx: &mut Context<'_>) {
        ctx.share()
            .set(&self.of_number(origin), &target.to_le_bytes(), LIFE);
    }

    pub(super) fn recall_number(&self, origin: u32, ctx: &mut Context<'_>) -> Option<u32> {
        let value = ctx.share().get(&self.of_number(origin))?;
        Some(u32::from_le_bytes(value.try_into().ok()?))
    }

    /// Remembers a statement that the origin calls `id`, so that it can be prepared again.
    pub(super) fn remember_statement(&self, id: u32, statement: &Statement, ctx: &mut Context<'_>) {
        let (Some(text), Some(parameters)) = (&statement.text, statement.parameters()) else {
            return;
        };
        let mut value = parameters.to_le_bytes().to_vec();
        let types = statement.types.as_deref().unwrap_or_default();
        value.extend_from_slice(&(types.len() as u16).to_le_bytes());
        for kind in types {
            value.extend_from_slice(&kind.to_le_bytes());
        }
        value.extend_from_slice(text);
        ctx.share().set(&self.of_statement(id), &value, LIFE);
    }

    /// The text of such a statement, how many parameters it has, and their types if known.
    pub(super) fn recall_statement(&self, id: u32, ctx: &mut Context<'_>) -> Option<Recalled> {
        let value = ctx.share().get(&self.of_statement(id))?;
        let mut reader = Reader::new(&value);
        let parameters = reader.u16()?;
        let types = (0..reader.u16()?)
            .map(|_| reader.u16())
            .collect::<Option<Vec<_>>>()?;
        Some(Recalled {
            parameters,
            types: (!types.is_empty()).then_some(types),
            text: reader.rest().to_vec(),
        })
    }

    pub(super) fn forget_statement(&self, id: u32, ctx: &mut Context<'_>) {
        ctx.share().take(&self.of_statement(id));
    }
}

/// A statement that another session has seen prepared.
#[derive(Debug)]
pub(super) struct Recalled {
    pub(super) parameters: u16,
    pub(super) types: Option<Vec<u16>>,
    pub(super) text: Vec<u8>,
}
