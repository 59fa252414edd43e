//! Link-layer framing, taken off down to the IP packet.

/// VLAN tags taken off one frame; more are refused. Provider bridges stack two.
const MAX_VLAN_TAGS: usize = 4;

// EtherTypes, as IEEE assigns them.
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_PROVIDER_VLAN: u16 = 0x88a8;
/// Stacked tags of devices from before 802.1ad.
const ETHERTYPE_OLD_PROVIDER_VLAN: u16 = 0x9100;

/// How the frames of a capture are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// Ethernet, with or without VLAN tags.
    Ethernet,
    /// Linux cooked capture v1, of the `any` device.
    LinuxCooked1,
    /// Linux cooked capture v2.
    LinuxCooked2,
    /// No framing: the frame is the IP packet.
    RawIp,
    /// BSD loopback: the address family in the byte order of the capturing host.
    Null,
    /// OpenBSD loopback: the address family in network byte order.
    Loop,
}

impl LinkType {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Ethernet,
        Self::LinuxCooked1,
        Self::LinuxCooked2,
        Self::RawIp,
        Self::Null,
        Self::Loop,
    ];

    /// The link type of libpcap's number, as live captures (`DLT_`) or files (`LINKTYPE_`) give
    /// it; none for a type that isn't understood here.
    #[must_use]
    pub const fn from_dlt(dlt: i32) -> Option<Self> {
        match dlt {
            0 => Some(Self::Null),
            1 => Some(Self::Ethernet),
            // DLT_RAW here and on OpenBSD, LINKTYPE_RAW, and the types of one IP version only.
            12 | 14 | 101 | 228 | 229 => Some(Self::RawIp),
            108 => Some(Self::Loop),
            113 => Some(Self::LinuxCooked1),
            276 => Some(Self::LinuxCooked2),
            _ => None,
        }
    }

    /// The number libpcap on Linux has for it.
    #[must_use]
    pub const fn dlt(self) -> i32 {
        match self {
            Self::Null => 0,
            Self::Ethernet => 1,
            Self::RawIp => 12,
            Self::Loop => 108,
            Self::LinuxCooked1 => 113,
            Self::LinuxCooked2 => 276,
        }
    }
}

/// Why a frame holds no IP packet. Each is data, counted by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame of another protocol.
    #[error("not an IP packet")]
    NotIp,
    /// Fewer bytes than the link header needs.
    #[error("truncated {0}")]
    Truncated(&'static str),
    /// More VLAN tags than are taken off.
    #[error("more than {MAX_VLAN_TAGS} VLAN tags")]
    TooManyTags,
}

/// The IP packet in a frame, with whatever padding the link put behind it.
///
/// # Errors
///
/// [`FrameError`] where there is none. That the packet is what the link header says is left to
/// [`Segment::parse`](crate::Segment::parse).
pub fn strip_link_header(link: LinkType, frame: &[u8]) -> Result<&[u8], FrameError> {
    match link {
        LinkType::Ethernet => ethertype_at(frame, 12, 14, "Ethernet header"),
        LinkType::LinuxCooked1 => ethertype_at(frame, 14, 16, "Linux cooked header"),
        LinkType::LinuxCooked2 => ethertype_at(frame, 0, 20, "Linux cooked v2 header"),
        LinkType::RawIp => Ok(frame),
        LinkType::Null | LinkType::Loop => strip_loopback(frame),
    }
}

/// Reads the EtherType at `offset` of a header of `header_len` bytes, and takes the header off.
fn ethertype_at<'f>(
    frame: &'f [u8],
    offset: usize,
    header_len: usize,
    name: &'static str,
) -> Result<&'f [u8], FrameError> {
    let (header, rest) = frame
        .split_at_checked(header_len)
        .ok_or(FrameError::Truncated(name))?;
    strip_vlan_tags(
        u16::from_be_bytes([header[offset], header[offset + 1]]),
        rest,
    )
}

/// Takes VLAN tags off: each is two bytes of tag and the next EtherType (IEEE 802.1Q, 9.3).
fn strip_vlan_tags(first: u16, after_header: &[u8]) -> Result<&[u8], FrameError> {
    let mut ethertype = first;
    let mut rest = after_header;
    for _ in 0..=MAX_VLAN_TAGS {
        match (ethertype, rest) {
            (ETHERTYPE_IPV4 | ETHERTYPE_IPV6, packet) => return Ok(packet),
            (
                ETHERTYPE_VLAN | ETHERTYPE_PROVIDER_VLAN | ETHERTYPE_OLD_PROVIDER_VLAN,
                [_, _, high, low, after @ ..],
            ) => {
                ethertype = u16::from_be_bytes([*high, *low]);
                rest = after;
            }
            (ETHERTYPE_VLAN | ETHERTYPE_PROVIDER_VLAN | ETHERTYPE_OLD_PROVIDER_VLAN, _) => {
                return Err(FrameError::Truncated("VLAN tag"));
            }
            _ => return Err(FrameError::NotIp),
        }
    }
    Err(FrameError::TooManyTags)
}

/// Takes the four bytes of address family off. Files don't tell the capturing host's byte order,
/// but the families are small numbers, so that it shows.
fn strip_loopback(frame: &[u8]) -> Result<&[u8], FrameError> {
    let [a, b, c, d, packet @ ..] = frame else {
        return Err(FrameError::Truncated("loopback header"));
    };
    let big_endian = u32::from_be_bytes([*a, *b, *c, *d]);
    let family = big_endian.min(big_endian.swap_bytes());
    match family {
        // AF_INET everywhere; AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, macOS.
        2 | 10 | 24 | 28 | 30 => Ok(packet),
        _ => Err(FrameError::NotIp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: [u8; 5] = [0x45, 1, 2, 3, 4];

    #[track_caller]
    fn check(link: LinkType, header: &[u8], expected: Result<(), FrameError>) {
        let frame = [header, &PACKET].concat();
        assert_eq!(
            strip_link_header(link, &frame),
            expected.map(|()| &PACKET[..])
        );
    }

    fn ethernet(rest: &[u8]) -> Vec<u8> {
        [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], rest].concat()
    }

    #[test]
    fn ethernet_frames() {
        let link = LinkType::Ethernet;
        check(link, &ethernet(&[0x08, 0x00]), Ok(()));
        check(link, &ethernet(&[0x86, 0xdd]), Ok(()));
        check(link, &ethernet(&[0x08, 0x06]), Err(FrameError::NotIp));
        // IEEE 802.3: a length, not a type.
        check(link, &ethernet(&[0x00, 0x26]), Err(FrameError::NotIp));
        // A frame that ends with its header holds an empty packet.
        assert_eq!(
            strip_link_header(link, &ethernet(&[0x08, 0x00])),
            Ok(&[][..])
        );
    }

    #[test]
    fn vlan_tags() {
        let link = LinkType::Ethernet;
        check(
            link,
            &ethernet(&[0x81, 0x00, 0x20, 0x05, 0x08, 0x00]),
            Ok(()),
        );
        check(
            link,
            &ethernet(&[0x81, 0x00, 0x20, 0x05, 0x08, 0x06]),
            Err(FrameError::NotIp),
        );
        let stacked = [0x88, 0xa8, 0, 7, 0x81, 0x00, 0, 8, 0x86, 0xdd];
        check(link, &ethernet(&stacked), Ok(()));
        let tags = |count| ethernet(&[[0x91, 0x00, 0, 1].repeat(count), vec![0x08, 0x00]].concat());
        check(link, &tags(MAX_VLAN_TAGS), Ok(()));
        check(link, &tags(MAX_VLAN_TAGS + 1), Err(FrameError::TooManyTags));
        assert_eq!(
            strip_link_header(link, &ethernet(&[0x81, 0x00, 0, 5, 0x08])),
            Err(FrameError::Truncated("VLAN tag"))
        );
    }

    #[test]
    fn cooked_frames() {
        let v1 = |protocol: [u8; 2]| {
            let mut header = [0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0];
            header[14..].copy_from_slice(&protocol);
            header
        };
        check(LinkType::LinuxCooked1, &v1([0x08, 0x00]), Ok(()));
        check(
            LinkType::LinuxCooked1,
            &v1([0x08, 0x06]),
            Err(FrameError::NotIp),
        );
        let tagged = [&v1([0x81, 0x00])[..], &[0, 5, 0x86, 0xdd]].concat();
        check(LinkType::LinuxCooked1, &tagged, Ok(()));
        let v2 = |protocol: [u8; 2]| {
            let mut header = [0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
            header[..2].copy_from_slice(&protocol);
            header
        };
        check(LinkType::LinuxCooked2, &v2([0x86, 0xdd]), Ok(()));
        check(
            LinkType::LinuxCooked2,
            &v2([0x00, 0x04]),
            Err(FrameError::NotIp),
        );
    }

    #[test]
    fn loopback_frames_in_both_byte_orders() {
        for link in [LinkType::Null, LinkType::Loop] {
            for family in [2, 10, 24, 28, 30] {
                check(link, &[0, 0, 0, family], Ok(()));
                check(link, &[family, 0, 0, 0], Ok(()));
            }
            check(link, &[7, 0, 0, 0], Err(FrameError::NotIp));
            check(link, &[0, 2, 0, 0], Err(FrameError::NotIp));
        }
    }

    #[test]
    fn headers_cut_short() {
        let header_len = [14, 16, 20, 0, 4, 4];
        for (link, header_len) in LinkType::ALL.into_iter().zip(header_len) {
            for length in 0..header_len {
                assert!(
                    matches!(
                        strip_link_header(link, &vec![0; length]),
                        Err(FrameError::Truncated(_))
                    ),
                    "{link:?} at {length}"
                );
            }
        }
        check(LinkType::RawIp, &[], Ok(()));
    }

    #[test]
    fn numbers_of_libpcap() {
        for link in LinkType::ALL {
            assert_eq!(LinkType::from_dlt(link.dlt()), Some(link));
        }
        assert_eq!(
            LinkType::from_dlt(101),
            Some(LinkType::RawIp),
            "LINKTYPE_RAW in files"
        );
        assert_eq!(LinkType::from_dlt(105), None, "IEEE 802.11");
        assert_eq!(LinkType::from_dlt(-1), None);
    }
}
