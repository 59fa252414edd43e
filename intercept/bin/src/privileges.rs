//! Capabilities: the two that are needed, checked first; all others given up.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::error::Error;

/// What the packet queue, the rules and the raw sockets need.
const NEEDED: [(CapabilitySet, &str, &str); 2] = [
    (
        CapabilitySet::NET_ADMIN,
        "CAP_NET_ADMIN",
        "take packets of the target",
    ),
    (
        CapabilitySet::NET_RAW,
        "CAP_NET_RAW",
        "send resets to the target",
    ),
];

/// Makes sure that the needed capabilities are there.
///
/// # Errors
/// [`Error::MissingCapability`].
pub(crate) fn check() -> Result<(), Error> {
    let effective = sets()?.effective;
    for (capability, name, operation) in NEEDED {
        if !effective.contains(capability) {
            let program = std::env::current_exe().map_or_else(
                |_| "intercept".to_owned(),
                |path| path.display().to_string(),
            );
            return Err(Error::MissingCapability {
                operation,
                capability: name,
                program,
            });
        }
    }
    Ok(())
}

/// Gives up all other capabilities, for this thread and those it starts. Programs it runs as root
/// (iptables) have theirs from their own start.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn drop_others() -> Result<(), Error> {
    let needed = NEEDED
        .iter()
        .fold(CapabilitySet::empty(), |all, (capability, ..)| {
            all.union(*capability)
        });
    let CapabilitySets {
        effective,
        permitted,
        inheritable,
    } = sets()?;
    let sets = CapabilitySets {
        effective: effective.intersection(needed),
        permitted: permitted.intersection(needed),
        inheritable,
    };
    set_capabilities(None, sets).map_err(|errno| Error::io("give up capabilities", errno))
}

fn sets() -> Result<CapabilitySets, Error> {
    capabilities(None).map_err(|errno| Error::io("read the capabilities", errno))
}
