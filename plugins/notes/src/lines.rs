//! Bytes, cut anywhere, made lines.

use plugin_api::Context;

/// The longest line, in bytes; a session with a longer one is refused.
const LINE_BYTES: usize = 64 * 1024;

/// One stream.
#[derive(Debug)]
pub(crate) struct Lines {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    /// In the middle of a line whose beginning nobody has seen.
    is_lost: bool,
}

impl Lines {
    pub(crate) fn new(start_seen: bool) -> Self {
        Self {
            begun: Vec::new(),
            is_lost: !start_seen,
        }
    }

    /// Takes bytes, and gives the lines that are complete now, with their ends.
    pub(crate) fn add(&mut self, bytes: &[u8], ctx: &mut Context<'_>) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if self.begun.len() > LINE_BYTES {
                ctx.refuse("line_too_long");
            } else if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.begun);
                if !std::mem::take(&mut self.is_lost) {
                    lines.push(line);
                }
            }
        }
        lines
    }
}
