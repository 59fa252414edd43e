//! What a connection has agreed on with the target, kept for the case that the target closes it:
//! another one goes on with the client's commands, and begins where this one was.

use std::time::Duration;

use plugin_api::{Context, SessionInfo};

use crate::settings::Settings;

/// How long it is kept without a change.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// What a connection has agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// The target's number of the database that the client is in; `None` where it has selected one
    /// before the capture.
    pub(crate) database: Option<u64>,
    /// Who the client has logged in as at the origin.
    pub(crate) user: Option<Vec<u8>>,
    /// Whether the client speaks RESP3.
    pub(crate) is_resp3: bool,
}

/// Which connection, among all that are replayed.
pub(crate) fn key(info: &SessionInfo) -> Vec<u8> {
    let SessionInfo {
        client,
        origin,
        target,
        copy,
        ..
    } = info;
    format!("{client} {origin} {target} {copy}").into_bytes()
}

impl Agreed {
    /// What a connection has that begins, or that has said `RESET`.
    pub(crate) fn of_new(settings: &Settings) -> Self {
        Self {
            database: Some(settings.database(0)),
            ..Self::default()
        }
    }

    /// Keeps it.
    pub(crate) fn keep(&self, key: &[u8], ctx: &mut Context<'_>) {
        let mut value = vec![
            u8::from(self.is_resp3),
            u8::from(self.database.is_some()),
            u8::from(self.user.is_some()),
        ];
        value.extend(self.database.unwrap_or(0).to_le_bytes());
        value.extend(self.user.as_deref().unwrap_or_default());
        if !ctx.share().set(key, &value, LIFE) {
            ctx.count("states_not_kept", 1);
        }
    }

    /// What was kept.
    pub(crate) fn recall(key: &[u8], ctx: &mut Context<'_>) -> Option<Self> {
        Self::read(&ctx.share().get(key)?)
    }

    /// Forgets what was kept for an earlier connection of the same client's port.
    pub(crate) fn forget(key: &[u8], ctx: &mut Context<'_>) {
        let _ = ctx.share().take(key);
    }

    fn read(value: &[u8]) -> Option<Self> {
        let ([is_resp3, has_database, has_user], rest) = value.split_first_chunk()?;
        let (database, user) = rest.split_first_chunk()?;
        Some(Self {
            database: (*has_database != 0).then(|| u64::from_le_bytes(*database)),
            user: (*has_user != 0).then(|| user.to_vec()),
            is_resp3: *is_resp3 != 0,
        })
    }
}
