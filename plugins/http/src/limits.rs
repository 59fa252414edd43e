//! How much of a message is read.

/// Most fields of a head that `header_count` may allow.
pub(crate) const MAX_FIELDS: usize = 256;

/// Limits of what a peer may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of a head, and of trailers.
    pub(crate) head_bytes: usize,
    /// Fields of a head; at most [`MAX_FIELDS`].
    pub(crate) fields: usize,
}

impl Limits {
    /// Twice what the usual servers take.
    pub(crate) const DEFAULT: Self = Self {
        head_bytes: 64 * 1024,
        fields: 128,
    };
}
