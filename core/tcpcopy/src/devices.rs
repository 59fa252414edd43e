//! What becomes of capture devices while a replay or a recording reads from them.

use std::time::Instant;

use intercept_lib::LogGate;
use tcpcopy_net::ring::{CaptureRing, DeviceChange};

/// Says what became of the devices after a ring has reported an error, and clears it.
pub fn look_at_devices(rings: &mut [CaptureRing], log_gate: &mut LogGate) {
    for ring in rings {
        let problem = match ring.device_change() {
            Ok(None) => continue,
            Ok(Some(DeviceChange::Down)) => "it is or was down".to_owned(),
            Ok(Some(DeviceChange::Gone)) => "it no longer exists".to_owned(),
            Err(error) => error.to_string(),
        };
        if let Some(held_back) = log_gate.pass(Instant::now()) {
            tracing::warn!(problem, held_back, "a capture device has trouble");
        }
    }
}
