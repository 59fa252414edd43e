//! The packets that end an answer: OK, EOF and error.

use crate::wire::Reader;

/// First byte of an OK packet.
pub(crate) const OK: u8 = 0x00;
/// First byte of an EOF packet, and of the OK packet in its place.
pub(crate) const EOF: u8 = 0xfe;
/// First byte of an error.
pub(crate) const ERROR: u8 = 0xff;
/// First byte of a request for a file of the client.
pub(crate) const FILE: u8 = 0xfb;

/// An EOF packet is shorter than this; a row that begins with the same byte is longer.
pub(crate) const EOF_LENGTH: u32 = 9;

/// The error code of a MariaDB that only reports progress.
pub(crate) const PROGRESS: u16 = 0xffff;

/// The status flags of a server's answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u16);

impl Status {
    const IN_TRANSACTION: u16 = 0x0001;
    const AUTOCOMMIT: u16 = 0x0002;
    const MORE_RESULTS: u16 = 0x0008;
    const CURSOR_EXISTS: u16 = 0x0040;
    const NO_BACKSLASH_ESCAPES: u16 = 0x0200;
    const OUT_PARAMETERS: u16 = 0x1000;
    const STATE_CHANGED: u16 = 0x4000;

    pub(crate) fn is_in_transaction(self) -> bool {
        self.0 & Self::IN_TRANSACTION != 0
    }

    pub(crate) fn is_autocommit(self) -> bool {
        self.0 & Self::AUTOCOMMIT != 0
    }

    pub(crate) fn has_more_results(self) -> bool {
        self.0 & Self::MORE_RESULTS != 0
    }

    /// Whether a backslash in a text escapes what follows it.
    pub(crate) fn has_backslash_escapes(self) -> bool {
        self.0 & Self::NO_BACKSLASH_ESCAPES == 0
    }

    /// The result is what a procedure's parameters have become.
    pub(crate) fn is_out_parameters(self) -> bool {
        self.0 & Self::OUT_PARAMETERS != 0
    }

    pub(crate) fn has_cursor(self) -> bool {
        self.0 & Self::CURSOR_EXISTS != 0
    }
}

/// An OK packet, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Okay<'a> {
    pub(crate) affected: u64,
    pub(crate) status: Status,
    /// The session's database, if it has changed.
    pub(crate) schema: Option<&'a [u8]>,
    /// The session's character set of the client, if it has changed.
    pub(crate) character_set: Option<&'a [u8]>,
}

impl<'a> Okay<'a> {
    /// Reads an OK packet, its first byte included.
    pub(crate) fn read(payload: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        reader.skip(1)?;
        let affected = reader.lenenc()?;
        reader.lenenc()?;
        let status = Status(reader.u16()?);
        reader.skip(2)?;
        let mut okay = Self {
            affected,
            status,
            ..Self::default()
        };
        if status.0 & Status::STATE_CHANGED != 0 {
            // Only where session tracking is agreed upon, and then the text has a length.
            okay.read_changes(&mut reader);
        }
        Some(okay)
    }

    fn read_changes(&mut self, reader: &mut Reader<'a>) -> Option<()> {
        /// A system variable, and the database of the session.
        const VARIABLE: u8 = 0;
        const SCHEMA: u8 = 1;
        reader.lenenc_bytes()?;
        let mut changes = Reader::new(reader.lenenc_bytes()?);
        while let Some(kind) = changes.u8() {
            let mut change = Reader::new(changes.lenenc_bytes()?);
            match kind {
                SCHEMA => self.schema = Some(change.lenenc_bytes()?),
                VARIABLE => self.read_variables(&mut change)?,
                _ => {}
            }
        }
        Some(())
    }

    fn read_variables(&mut self, change: &mut Reader<'a>) -> Option<()> {
        // MariaDB puts several into one change.
        while !change.is_empty() {
            let name = change.lenenc_bytes()?;
            let value = change.lenenc_bytes()?;
            if name == b"character_set_client" {
                self.character_set = Some(value);
            }
        }
        Some(())
    }
}

/// Reads the flags of an EOF packet, its first byte included.
pub(crate) fn eof_status(payload: &[u8]) -> Option<Status> {
    let mut reader = Reader::new(payload);
    reader.skip(3)?;
    reader.u16().map(Status)
}

/// Reads the code of an error, its first byte included.
pub(crate) fn error_code(payload: &[u8]) -> Option<u16> {
    let mut reader = Reader::new(payload);
    reader.skip(1)?;
    reader.u16()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_lenenc_bytes;

    #[test]
    fn session_changes_are_read() {
        let mut schema = Vec::new();
        put_lenenc_bytes(&mut schema, b"shop");
        let mut variables = Vec::new();
        for text in ["autocommit", "ON", "character_set_client", "utf8mb4"] {
            put_lenenc_bytes(&mut variables, text.as_bytes());
        }
        let mut changes = Vec::new();
        for (kind, change) in [(0, variables), (1, schema), (5, b"\x08________".to_vec())] {
            changes.push(kind);
            put_lenenc_bytes(&mut changes, &change);
        }
        let mut payload = vec![OK, 3, 0, 0x03, 0x40, 0, 0, 0];
        put_lenenc_bytes(&mut payload, &changes);
        let okay = Okay::read(&payload).expect("an OK packet");
        assert_eq!(okay.affected, 3);
        assert!(okay.status.is_in_transaction() && okay.status.is_autocommit());
        assert_eq!(okay.schema, Some(&b"shop"[..]));
        assert_eq!(okay.character_set, Some(&b"utf8mb4"[..]));
        for cut in 0..payload.len() {
            // Never more than what is there, and never a panic.
            assert_eq!(Okay::read(&payload[..cut]).is_some(), cut >= 7, "{cut}");
        }
    }

    #[test]
    fn text_without_session_changes_is_no_change() {
        let okay = Okay::read(b"\0\x01\0\x02\0\0\0Rows matched: 1").expect("an OK packet");
        assert_eq!((okay.affected, okay.schema), (1, None));
        assert_eq!(eof_status(b"\xfe\0\0\x09\0"), Some(Status(9)));
        assert_eq!(error_code(b"\xff\x15\x04#28000no"), Some(1045));
    }
}
