//! What can be wrong between the captured client, the target and intercept: a closed list, sorted
//! by where it is. Each finding has a name, a sentence that says what is wrong and how that shows,
//! and what to do, with the command where there is one.

mod back;
mod here;
mod there;
mod tunnel;

use std::net::IpAddr;

pub use back::Back;
pub use here::{Elsewhere, Here};
pub use there::There;
pub use tunnel::Tunnel;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// On the host that looks.
    Here(Here),
    /// On the way to intercept.
    Tunnel(Tunnel),
    /// On the way to the target, or at it.
    There(There),
    /// On the way of the target's answers.
    Back(Back),
}

impl Finding {
    /// The name, for programs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Here(fault) => fault.name(),
            Self::Tunnel(fault) => fault.name(),
            Self::There(fault) => fault.name(),
            Self::Back(fault) => fault.name(),
        }
    }

    /// What is wrong, and how that shows.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Here(fault) => fault.what(),
            Self::Tunnel(fault) => fault.what(),
            Self::There(fault) => fault.what(),
            Self::Back(fault) => fault.what(),
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Here(fault) => fault.remedy(),
            Self::Tunnel(fault) => fault.remedy(),
            Self::There(fault) => fault.remedy(),
            Self::Back(fault) => fault.remedy(),
        }
    }
}

impl From<Here> for Finding {
    fn from(fault: Here) -> Self {
        Self::Here(fault)
    }
}

impl From<Tunnel> for Finding {
    fn from(fault: Tunnel) -> Self {
        Self::Tunnel(fault)
    }
}

impl From<There> for Finding {
    fn from(fault: There) -> Self {
        Self::There(fault)
    }
}

impl From<Back> for Finding {
    fn from(fault: Back) -> Self {
        Self::Back(fault)
    }
}

/// The firewall command for an address's family.
const fn iptables(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "iptables",
        IpAddr::V6(_) => "ip6tables",
    }
}
