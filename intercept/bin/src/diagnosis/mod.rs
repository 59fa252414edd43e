//! What this host sees of probes, for whoever asks over the tunnel.

mod kernel;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use intercept_lib::LogGate;
use intercept_lib::tunnel::{Diagnosis, Place, Probe, ReversePath, Seen};
use tcpcopy_doctor::watch::Watch;
use tcpcopy_net::interfaces::{interface_index, local_addresses};

use crate::shared::Shared;

pub(crate) use kernel::reverse_path;

/// Probes looked for at once; beyond that, questions are answered without having looked.
const MAX_WATCHES: usize = 8;
/// How long a probe is looked for after the last question about it.
const WATCH_TIME: Duration = Duration::from_secs(30);

/// The probes that are looked for, by the connection that asked.
#[derive(Debug, Default)]
pub(crate) struct Diagnostician {
    watches: BTreeMap<u64, (Watch, Instant)>,
    gate: LogGate,
}

impl Diagnostician {
    /// Tells what is known of a probe; the first question about it begins the watch.
    pub(crate) fn diagnose(
        &mut self,
        now: Instant,
        connection: u64,
        probe: &Probe,
        shared: &Shared,
    ) -> Diagnosis {
        let is_known = |(watch, _): &(Watch, Instant)| watch.probe() == probe;
        if !self.watches.get(&connection).is_some_and(is_known) {
            self.begin(now, connection, probe);
        }
        let watch = self.watches.get_mut(&connection);
        let sightings = watch.map(|(watch, asked_at)| {
            *asked_at = now;
            watch.sightings().to_vec()
        });
        let (source, target) = (probe.tuple.source.address, probe.tuple.destination.address);
        let mut diagnosis = Diagnosis {
            iss: probe.iss,
            place: match shared.device {
                None => Place::Queue,
                Some(_) => Place::Assistant,
            },
            target_is_here: is_here(target),
            forwards: forwards(shared.device.as_deref(), target),
            passlisted: shared.passlist.contains(&source),
            watching: sightings.is_some(),
            routes_back: kernel::has_route(source),
            tcp: kernel::tcp_state(&probe.tuple),
            reverse_path: ReversePath::Unknown,
            rp_filter: 0,
            sightings: sightings.unwrap_or_default(),
        };
        // The last, because a packet climbs from a port of a bond or bridge to the device above.
        let arrival = diagnosis.seen(Seen::ProbeArrived).next_back();
        if let Some(device) = arrival.map(|arrival| arrival.device.clone()) {
            diagnosis.rp_filter = rp_filter(&device, target);
            let is_filtered = diagnosis.rp_filter > 0 && !is_here(source);
            if is_filtered && let Ok(index) = interface_index(&device) {
                diagnosis.reverse_path = kernel::reverse_path(source, target, index);
            }
        }
        diagnosis
    }

    /// Forgets what a connection asked, as it has gone.
    pub(crate) fn forget(&mut self, connection: u64) {
        self.watches.remove(&connection);
    }

    /// Ends what nobody asks about any more.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.watches
            .retain(|_, (_, asked_at)| *asked_at + WATCH_TIME > now);
    }

    fn begin(&mut self, now: Instant, connection: u64, probe: &Probe) {
        self.watches.remove(&connection);
        if self.watches.len() >= MAX_WATCHES {
            return;
        }
        match Watch::open(*probe) {
            Ok(watch) => {
                self.watches.insert(connection, (watch, now));
            }
            Err(error) => {
                if let Some(held_back) = self.gate.pass(now) {
                    tracing::warn!(%error, held_back, "cannot look for a probe");
                }
            }
        }
    }
}

fn is_here(address: IpAddr) -> bool {
    address.is_loopback() || local_addresses().is_ok_and(|own| own.contains(&address))
}

/// Whether what arrives on the device, or on any, is forwarded in the address's family.
pub(crate) fn forwards(device: Option<&str>, address: IpAddr) -> bool {
    let device = device.filter(|device| *device != "any");
    let path = match (address, device) {
        (IpAddr::V4(_), Some(device)) => format!("ipv4/conf/{device}/forwarding"),
        (IpAddr::V4(_), None) => "ipv4/ip_forward".to_owned(),
        // The kernel forwards IPv6 on all devices or on none.
        (IpAddr::V6(_), _) => "ipv6/conf/all/forwarding".to_owned(),
    };
    sysctl(&path).is_some_and(|value| value != 0)
}

/// `rp_filter` as it works on a device; there is none for IPv6.
pub(crate) fn rp_filter(device: &str, address: IpAddr) -> u8 {
    if address.is_ipv6() {
        return 0;
    }
    let value = |name: &str| sysctl(&format!("ipv4/conf/{name}/rp_filter")).unwrap_or(0);
    value("all").max(value(device))
}

fn sysctl(path: &str) -> Option<u8> {
    let text = fs::read_to_string(format!("/proc/sys/net/{path}")).ok()?;
    text.trim().parse().ok()
}
