//! Who logs in at the target as whom.

use std::collections::BTreeMap;
use std::fmt;

/// The user that a client is who gives only a password.
pub(crate) const DEFAULT_USER: &[u8] = b"default";

/// An account of the target.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Who; `None` where the target knows passwords only.
    pub(crate) user: Option<Vec<u8>>,
    pub(crate) password: Vec<u8>,
}

/// It shows the user, never the password.
impl fmt::Debug for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_deref().map(String::from_utf8_lossy);
        formatter
            .debug_struct("Account")
            .field("user", &user)
            .finish_non_exhaustive()
    }
}

/// What becomes of logins.
#[derive(Debug)]
pub(crate) enum Accounts {
    /// They are sent as they are.
    Pass,
    /// The target has no accounts.
    Drop,
    /// They are sent with the target's accounts.
    Map {
        /// By the origin's user.
        named: BTreeMap<Vec<u8>, Account>,
        /// For everybody else, and for those who never log in.
        default: Option<Account>,
    },
}

impl Accounts {
    /// The account of a user of the origin. `None` where the configuration has none.
    pub(crate) fn of(&self, user: &[u8]) -> Option<&Account> {
        match self {
            Self::Pass | Self::Drop => None,
            Self::Map { named, default } => named.get(user).or(default.as_ref()),
        }
    }

    /// The account of those who never log in.
    pub(crate) fn of_the_silent(&self) -> Option<&Account> {
        match self {
            Self::Pass | Self::Drop => None,
            Self::Map { default, .. } => default.as_ref(),
        }
    }

    /// Reads `ORIGIN_USER TARGET_USER PASSWORD` from each line; empty lines and those that begin with
    /// `#` mean nothing. The password goes to the line's end.
    pub(crate) fn read_lines(text: &str) -> Result<BTreeMap<Vec<u8>, Account>, String> {
        let mut named = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_end_matches('\r');
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.splitn(3, ' ');
            let (Some(origin), Some(user), Some(password)) =
                (words.next(), words.next(), words.next())
            else {
                return Err(format!(
                    "line {}: must be `ORIGIN_USER TARGET_USER PASSWORD`, with one blank between",
                    at + 1
                ));
            };
            if origin.is_empty() || user.is_empty() || password.is_empty() {
                return Err(format!("line {}: one of the three is empty", at + 1));
            }
            let account = Account {
                user: Some(user.as_bytes().to_vec()),
                password: password.as_bytes().to_vec(),
            };
            if named.insert(origin.as_bytes().to_vec(), account).is_some() {
                return Err(format!("line {}: {origin} has an account already", at + 1));
            }
        }
        Ok(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_account() {
        let text = "# who  as whom\n\napp app2 with a blank\r\ndefault ops x\n";
        let named = Accounts::read_lines(text).expect("two accounts");
        assert_eq!(named.len(), 2);
        assert_eq!(named[&b"app"[..]].password, b"with a blank");
        let shown = format!("{named:?}");
        assert!(
            shown.contains("app2") && !shown.contains("blank"),
            "{shown}"
        );
    }

    #[test]
    fn a_wrong_line_is_named_and_never_shown() {
        let wrong = |text: &str| Accounts::read_lines(text).expect_err("wrong");
        assert!(wrong("a b c\nsecret\n").starts_with("line 2: must be"));
        assert!(!wrong("secret\n").contains("secret"));
        assert_eq!(wrong("a b \n"), "line 1: one of the three is empty");
        assert_eq!(wrong("a b c\na d e\n"), "line 2: a has an account already");
    }
}
