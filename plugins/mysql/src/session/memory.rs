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

/// When nobody sees any more what a connection does, it is not known for longer than this whether
/// the next one of the same port is the same.
const AFTERLIFE: Duration = Duration::from_secs(300);

/// Tells two connections of the same port from each other, and what was prepared before a reset
/// from what came after it.
type Generation = [u8; 8];

/// Where a session stands: the connection that it replays, and which of its copies it is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Of the origin and the copy: connections are numbered by the origin.
    server: String,
    /// Of the client's address and port, which a later connection may have too.
    connection: String,
    /// Of this very connection; `None` once it has ended.
    generation: Option<Generation>,
}

impl Place {
    pub(super) fn of(info: &SessionInfo) -> Self {
        let server = format!("{} {}", info.copy, info.origin);
        Self {
            connection: format!("{server} {}", info.client),
            server,
            generation: None,
        }
    }

    /// A connection begins here: what was known of others with its address and port is forgotten.
    pub(super) fn begin(&mut self, ctx: &mut Context<'_>) {
        self.renew(ctx);
        ctx.share().take(&self.of_connection("rest"));
        self.write(&[], LIFE, ctx);
    }

    /// The servers have forgotten all statements of the connection.
    pub(super) fn forget_statements(&mut self, ctx: &mut Context<'_>) {
        if let Some(value) = self.read(ctx) {
            self.renew(ctx);
            self.write(&value, LIFE, ctx);
        } else if self.generation.is_some() {
            self.renew(ctx);
        }
    }

    /// The connection has ended: what comes from its address and port is another one.
    pub(super) fn forget(&mut self, ctx: &mut Context<'_>) {
        if self.read(ctx).is_some() {
            ctx.share().take(&self.of_connection("connection"));
            ctx.share().take(&self.of_connection("rest"));
        }
        self.generation = None;
    }

    /// From here on this session does not see what becomes of the connection.
    pub(super) fn leave(&self, ctx: &mut Context<'_>) {
        if let Some(value) = self.read(ctx) {
            self.write(&value, AFTERLIFE, ctx);
        }
    }

    fn renew(&mut self, ctx: &mut Context<'_>) {
        let mut generation = Generation::default();
        ctx.random(&mut generation);
        self.generation = Some(generation);
    }

    /// What is remembered of the connection, if it is this one.
    fn read(&self, ctx: &mut Context<'_>) -> Option<Vec<u8>> {
        let value = ctx.share().get(&self.of_connection("connection"))?;
        let (generation, value) = value.split_first_chunk()?;
        (Some(*generation) == self.generation).then(|| value.to_vec())
    }

    fn write(&self, value: &[u8], life: Duration, ctx: &mut Context<'_>) {
        if let Some(generation) = &self.generation {
            let value = [generation, value].concat();
            ctx.share()
                .set(&self.of_connection("connection"), &value, life);
        }
    }

    fn of_connection(&self, what: &str) -> Vec<u8> {
        format!("{what} {}", self.connection).into_bytes()
    }

    fn of_number(&self, number: u32) -> Vec<u8> {
        format!("number {} {number}", self.server).into_bytes()
    }

    fn of_statement(&self, id: u32) -> Option<Vec<u8>> {
        let generation = u64::from_le_bytes(self.generation?);
        Some(format!("statement {} {generation:x} {id}", self.connection).into_bytes())
    }

    /// Remembers what is known of the connection, unless another one has its address and port now.
    pub(super) fn remember(&self, known: &Known, ctx: &mut Context<'_>) {
        if self.read(ctx).is_none() {
            return;
        }
        let mut value = Vec::new();
        put_lenenc_bytes(&mut value, &known.user);
        put_lenenc_bytes(&mut value, &known.database);
        value.extend_from_slice(&known.character_set.to_le_bytes());
        if let Some(client) = known.client {
            value.extend_from_slice(&client.0.to_le_bytes());
        }
        self.write(&value, LIFE, ctx);
    }

    /// What is known of a connection that a session goes on with.
    pub(super) fn recall(&mut self, ctx: &mut Context<'_>) -> Option<Known> {
        let value = ctx.share().get(&self.of_connection("connection"));
        let Some((generation, value)) = value.as_ref().and_then(|it| it.split_first_chunk()) else {
            self.renew(ctx);
            self.write(&[], LIFE, ctx);
            return None;
        };
        self.generation = Some(*generation);
        self.write(value, LIFE, ctx);
        let mut reader = Reader::new(value);
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
        if let Some(generation) = &self.generation {
            ctx.share()
                .set(&self.of_connection("rest"), generation, AFTERLIFE);
        }
    }

    /// Whether it was; it is asked once.
    pub(super) fn take_rest(&self, ctx: &mut Context<'_>) -> bool {
        let rest = ctx.share().take(&self.of_connection("rest"));
        rest.is_some_and(|rest| self.generation.is_some_and(|it| rest == it))
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
        let Some(place) = self.of_statement(id) else {
            return;
        };
        let (Some(text), Some(parameters)) = (&statement.text, statement.parameters()) else {
            // The number means this one now, and no longer what may be remembered.
            ctx.share().take(&place);
            return;
        };
        let mut value = parameters.to_le_bytes().to_vec();
        let types = statement.types.as_deref().unwrap_or_default();
        value.extend_from_slice(&(types.len() as u16).to_le_bytes());
        for kind in types {
            value.extend_from_slice(&kind.to_le_bytes());
        }
        value.extend_from_slice(text);
        ctx.share().set(&place, &value, LIFE);
    }

    /// The text of such a statement, how many parameters it has, and their types if known.
    pub(super) fn recall_statement(&self, id: u32, ctx: &mut Context<'_>) -> Option<Recalled> {
        let value = ctx.share().get(&self.of_statement(id)?)?;
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
        if let Some(place) = self.of_statement(id) {
            ctx.share().take(&place);
        }
    }
}

/// A statement that another session has seen prepared.
#[derive(Debug)]
pub(super) struct Recalled {
    pub(super) parameters: u16,
    pub(super) types: Option<Vec<u16>>,
    pub(super) text: Vec<u8>,
}
