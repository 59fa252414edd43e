//! Options that were given and have no effect, so that nobody believes they had.

use tcpcopy_engine::Upstream;

use crate::options::{DEFAULT_INTERCEPT_PORT, Options};
use crate::player::Schedule;
use crate::sources::Sources;

/// The options that mean nothing beside the others.
pub(super) fn unused(
    options: &Options,
    upstream: Upstream,
    sources: &Sources,
) -> Vec<&'static str> {
    let mut unused = Vec::new();
    let mut note = |is_given: bool, name| {
        if is_given {
            unused.push(name);
        }
    };
    if upstream == Upstream::Socket {
        note(options.key_file.is_some(), "--key-file");
        note(options.insecure, "--insecure");
        note(options.lonely, "-L");
        note(options.intercept_port != DEFAULT_INTERCEPT_PORT, "-p");
        note(options.tunnels != 1, "-C");
        note(options.localhost_address.is_some(), "-H");
        note(options.port_shift != 0, "-f");
        note(options.mtu != tcpcopy_engine::DEFAULT_MTU, "-M");
        note(options.mss != tcpcopy_engine::DEFAULT_MSS, "-D");
        note(options.rtt_ms.is_some(), "-R");
    }
    match sources {
        Sources::Devices(_) => {
            note(
                options.play.schedule() != Schedule::default(),
                "-a, -I, -T, --from or --until",
            );
        }
        Sources::Files(_) => note(options.promiscuous, "--promiscuous"),
    }
    unused
}
