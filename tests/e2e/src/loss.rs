//! Packets lost between tcpcopy and the target.

use tcpcopy_lab::{Lab, Mode, Setup};

/// Loses `percent` of the packets between tcpcopy and the target from now on, in both directions.
///
/// # Panics
/// When the kernel refuses.
pub fn lose(lab: &mut Lab, setup: &Setup, percent: f64) {
    let port = setup.port.to_string();
    let target = lab.host("target");
    let arriving = ["-p", "tcp", "--dport", &port];
    let leaving = ["-p", "tcp", "--sport", &port];
    let lost = target.drop_incoming(percent, &arriving);
    lost.expect("the packet filter takes a rule");
    let lost = match setup.mode {
        // Between the target's TCP and intercept on the same host only the packet filter can
        // drop something. TCP sees that as an error and gives up a handshake whose SYN-ACK it
        // could not repeat, which no loss on a network makes it do; so SYN-ACKs pass.
        Mode::Target => {
            let data = [&leaving[..], &["!", "--tcp-flags", "SYN", "SYN"]].concat();
            target.drop_outgoing(percent, &data)
        }
        Mode::Assistant => lab.lose_on_the_way_to_the_assistant(percent, &leaving),
        Mode::Socket => lab.host("origin").drop_incoming(percent, &leaving),
    };
    lost.expect("the packet filter takes a rule");
}
