//! Bytes that nobody may see.

use std::fmt;

use zeroize::Zeroizing;

/// A password, or what is as good as one. It is wiped when dropped, and its `Debug` shows nothing
/// of it, not even the length.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for whoever computes with them.
    #[must_use]
    pub(crate) fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is nothing to hide: an account without a password.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes().to_vec())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}
