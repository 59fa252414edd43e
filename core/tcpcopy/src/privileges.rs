//! What the process may do: what it needs at the start, and giving it up afterwards.

use std::io;
use std::path::PathBuf;

use nix::unistd::{Uid, User};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::StartError;

/// Whom root becomes, unless told otherwise.
const DEFAULT_USER: &str = "nobody";
/// Whom to name to keep everything.
const ROOT: &str = "root";

/// Checks that packets may be captured and sent.
///
/// # Errors
/// [`StartError::Capability`] with the program's path.
pub fn check_capabilities() -> Result<(), StartError> {
    let sets = rustix::thread::capabilities(None).map_err(|source| StartError::System {
        action: "read the process's capabilities",
        source: source.into(),
    })?;
    if sets.effective.contains(CapabilitySet::NET_RAW) {
        return Ok(());
    }
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("tcpcopy"));
    Err(StartError::Capability {
        name: "CAP_NET_RAW",
        program,
    })
}

/// What is left of the privileges once everything is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// All of them, as `--user root` asks.
    Keep,
    /// None: this user, or with `None` the present one, without capabilities.
    Drop(Option<User>),
}

impl Privileges {
    /// Finds out whom to become: the user asked for, else nobody for root, else no other.
    ///
    /// # Errors
    /// [`StartError::NoUser`] when there is no such user.
    pub fn choose(user: Option<&str>) -> Result<Self, StartError> {
        let name = match user {
            Some(ROOT) => return Ok(Self::Keep),
            Some(name) => name,
            None if Uid::effective().is_root() => DEFAULT_USER,
            None => return Ok(Self::Drop(None)),
        };
        match User::from_name(name) {
            Ok(Some(user)) => Ok(Self::Drop(Some(user))),
            Ok(None) | Err(_) => Err(StartError::NoUser(name.to_owned())),
        }
    }

    /// Gives up what is not kept, for the whole process; to be called before any thread is
    /// started and after everything that needs a privilege is open.
    ///
    /// # Errors
    /// [`StartError::BecomeUser`] or [`StartError::System`].
    pub fn apply(&self) -> Result<(), StartError> {
        let Self::Drop(user) = self else {
            return Ok(());
        };
        if let Some(user) = user.as_ref().filter(|user| user.uid != Uid::effective()) {
            become_user(user).map_err(|source| StartError::BecomeUser {
                user: user.name.clone(),
                source,
            })?;
        }
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, none).map_err(|source| StartError::System {
            action: "drop the process's capabilities",
            source: source.into(),
        })
    }
}

/// Takes the user's group and identity, saved ones included, without any supplementary group.
fn become_user(user: &User) -> io::Result<()> {
    nix::unistd::setgroups(&[])?;
    nix::unistd::setresgid(user.gid, user.gid, user.gid)?;
    nix::unistd::setresuid(user.uid, user.uid, user.uid)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_to_become() {
        assert_eq!(Privileges::choose(Some("root")).unwrap(), Privileges::Keep);
        let Privileges::Drop(Some(user)) = Privileges::choose(Some("nobody")).unwrap() else {
            panic!("nobody is a user")
        };
        assert_eq!(user.name, "nobody");
        let missing = Privileges::choose(Some("no-such-user"));
        assert!(matches!(missing, Err(StartError::NoUser(_))), "{missing:?}");
        let by_default = match Privileges::choose(None).unwrap() {
            Privileges::Drop(user) => user.map(|user| user.name),
            Privileges::Keep => panic!("only root by name keeps"),
        };
        let expected = Uid::effective().is_root().then(|| "nobody".to_owned());
        assert_eq!(by_default, expected);
    }
}
