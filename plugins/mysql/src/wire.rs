//! The protocol's integers and strings: read from a payload, written to one.

/// What is left of a payload. Every read answers `None` when there is not enough, and then nothing
/// more can be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let Some((head, tail)) = self.rest.split_at_checked(count) else {
            self.rest = &[];
            return None;
        };
        self.rest = tail;
        Some(head)
    }

    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        self.bytes(count).map(drop)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.fixed(2).map(|number| number as u16)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.fixed(4).map(|number| number as u32)
    }

    fn fixed(&mut self, count: usize) -> Option<u64> {
        let mut number = [0; 8];
        number[..count].copy_from_slice(self.bytes(count)?);
        Some(u64::from_le_bytes(number))
    }

    /// A length-encoded integer. `None` also for the two first bytes that are none (NULL, error).
    pub(crate) fn lenenc(&mut self) -> Option<u64> {
        match self.u8()? {
            small @ 0..=0xfa => Some(u64::from(small)),
            0xfc => self.fixed(2),
            0xfd => self.fixed(3),
            0xfe => self.fixed(8),
            0xfb | 0xff => None,
        }
    }

    /// A length-encoded string.
    pub(crate) fn lenenc_bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.lenenc()?;
        self.bytes(usize::try_from(length).ok()?)
    }

    /// A string up to its NUL, which is taken too.
    pub(crate) fn nul_bytes(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == 0)?;
        let text = self.bytes(end)?;
        self.skip(1)?;
        Some(text)
    }
}

/// Appends a length-encoded integer.
pub(crate) fn put_lenenc(out: &mut Vec<u8>, number: u64) {
    let bytes = number.to_le_bytes();
    match number {
        0..=0xfa => out.push(bytes[0]),
        0xfb..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&bytes[..2]);
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            out.extend_from_slice(&bytes[..3]);
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Appends a length-encoded string.
pub(crate) fn put_lenenc_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_lenenc(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_encoded_integers_are_read_as_they_are_written() {
        for number in [
            0,
            0xfa,
            0xfb,
            0xffff,
            0x1_0000,
            0xff_ffff,
            0x100_0000,
            u64::MAX,
        ] {
            let mut bytes = Vec::new();
            put_lenenc(&mut bytes, number);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.lenenc(), Some(number));
            assert!(reader.is_empty());
            for cut in 0..bytes.len() {
                assert_eq!(Reader::new(&bytes[..cut]).lenenc(), None);
            }
        }
    }

    #[test]
    fn a_string_longer_than_the_payload_is_none() {
        assert_eq!(Reader::new(b"\x03ab").lenenc_bytes(), None);
        assert_eq!(Reader::new(b"ab").nul_bytes(), None);
        let mut reader = Reader::new(b"ab\0c");
        assert_eq!(reader.nul_bytes(), Some(&b"ab"[..]));
        assert_eq!(reader.rest(), b"c");
    }
}
