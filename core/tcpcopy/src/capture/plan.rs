//! What the options of a recording mean together.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tcpcopy_engine::Mapping;
use tcpcopy_net::file::{
    LINK_TYPE_RAW, PcapngEncoder, RecordedInterface, RecordingConfig, Rotation,
};
use tcpcopy_net::filter::{CaptureFilter, OriginFilter};
use tcpcopy_net::interfaces::interfaces;
use tcpcopy_net::ring::{CaptureRing, RingConfig};
use tcpcopy_packet::Endpoint;

use super::{CaptureError, CaptureOptions};
use crate::error::StartError;
use crate::host::{Host, Resolve, system_resolver};
use crate::sources::{self, Sources};
use crate::start::reason;
use crate::traffic::{self, Sides};
use crate::transfer::{TransferError, parse_origin, parse_transfer};

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;
/// How a recording on all devices calls them.
const ANY_DEVICE: &str = "any";
/// What the files say that they were made by.
const APPLICATION: &str = concat!("tcpcopy ", env!("CARGO_PKG_VERSION"));

/// All that a recording needs to know, checked.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) filter: CaptureFilter,
    /// Device names; empty for all.
    pub(super) devices: Vec<String>,
    pub(super) user: Option<String>,
    /// Tells the origin's traffic from what this host does as a client itself, where that is needed.
    pub(super) sides: Option<Sides>,
    ring_bytes: usize,
    snaplen: u32,
    promiscuous: bool,
    rotation: Rotation,
    /// `None` for standard output.
    output: Option<PathBuf>,
}

/// What is recorded to.
#[derive(Debug)]
pub(super) enum Record {
    /// One stream, with what it begins with.
    StandardOutput(Vec<u8>),
    /// One file or a row.
    Files(RecordingConfig),
}

impl Plan {
    pub(super) fn new(options: CaptureOptions) -> Result<Self, CaptureError> {
        let rotation = rotation(&options)?;
        let wanted = Wanted::new(&options.transfer, &system_resolver)?;
        let answering = match options.both {
            true => wanted.origins.as_slice(),
            false => &[],
        };
        let user_filter = options.filter.as_deref();
        let filter = traffic::filter(&wanted.origins, &wanted.mappings, user_filter, answering)?;
        let devices = devices(&options.device)?;
        if options.promiscuous && devices.is_empty() {
            return Err(StartError::PromiscuousOnAny.into());
        }
        let sides = options.both.then(|| Sides::new(&wanted.origins));
        Ok(Self {
            filter,
            devices,
            user: options.user.clone(),
            sides: sides.transpose()?,
            ring_bytes: options.ring_mb as usize * MIB as usize,
            snaplen: options.snaplen,
            promiscuous: options.promiscuous,
            rotation,
            output: (!options.output_is_standard()).then_some(options.output),
        })
    }

    /// Whether there are several files.
    pub(super) fn is_row(&self) -> bool {
        self.rotation.is_on()
    }

    /// Opens a ring for each device.
    pub(super) fn rings(&self) -> Result<Vec<CaptureRing>, StartError> {
        let devices: Vec<Option<String>> = match self.devices.as_slice() {
            [] => vec![None],
            named => named.iter().cloned().map(Some).collect(),
        };
        let open = |device: Option<String>| {
            let name = device.clone().unwrap_or_else(|| "any device".to_owned());
            let config = RingConfig {
                device,
                ring_bytes: self.ring_bytes,
                snaplen: self.snaplen,
                include_outgoing: self.sides.is_some(),
                promiscuous: self.promiscuous,
                ..RingConfig::new(self.filter.clone())
            };
            CaptureRing::open(&config).map_err(|error| StartError::Capture {
                device: name,
                reason: reason(&error),
            })
        };
        devices.into_iter().map(open).collect()
    }

    /// Describes the interfaces, one for each ring, in the same order.
    pub(super) fn encoder(&self) -> PcapngEncoder {
        let interface = |name: &str| RecordedInterface {
            name: name.to_owned(),
            link_type: LINK_TYPE_RAW,
            snaplen: self.snaplen,
            filter: self.filter.expression().to_owned(),
        };
        let interfaces = match self.devices.as_slice() {
            [] => vec![interface(ANY_DEVICE)],
            named => named.iter().map(|name| interface(name)).collect(),
        };
        PcapngEncoder::new(APPLICATION, interfaces)
    }

    /// What is recorded to.
    pub(super) fn record(&self) -> Record {
        let mut header = Vec::new();
        self.encoder().header(&mut header);
        match &self.output {
            None => Record::StandardOutput(header),
            Some(path) => Record::Files(RecordingConfig {
                path: path.clone(),
                rotation: self.rotation,
                header,
            }),
        }
    }
}

/// Whose traffic.
#[derive(Debug, PartialEq)]
struct Wanted {
    origins: Vec<OriginFilter>,
    /// The replays that items name, whose own packets are left out.
    mappings: Vec<Mapping>,
}

impl Wanted {
    fn new(items: &[String], resolve: Resolve<'_>) -> Result<Self, StartError> {
        let mut wanted = Self {
            origins: Vec::new(),
            mappings: Vec::new(),
        };
        for item in items {
            let (host, port, target) = parse_item(item)?;
            let origins: Vec<Option<IpAddr>> = match &host {
                None => vec![None],
                Some(host) => resolved(host, resolve)?.into_iter().map(Some).collect(),
            };
            let (targets, target_port) = match &target {
                None => (Vec::new(), 0),
                Some((host, port)) => (resolved(host, resolve)?, *port),
            };
            for address in origins {
                let origin = OriginFilter { address, port };
                if !wanted.origins.contains(&origin) {
                    wanted.origins.push(origin);
                }
                wanted.mappings.extend(targets.iter().map(|target| Mapping {
                    origin_address: address,
                    origin_port: port,
                    target: Endpoint::new(*target, target_port),
                }));
            }
        }
        Ok(wanted)
    }
}

/// An origin, its port, and the target if one was named.
type Item = (Option<Host>, u16, Option<(Host, u16)>);

/// Reads `[ORIGIN:]PORT` or a whole transfer.
fn parse_item(item: &str) -> Result<Item, TransferError> {
    let error = match parse_transfer(item) {
        Ok(transfer) => {
            let target = (transfer.target, transfer.target_port);
            return Ok((transfer.origin, transfer.origin_port, Some(target)));
        }
        Err(error) => error,
    };
    // No transfer, but perhaps an origin, whose name may have dashes.
    match (parse_origin(item), error) {
        (Ok((host, port)), _) => Ok((host, port, None)),
        (Err(source), TransferError::NoDash(item)) => Err(TransferError::Origin {
            origin: item.clone(),
            item,
            source,
        }),
        (Err(_), error) => Err(error),
    }
}

fn resolved(host: &Host, resolve: Resolve<'_>) -> Result<Vec<IpAddr>, StartError> {
    host.resolve(resolve).map_err(|source| StartError::Resolve {
        option: "-x",
        host: host.to_string(),
        source,
    })
}

fn rotation(options: &CaptureOptions) -> Result<Rotation, CaptureError> {
    if let (Some(keep_mb), Some(rotate_mb)) = (options.keep_mb, options.rotate_mb)
        && keep_mb < rotate_mb
    {
        return Err(CaptureError::KeepBelowRotate { keep_mb, rotate_mb });
    }
    let rotation = Rotation {
        file_bytes: options.rotate_mb.map(|mb| mb * MIB),
        period: options.rotate_s.map(Duration::from_secs),
        keep_bytes: options.keep_mb.map(|mb| mb * MIB),
        keep_files: options.keep_files,
    };
    if rotation.is_on() && options.output_is_standard() {
        return Err(CaptureError::RowOnStandardOutput);
    }
    Ok(rotation)
}

fn devices(names: &[String]) -> Result<Vec<String>, CaptureError> {
    let present: Vec<String> = interfaces()
        .map_err(look_failed)?
        .into_iter()
        .map(|device| device.name)
        .collect();
    match sources::sources(names, &present, sources::is_file)? {
        Sources::Devices(devices) => Ok(devices),
        Sources::Files(_) => Err(CaptureError::Files),
    }
}

fn look_failed(error: tcpcopy_net::NetError) -> StartError {
    StartError::System {
        action: "look at this host's devices",
        source: std::io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(items: &[&str]) -> Result<Wanted, String> {
        let resolve = |name: &str| match name {
            "web-1" => Ok(vec![
                "10.0.0.1".parse().unwrap(),
                "fd00::1".parse().unwrap(),
            ]),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        };
        let items: Vec<String> = items.iter().map(|item| (*item).to_owned()).collect();
        Wanted::new(&items, &resolve).map_err(|error| error.to_string())
    }

    #[test]
    fn origins_with_and_without_a_target() {
        let origin = |address: Option<&str>, port| OriginFilter {
            address: address.map(|text| text.parse().unwrap()),
            port,
        };
        let found = wanted(&["80", "10.0.0.1:81", "80-10.0.0.9:80", "web-1:82"]).unwrap();
        assert_eq!(
            found.origins,
            [
                origin(None, 80),
                origin(Some("10.0.0.1"), 81),
                origin(Some("10.0.0.1"), 82),
                origin(Some("fd00::1"), 82),
            ]
        );
        assert_eq!(found.mappings.len(), 1);
        assert_eq!(found.mappings[0].target.to_string(), "10.0.0.9:80");
    }

    #[test]
    fn wrong_items_name_their_part() {
        for (item, expected) in [
            ("", "-x has an empty item"),
            (
                "eighty",
                "'eighty' in -x: the origin 'eighty' is wrong: 'eighty' has no port",
            ),
            (
                "80-90",
                "'80-90' in -x: the target has no host, only a port",
            ),
            (
                "no-such:80",
                "can't resolve 'no-such' in -x: entity not found",
            ),
        ] {
            assert_eq!(wanted(&[item]).unwrap_err(), expected);
        }
    }
}
