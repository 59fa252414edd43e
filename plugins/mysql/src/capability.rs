//! What two ends of a connection can do: the flags of greeting and handshake response.

use std::ops::{BitAnd, BitOr, Not};

/// A set of capability flags: the 32 of MySQL below, MariaDB's 32 extended ones above them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities(pub(crate) u64);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Capabilities {
            $($(#[$doc])* pub(crate) const $name: Self = Self(1 << $bit);)*
        }
    };
}

flags! {
    /// `CLIENT_LONG_PASSWORD`, of MySQL. MariaDB's servers leave it out: it tells the two apart.
    LONG_PASSWORD = 0;
    /// `CLIENT_CONNECT_WITH_DB`: the response names a database.
    CONNECT_WITH_DB = 3;
    /// `CLIENT_COMPRESS`: zlib.
    COMPRESS = 5;
    /// `CLIENT_LOCAL_FILES`: `LOAD DATA LOCAL`.
    LOCAL_FILES = 7;
    /// `CLIENT_PROTOCOL_41`.
    PROTOCOL_41 = 9;
    /// `CLIENT_SSL`.
    SSL = 11;
    /// `CLIENT_TRANSACTIONS`: status flags in answers.
    TRANSACTIONS = 13;
    /// `CLIENT_RESERVED2`, in old documents `CLIENT_SECURE_CONNECTION`: the length of the
    /// authentication data is one byte.
    SECURE_CONNECTION = 15;
    /// `CLIENT_MULTI_STATEMENTS`: several statements in one text.
    MULTI_STATEMENTS = 16;
    /// `CLIENT_MULTI_RESULTS`: several results of one text statement.
    MULTI_RESULTS = 17;
    /// `CLIENT_PS_MULTI_RESULTS`: several results of one prepared statement.
    PS_MULTI_RESULTS = 18;
    /// `CLIENT_PLUGIN_AUTH`: methods of authentication have names.
    PLUGIN_AUTH = 19;
    /// `CLIENT_CONNECT_ATTRS`.
    CONNECT_ATTRS = 20;
    /// `CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA`: the length of the authentication data is
    /// length-encoded.
    PLUGIN_AUTH_LENENC_DATA = 21;
    /// `CLIENT_DEPRECATE_EOF`: OK packets in place of EOF packets.
    DEPRECATE_EOF = 24;
    /// `CLIENT_ZSTD_COMPRESSION_ALGORITHM`.
    ZSTD = 26;
    /// `CLIENT_QUERY_ATTRIBUTES`.
    QUERY_ATTRIBUTES = 27;
    /// `MULTI_FACTOR_AUTHENTICATION`.
    MULTI_FACTOR = 28;
    /// `MARIADB_CLIENT_STMT_BULK_OPERATIONS`.
    MARIADB_BULK = 34;
}

impl Capabilities {
    /// Whether all flags of `other` are among them.
    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Capabilities {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Capabilities {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Capabilities {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}
