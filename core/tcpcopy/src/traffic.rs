//! Which traffic is captured: the origins, and the filter that lets nothing else pass.

use tcpcopy_engine::Mapping;
use tcpcopy_net::filter::{CaptureFilter, Directions, FilterError, OriginFilter};

use crate::error::StartError;

/// The origins of the mappings, each once.
pub fn origins<'a>(mappings: impl Iterator<Item = &'a Mapping>) -> Vec<OriginFilter> {
    let mut origins: Vec<OriginFilter> = Vec::new();
    for mapping in mappings {
        let origin = OriginFilter {
            address: mapping.origin_address,
            port: mapping.origin_port,
        };
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    origins
}

/// The filter for the traffic of the origins, narrowed by the user's own (`-F`), without what a
/// replay to the targets of the mappings sends itself.
///
/// # Errors
/// [`StartError::Filter`].
pub fn filter(
    origins: &[OriginFilter],
    mappings: &[Mapping],
    user_filter: Option<&str>,
    directions: Directions,
) -> Result<CaptureFilter, StartError> {
    let wrong = |error: FilterError| StartError::Filter(error.to_string());
    // Alone first, so that stray brackets in it can't reach what is joined to it.
    user_filter
        .map(CaptureFilter::compile)
        .transpose()
        .map_err(wrong)?;
    let conditions: Vec<String> = user_filter
        .map(|text| format!("({text})"))
        .into_iter()
        .chain(not_our_own(mappings))
        .collect();
    let conditions = conditions.join(" and ");
    CaptureFilter::for_origins(origins, directions, Some(&conditions)).map_err(wrong)
}

/// Keeps replayed packets from being captured and replayed in turn, where they pass the capturing
/// device, as on a mirror port, and any address that receives on the target's port is an origin.
fn not_our_own(mappings: &[Mapping]) -> Vec<String> {
    let any_address_on = |port| {
        mappings
            .iter()
            .any(|origin| origin.origin_address.is_none() && origin.origin_port == port)
    };
    let mut conditions: Vec<String> = mappings
        .iter()
        .map(|mapping| mapping.target)
        .filter(|target| any_address_on(target.port))
        .map(|target| {
            format!(
                "not (dst host {} and dst port {})",
                target.address, target.port
            )
        })
        .collect();
    conditions.sort();
    conditions.dedup();
    conditions
}

#[cfg(test)]
mod tests {
    use tcpcopy_packet::Endpoint;

    use super::*;

    fn mapping(origin: Option<&str>, origin_port: u16, target: &str, port: u16) -> Mapping {
        let address = |text: &str| text.parse().expect("an address");
        let target = Endpoint::new(address(target), port);
        Mapping {
            origin_address: origin.map(address),
            origin_port,
            target,
        }
    }

    #[test]
    fn replayed_packets_are_not_captured_again() {
        assert_eq!(
            not_our_own(&[
                mapping(None, 80, "10.0.0.9", 80),
                mapping(None, 80, "fd00::9", 80),
                mapping(None, 81, "10.0.0.9", 8081),
                mapping(Some("10.0.0.1"), 82, "10.0.0.9", 82),
            ]),
            [
                "not (dst host 10.0.0.9 and dst port 80)",
                "not (dst host fd00::9 and dst port 80)",
            ]
        );
    }

    #[test]
    fn an_origin_with_two_targets_is_one() {
        let mappings = [
            mapping(None, 80, "10.0.0.9", 80),
            mapping(None, 80, "10.0.0.8", 80),
            mapping(Some("10.0.0.1"), 80, "10.0.0.8", 80),
        ];
        let addresses: Vec<_> = origins(mappings.iter()).iter().map(|o| o.address).collect();
        assert_eq!(
            addresses,
            [None, Some("10.0.0.1".parse().expect("an address"))]
        );
    }
}
