//! What intercept reads of a packet: enough to find its session and to report it.

use tcpcopy_packet::{FourTuple, PacketError, Segment, TcpFlags};

/// Length of a TCP header without options, in bytes.
const TCP_HEADER_LEN: usize = 20;

/// A segment on its way from the target to a client, with its header as it stands.
///
/// Less is read than `Segment` reads: the options are for tcpcopy to understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetSegment<'a> {
    /// Source is the target, destination the client.
    pub tuple: FourTuple,
    /// The TCP header with its options, 20 to 60 bytes.
    pub tcp: &'a [u8],
    /// The captured part of the payload.
    pub payload: &'a [u8],
    /// The payload's length on the wire, in bytes.
    pub payload_len: u32,
}

impl<'a> TargetSegment<'a> {
    /// Reads an IP packet of `wire_len` bytes, of which `packet` may be only the beginning.
    ///
    /// # Errors
    /// [`PacketError`] when the bytes are no TCP segment, or end before its payload.
    pub fn parse(packet: &'a [u8], wire_len: usize) -> Result<Self, PacketError> {
        let (tuple, tcp, tcp_len) = Segment::locate(packet)?;
        let fixed: &[u8; TCP_HEADER_LEN] = tcp
            .first_chunk()
            .ok_or(PacketError::Truncated("TCP header"))?;
        let header_len = usize::from(fixed[12] >> 4) * 4;
        // A super-segment over 64 KiB has no length in its IP header: the header is then as long
        // as what precedes TCP.
        let tcp_len = match tcp_len as usize {
            captured if captured == tcp.len() => {
                captured.max(wire_len.saturating_sub(packet.len() - tcp.len()))
            }
            known => known,
        };
        if header_len < TCP_HEADER_LEN || header_len > tcp_len {
            return Err(PacketError::HeaderLength("TCP header"));
        }
        let (tcp, payload) = tcp
            .split_at_checked(header_len)
            .ok_or(PacketError::Truncated("TCP options"))?;
        let payload_len = u32::try_from(tcp_len - header_len)
            .map_err(|_| PacketError::HeaderLength("IP packet"))?;
        Ok(Self {
            tuple,
            tcp,
            payload,
            payload_len,
        })
    }

    /// The acknowledgement number; significant with [`TcpFlags::ACK`].
    #[must_use]
    pub fn ack(&self) -> u32 {
        u32::from_be_bytes([self.tcp[8], self.tcp[9], self.tcp[10], self.tcp[11]])
    }

    /// The control bits.
    #[must_use]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags::from_bits(self.tcp[13])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpcopy_packet::{Endpoint, SegmentBuilder};

    fn packet(payload: &[u8]) -> Vec<u8> {
        let source = Endpoint::new("192.0.2.1".parse().unwrap(), 80);
        let destination = Endpoint::new("198.51.100.9".parse().unwrap(), 40_000);
        let mut builder = SegmentBuilder::new(FourTuple::new(source, destination));
        builder.ack = 77;
        builder.flags = TcpFlags::ACK | TcpFlags::PSH;
        let mut packet = Vec::new();
        builder
            .write(std::iter::once(payload), &mut packet)
            .unwrap();
        packet
    }

    #[test]
    fn a_header_only_copy_tells_the_length_on_the_wire() {
        let whole = packet(&[7; 1000]);
        let segment = TargetSegment::parse(&whole[..64], whole.len()).unwrap();
        assert_eq!((segment.payload_len, segment.payload.len()), (1000, 24));
        assert_eq!(
            (segment.ack(), segment.flags()),
            (77, TcpFlags::ACK | TcpFlags::PSH)
        );
        assert_eq!(segment.tcp, &whole[20..40]);
        let segment = TargetSegment::parse(&whole, whole.len()).unwrap();
        assert_eq!(segment.payload, [7; 1000]);
    }

    #[test]
    fn a_super_segment_without_a_length_is_as_long_as_the_kernel_says() {
        let mut whole = packet(&[7; 1000]);
        whole[2..4].copy_from_slice(&[0, 0]);
        let segment = TargetSegment::parse(&whole[..64], 100_040).unwrap();
        assert_eq!(segment.payload_len, 100_000);
    }

    #[test]
    fn padding_is_not_payload() {
        let mut padded = packet(&[]);
        padded.extend([0; 6]);
        assert_eq!(
            TargetSegment::parse(&padded, padded.len())
                .unwrap()
                .payload_len,
            0
        );
    }

    #[test]
    fn cut_headers_are_errors() {
        let whole = packet(&[7; 10]);
        for end in 0..40 {
            assert!(
                TargetSegment::parse(&whole[..end], whole.len()).is_err(),
                "{end}"
            );
        }
    }
}
