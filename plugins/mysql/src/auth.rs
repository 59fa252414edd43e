//! How a client proves who it is: the methods of MySQL and MariaDB, each as bytes in, bytes out.
//!
//! [`Method`] is what a server names, [`Credential`] what we have, [`Dialogue`] one proof under way.
//! Nothing here knows packets: what is given is what a server's authentication plugin said, without
//! header and without the marker of [more data](Dialogue::answer).

pub(crate) mod caching_sha2;
mod dialogue;
pub(crate) mod ed25519;
pub(crate) mod native;
pub(crate) mod parsec;
mod public_key;

use std::fmt;

use crate::secret::Secret;

pub(crate) use dialogue::{Dialogue, Random, Rules};

/// Bytes of the nonce of most methods. Servers send a NUL behind it, which is no part of it.
pub(crate) const NONCE_BYTES: usize = 20;

/// A method of authentication that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// `mysql_native_password`: SHA-1, all servers before MySQL 9.
    Native,
    /// `caching_sha2_password`: MySQL 8 and later, and newer MariaDB where it is loaded.
    CachingSha2,
    /// `sha256_password`: MySQL, never without RSA where there is no TLS.
    Sha256,
    /// `client_ed25519`: MariaDB.
    Ed25519,
    /// `parsec`: MariaDB 11.6 and later.
    Parsec,
    /// `mysql_clear_password`: the password as it is.
    Clear,
}

impl Method {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Native,
        Self::CachingSha2,
        Self::Sha256,
        Self::Ed25519,
        Self::Parsec,
        Self::Clear,
    ];

    /// The method that a server calls by this name.
    ///
    /// # Errors
    /// It is one that we don't speak.
    pub(crate) fn named(name: &[u8]) -> Result<Self, Refusal> {
        let named = |method: &Self| method.name().as_bytes() == name;
        match Self::ALL.into_iter().find(named) {
            Some(method) => Ok(method),
            None if name == b"mysql_old_password" => Err(Refusal::OldPassword),
            None => Err(Refusal::UnknownMethod),
        }
    }

    /// What servers call it.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Native => "mysql_native_password",
            Self::CachingSha2 => "caching_sha2_password",
            Self::Sha256 => "sha256_password",
            Self::Ed25519 => "client_ed25519",
            Self::Parsec => "parsec",
            Self::Clear => "mysql_clear_password",
        }
    }
}

/// What there is to log in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// The password; an empty one is an account without a password.
    Password(Secret),
    /// The SHA-1 of the password, which is all that `mysql_native_password` needs; see
    /// [`native::recover`].
    Sha1(Secret),
}

/// Why a proof can't be given. Each is a name that the session is refused under, and a sentence for
/// the log that says what to do; neither has anything of a credential in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The target asks for `mysql_old_password`.
    OldPassword,
    /// The target asks for a method that we don't speak.
    UnknownMethod,
    /// The target asks for the password in clear, and the configuration does not allow it.
    ClearPassword,
    /// There is only a hash, and the method wants the password.
    HashOnly,
    /// The nonce has another length than the method's.
    Nonce,
    /// The target wants a second factor.
    SecondFactor,
    /// The target's public key can't be used.
    PublicKey,
    /// The target said something that the method does not know.
    Unexpected,
}

impl Refusal {
    /// The name under which a session is refused.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OldPassword => "auth_old_password",
            Self::UnknownMethod => "auth_method_unknown",
            Self::ClearPassword => "auth_clear_password",
            Self::HashOnly => "auth_hash_only",
            Self::Nonce => "auth_nonce",
            Self::SecondFactor => "auth_second_factor",
            Self::PublicKey => "auth_public_key",
            Self::Unexpected => "auth_unexpected",
        }
    }

    /// What it is and what to do about it.
    #[must_use]
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::OldPassword => {
                "the target asks for mysql_old_password, which is not spoken: \
                 give the account another method at the target"
            }
            Self::UnknownMethod => {
                "the target asks for an authentication method that is not spoken: \
                 give the account one of mysql_native_password, caching_sha2_password, \
                 sha256_password, ed25519, parsec"
            }
            Self::ClearPassword => {
                "the target asks for the password in clear text: \
                 set `clear_password = true` if the way to it can be trusted"
            }
            Self::HashOnly => {
                "only a hash is configured for the account, which is enough for \
                 mysql_native_password alone: configure its password"
            }
            Self::Nonce => "the target's challenge has a wrong length: is it a MySQL server?",
            Self::SecondFactor => {
                "the target asks for a second factor: log in with an account that has one only"
            }
            Self::PublicKey => {
                "the target's RSA public key can't be used: it must be a PEM of at most 4096 bits"
            }
            Self::Unexpected => {
                "the target said something that its authentication method does not know"
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.remedy())
    }
}
