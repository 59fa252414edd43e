//! What an intercept sees of a probe, as asked and answered over the tunnel.

use std::net::IpAddr;

use tcpcopy_packet::FourTuple;

use super::frame::printable;
use crate::wire::{Malformed, Reader, put_address, put_tuple};

/// Sightings in one diagnosis, at most.
pub const MAX_SIGHTINGS: usize = 16;
/// Longest name of a network device, in bytes (`IFNAMSIZ` less its zero).
const MAX_DEVICE_LEN: usize = 15;
/// Bytes of a diagnosis before its sightings.
const FIXED_LEN: usize = 10;
/// Bytes of a sighting at most: kind, family and address, length and name of the device.
const MAX_SIGHTING_LEN: usize = 1 + 17 + 1 + MAX_DEVICE_LEN;
/// Bytes of an encoded diagnosis, at most.
pub(super) const MAX_DIAGNOSIS_LEN: usize = FIXED_LEN + MAX_SIGHTINGS * MAX_SIGHTING_LEN;

const FLAG_TARGET_IS_HERE: u8 = 1;
const FLAG_FORWARDS: u8 = 2;
const FLAG_PASSLISTED: u8 = 4;
const FLAG_WATCHING: u8 = 8;
const FLAG_ROUTES_BACK: u8 = 16;

/// A SYN that was or will be sent to find out how far it comes. Its sequence number is its tag:
/// it and all that answers it are known by that number, whatever a NAT makes of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Source is who it is sent in the name of, destination the target.
    pub tuple: FourTuple,
    /// Its sequence number.
    pub iss: u32,
}

/// What intercept and its host know about a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The probe's sequence number.
    pub iss: u32,
    /// Where intercept catches answers.
    pub place: Place,
    /// Whether the target's address is one of this host's.
    pub target_is_here: bool,
    /// Whether this host forwards packets of the probe's address family.
    pub forwards: bool,
    /// Whether packets to the probe's source are on intercept's passlist.
    pub passlisted: bool,
    /// Whether the host's devices are being watched; if not, no sighting means nothing.
    pub watching: bool,
    /// Whether the host knows a route to the probe's source; also when it does not tell.
    pub routes_back: bool,
    /// What the host's TCP has for the probe's tuple.
    pub tcp: TargetState,
    /// Whether the host takes packets from the probe's source where the probe arrived.
    pub reverse_path: ReversePath,
    /// `rp_filter` as it works on the device where the probe arrived: 0 off, 1 strict, 2 loose.
    pub rp_filter: u8,
    /// What has been seen on the host's devices since the first question about the probe, in order,
    /// at most [`MAX_SIGHTINGS`].
    pub sightings: Vec<Sighting>,
}

/// Where intercept catches the target's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a packet queue on the target.
    Queue,
    /// On a device of a host that the answers are routed to.
    Assistant,
}

/// What a host's TCP has for a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetState {
    /// The kernel does not tell.
    Unknown,
    /// Nothing: no connection, and nobody listens on the port.
    Closed,
    /// No connection yet, but somebody listens.
    Listening,
    /// A connection, at least half-open: the probe has come up to TCP.
    Connected,
}

/// What the kernel's reverse-path filter says of a source on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReversePath {
    /// Not asked, as the filter is off or the probe did not arrive, or not answered.
    Unknown,
    /// Packets from there are taken.
    Accepts,
    /// Packets from there are dropped.
    Refuses,
}

/// A packet of a probe, seen on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// What was seen.
    pub what: Seen,
    /// The packet's source address.
    pub source: IpAddr,
    /// The device's name.
    pub device: String,
}

/// What can be seen of a probe on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The probe came in.
    ProbeArrived,
    /// A SYN-ACK for it came in.
    AnswerArrived,
    /// A RST for it came in.
    ResetArrived,
    /// A SYN-ACK for it went out.
    AnswerLeft,
    /// A RST for it went out.
    ResetLeft,
}

impl Probe {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_tuple(out, &self.tuple);
        out.extend(self.iss.to_be_bytes());
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            tuple: reader.tuple()?,
            iss: reader.u32()?,
        })
    }
}

impl Diagnosis {
    /// What was seen of one kind, in order.
    pub fn seen(&self, what: Seen) -> impl DoubleEndedIterator<Item = &Sighting> {
        self.sightings
            .iter()
            .filter(move |sighting| sighting.what == what)
    }

    /// Whether anything of a kind was seen.
    #[must_use]
    pub fn has_seen(&self, what: Seen) -> bool {
        self.seen(what).next().is_some()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.iss.to_be_bytes());
        out.push(match self.place {
            Place::Queue => 0,
            Place::Assistant => 1,
        });
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        out.push(
            flag(self.target_is_here, FLAG_TARGET_IS_HERE)
                | flag(self.forwards, FLAG_FORWARDS)
                | flag(self.passlisted, FLAG_PASSLISTED)
                | flag(self.watching, FLAG_WATCHING)
                | flag(self.routes_back, FLAG_ROUTES_BACK),
        );
        out.push(match self.tcp {
            TargetState::Unknown => 0,
            TargetState::Closed => 1,
            TargetState::Listening => 2,
            TargetState::Connected => 3,
        });
        out.push(match self.reverse_path {
            ReversePath::Unknown => 0,
            ReversePath::Accepts => 1,
            ReversePath::Refuses => 2,
        });
        out.push(self.rp_filter);
        let sightings = &self.sightings[..self.sightings.len().min(MAX_SIGHTINGS)];
        out.push(sightings.len() as u8);
        for sighting in sightings {
            sighting.encode(out);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let iss = reader.u32()?;
        let place = match reader.u8()? {
            0 => Place::Queue,
            1 => Place::Assistant,
            _ => return Err(Malformed),
        };
        let flags = reader.u8()?;
        let tcp = match reader.u8()? {
            0 => TargetState::Unknown,
            1 => TargetState::Closed,
            2 => TargetState::Listening,
            3 => TargetState::Connected,
            _ => return Err(Malformed),
        };
        let reverse_path = match reader.u8()? {
            0 => ReversePath::Unknown,
            1 => ReversePath::Accepts,
            2 => ReversePath::Refuses,
            _ => return Err(Malformed),
        };
        let rp_filter = reader.u8()?;
        let count = usize::from(reader.u8()?);
        if count > MAX_SIGHTINGS {
            return Err(Malformed);
        }
        let sightings: Result<_, _> = (0..count).map(|_| Sighting::decode(reader)).collect();
        Ok(Self {
            iss,
            place,
            target_is_here: flags & FLAG_TARGET_IS_HERE != 0,
            forwards: flags & FLAG_FORWARDS != 0,
            passlisted: flags & FLAG_PASSLISTED != 0,
            watching: flags & FLAG_WATCHING != 0,
            routes_back: flags & FLAG_ROUTES_BACK != 0,
            tcp,
            reverse_path,
            rp_filter,
            sightings: sightings?,
        })
    }
}

impl Sighting {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.what {
            Seen::ProbeArrived => 0,
            Seen::AnswerArrived => 1,
            Seen::ResetArrived => 2,
            Seen::AnswerLeft => 3,
            Seen::ResetLeft => 4,
        });
        put_address(out, self.source);
        let device = &self.device.as_bytes()[..self.device.len().min(MAX_DEVICE_LEN)];
        out.push(device.len() as u8);
        out.extend_from_slice(device);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let what = match reader.u8()? {
            0 => Seen::ProbeArrived,
            1 => Seen::AnswerArrived,
            2 => Seen::ResetArrived,
            3 => Seen::AnswerLeft,
            4 => Seen::ResetLeft,
            _ => return Err(Malformed),
        };
        let source = reader.address()?;
        let len = usize::from(reader.u8()?);
        if len > MAX_DEVICE_LEN {
            return Err(Malformed);
        }
        Ok(Self {
            what,
            source,
            device: printable(reader.take(len)?, MAX_DEVICE_LEN),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnosis() -> Diagnosis {
        let sighting = |what, source: &str, device: &str| Sighting {
            what,
            source: source.parse().unwrap(),
            device: device.into(),
        };
        Diagnosis {
            iss: 0xfffe_fdfc,
            place: Place::Assistant,
            target_is_here: false,
            forwards: true,
            passlisted: false,
            watching: true,
            routes_back: true,
            tcp: TargetState::Connected,
            reverse_path: ReversePath::Refuses,
            rp_filter: 2,
            sightings: vec![
                sighting(Seen::ProbeArrived, "192.0.2.7", "eth0"),
                sighting(Seen::ResetLeft, "2001:db8::1", "fifteen-letters"),
            ],
        }
    }

    #[test]
    fn a_diagnosis_survives_its_bytes_and_no_cut_is_taken_for_one() {
        let mut bytes = Vec::new();
        diagnosis().encode(&mut bytes);
        assert_eq!(Diagnosis::decode(&mut Reader(&bytes)), Ok(diagnosis()));
        for end in 0..bytes.len() {
            assert_eq!(
                Diagnosis::decode(&mut Reader(&bytes[..end])),
                Err(Malformed),
                "{end}"
            );
        }
    }

    #[test]
    fn the_longest_diagnosis_has_the_longest_length() {
        let mut long = diagnosis();
        long.sightings = vec![long.sightings.swap_remove(1); MAX_SIGHTINGS + 1];
        let mut bytes = Vec::new();
        long.encode(&mut bytes);
        assert_eq!(bytes.len(), MAX_DIAGNOSIS_LEN);
        let decoded = Diagnosis::decode(&mut Reader(&bytes)).unwrap();
        assert_eq!(decoded.sightings.len(), MAX_SIGHTINGS);
    }

    #[test]
    fn values_without_a_meaning_are_malformed() {
        let mut bytes = Vec::new();
        diagnosis().encode(&mut bytes);
        for at in [4, 6, 7, 9, 10, 11] {
            let mut wrong = bytes.clone();
            wrong[at] = 200;
            assert_eq!(
                Diagnosis::decode(&mut Reader(&wrong)),
                Err(Malformed),
                "{at}"
            );
        }
    }
}
