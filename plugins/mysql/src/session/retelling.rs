//! Texts that mean another thing at the target: its databases have other names, its connections
//! other numbers.

use super::{Connection, Turn};
use crate::sql::{Change, Meaning, Means};

/// A part of a text that means another thing at the target can't be put there.
const UNCHANGEABLE: &str = "texts_that_cannot_be_changed";

impl Connection {
    /// The text that means at the target what this one means at the origin.
    ///
    /// The beginning of one that is not whole keeps its length.
    ///
    /// # Errors
    ///
    /// The name under which it is left out.
    pub(super) fn retell(
        &self,
        text: &[u8],
        meaning: &Meaning,
        is_whole: bool,
        turn: &mut Turn<'_, '_>,
    ) -> Result<Vec<u8>, &'static str> {
        if let Some(reason) = meaning.left_out {
            return Err(reason);
        }
        let mut retold = Vec::with_capacity(text.len());
        let mut told = 0;
        for change in &meaning.changes {
            let Some(new) = self.means_at_target(change, turn)? else {
                continue;
            };
            let span = change.span.clone().ok_or(UNCHANGEABLE)?;
            let Some(before) = text.get(told..span.start) else {
                return Err(UNCHANGEABLE);
            };
            retold.extend_from_slice(before);
            retold.extend_from_slice(&new);
            if !is_whole {
                let room = span
                    .len()
                    .checked_sub(new.len())
                    .ok_or("queries_too_long_to_change")?;
                retold.resize(retold.len() + room, b' ');
            }
            told = span.end;
        }
        retold.extend_from_slice(text.get(told..).unwrap_or_default());
        Ok(retold)
    }

    /// What has to stand in a text; `None` where that stands there already.
    fn means_at_target(
        &self,
        change: &Change,
        turn: &mut Turn<'_, '_>,
    ) -> Result<Option<Vec<u8>>, &'static str> {
        match &change.means {
            Means::Database(name) => {
                let renamed = turn.plugin.accounts.database(name);
                let is_plain = |byte: &u8| !matches!(byte, b'\'' | b'"' | b'\\' | 0x80..);
                if renamed == name {
                    return Ok(None);
                }
                if change.is_quoted && !renamed.iter().all(is_plain) {
                    return Err(UNCHANGEABLE);
                }
                let doubled = renamed.split(|byte| *byte == b'`').collect::<Vec<_>>();
                Ok(Some(
                    [b"`", doubled.join(&b"``"[..]).as_slice(), b"`"].concat(),
                ))
            }
            Means::Connection(connection) => {
                let number = self.place.recall_number(*connection, turn.ctx);
                let number = number.ok_or("kills_of_unknown_connections")?;
                Ok(Some(number.to_string().into_bytes()))
            }
        }
    }
}
