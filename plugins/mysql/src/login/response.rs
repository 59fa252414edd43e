//! What a client answers to a greeting, and what it asks with `COM_CHANGE_USER`.

use crate::capability::Capabilities;
use crate::secret::Secret;
use crate::wire::{Reader, put_lenenc_bytes};

/// The first byte of `COM_CHANGE_USER`.
const COM_CHANGE_USER: u8 = 0x11;

/// Bytes of a request for TLS: a handshake response that ends where the user's name would begin.
const TLS_REQUEST_BYTES: usize = 32;

/// What is in a handshake response, or in `COM_CHANGE_USER`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
    /// Meaningless in `COM_CHANGE_USER`.
    pub(crate) capabilities: Capabilities,
    /// The greatest packet that the client takes; meaningless in `COM_CHANGE_USER`.
    pub(crate) max_packet_bytes: u32,
    pub(crate) character_set: u16,
    pub(crate) user: Vec<u8>,
    /// What proves who the client is, or begins to: by some methods the password itself.
    pub(crate) proof: Secret,
    /// Empty for none.
    pub(crate) database: Vec<u8>,
    /// The method of the proof; empty where not named.
    pub(crate) method: Vec<u8>,
    /// Connection attributes as they are, without the length of all.
    pub(crate) attributes: Vec<u8>,
    /// The level of zstd.
    pub(crate) zstd_level: u8,
}

/// Why a payload is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoResponse {
    /// The client asks for TLS.
    Tls,
    /// It is of a client of MySQL before 4.1.
    Protocol320,
    /// It is neither.
    Malformed,
}

impl Response {
    /// Reads a handshake response.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, NoResponse> {
        let flags = Reader::new(payload).u16().ok_or(NoResponse::Malformed)?;
        let lower = Capabilities(u64::from(flags));
        if !lower.has(Capabilities::PROTOCOL_41) {
            return Err(NoResponse::Protocol320);
        }
        if payload.len() <= TLS_REQUEST_BYTES && lower.has(Capabilities::SSL) {
            return Err(NoResponse::Tls);
        }
        Self::parse_41(payload).ok_or(NoResponse::Malformed)
    }

    fn parse_41(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let standard = Capabilities(u64::from(reader.u32()?));
        let max_packet_bytes = reader.u32()?;
        let character_set = u16::from(reader.u8()?);
        reader.skip(19)?;
        let extended = reader.u32()?;
        let capabilities = match standard.has(Capabilities::LONG_PASSWORD) {
            true => standard,
            false => standard | Capabilities(u64::from(extended) << 32),
        };
        let mut response = Self {
            capabilities,
            max_packet_bytes,
            character_set,
            user: reader.nul_bytes()?.to_vec(),
            proof: Secret::new(read_proof(&mut reader, capabilities)?.to_vec()),
            ..Self::default()
        };
        if capabilities.has(Capabilities::CONNECT_WITH_DB) && !reader.is_empty() {
            response.database = reader.nul_bytes()?.to_vec();
        }
        response.read_tail(&mut reader, capabilities);
        if capabilities.has(Capabilities::ZSTD) {
            response.zstd_level = reader.u8().unwrap_or(0);
        }
        Some(response)
    }

    /// Reads `COM_CHANGE_USER` of a client with these capabilities.
    pub(crate) fn parse_change_user(payload: &[u8], capabilities: Capabilities) -> Option<Self> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != COM_CHANGE_USER {
            return None;
        }
        // The length of the proof is never length-encoded here.
        let lengths = capabilities & !Capabilities::PLUGIN_AUTH_LENENC_DATA;
        let mut response = Self {
            capabilities,
            user: reader.nul_bytes()?.to_vec(),
            proof: Secret::new(read_proof(&mut reader, lengths)?.to_vec()),
            database: reader.nul_bytes()?.to_vec(),
            ..Self::default()
        };
        if !reader.is_empty() {
            response.character_set = reader.u16()?;
            response.read_tail(&mut reader, capabilities);
        }
        Some(response)
    }

    /// The name of the method, and the attributes. Clients have left out what they ought to send
    /// here, and servers take what is there.
    fn read_tail(&mut self, reader: &mut Reader<'_>, capabilities: Capabilities) {
        if capabilities.has(Capabilities::PLUGIN_AUTH) {
            self.method = match reader.rest().contains(&0) {
                true => reader.nul_bytes().unwrap_or_default().to_vec(),
                false => {
                    let rest = reader.rest().len();
                    reader.bytes(rest).unwrap_or_default().to_vec()
                }
            };
        }
        if capabilities.has(Capabilities::CONNECT_ATTRS) {
            self.attributes = reader.lenenc_bytes().unwrap_or_default().to_vec();
        }
    }

    /// Writes a handshake response; which of its parts are in it follows from its capabilities.
    pub(crate) fn write(&self) -> Vec<u8> {
        let [lower @ .., e0, e1, e2, e3] = self.capabilities.0.to_le_bytes();
        let mut out = self.room();
        out.extend_from_slice(&lower);
        out.extend_from_slice(&self.max_packet_bytes.to_le_bytes());
        out.push(self.character_set.to_le_bytes()[0]);
        out.extend_from_slice(&[0; 19]);
        out.extend_from_slice(&[e0, e1, e2, e3]);
        out.extend_from_slice(&self.user);
        out.push(0);
        self.write_proof(self.capabilities, &mut out);
        if self.capabilities.has(Capabilities::CONNECT_WITH_DB) {
            out.extend_from_slice(&self.database);
            out.push(0);
        }
        self.write_tail(&mut out);
        out
    }

    /// Writes `COM_CHANGE_USER` for a connection with its capabilities.
    pub(crate) fn write_change_user(&self) -> Vec<u8> {
        let mut out = self.room();
        out.push(COM_CHANGE_USER);
        out.extend_from_slice(&self.user);
        out.push(0);
        let lengths = self.capabilities & !Capabilities::PLUGIN_AUTH_LENENC_DATA;
        self.write_proof(lengths, &mut out);
        out.extend_from_slice(&self.database);
        out.push(0);
        out.extend_from_slice(&self.character_set.to_le_bytes());
        self.write_tail(&mut out);
        out
    }

    /// Where it is written: a vector that grew would leave a proof behind where it was.
    fn room(&self) -> Vec<u8> {
        /// More than what is not of variable length.
        const REST: usize = 128;
        let proof = self.proof.reveal().len();
        let names = self.user.len() + self.database.len() + self.method.len();
        Vec::with_capacity(REST + proof + names + self.attributes.len())
    }

    fn write_proof(&self, capabilities: Capabilities, out: &mut Vec<u8>) {
        let proof = self.proof.reveal();
        if capabilities.has(Capabilities::PLUGIN_AUTH_LENENC_DATA) {
            put_lenenc_bytes(out, proof);
        } else if capabilities.has(Capabilities::SECURE_CONNECTION) {
            // A longer one is for the server to ask for; no method has one.
            let length = u8::try_from(proof.len()).unwrap_or(0);
            out.push(length);
            out.extend_from_slice(&proof[..usize::from(length)]);
        } else {
            out.extend_from_slice(proof);
            out.push(0);
        }
    }

    fn write_tail(&self, out: &mut Vec<u8>) {
        if self.capabilities.has(Capabilities::PLUGIN_AUTH) {
            out.extend_from_slice(&self.method);
            out.push(0);
        }
        if self.capabilities.has(Capabilities::CONNECT_ATTRS) {
            put_lenenc_bytes(out, &self.attributes);
        }
    }
}

fn read_proof<'a>(reader: &mut Reader<'a>, capabilities: Capabilities) -> Option<&'a [u8]> {
    if capabilities.has(Capabilities::PLUGIN_AUTH_LENENC_DATA) {
        reader.lenenc_bytes()
    } else if capabilities.has(Capabilities::SECURE_CONNECTION) {
        let length = reader.u8()?;
        reader.bytes(usize::from(length))
    } else {
        reader.nul_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn some_response() -> impl Strategy<Value = Response> {
        let text = || vec(1..=255_u8, 0..40);
        let flags = any::<u64>().prop_map(|bits| {
            let fixed = Capabilities::PROTOCOL_41;
            let no_zstd = Capabilities(bits) & !Capabilities::ZSTD & !Capabilities::SSL;
            match no_zstd.has(Capabilities::LONG_PASSWORD) {
                true => (no_zstd | fixed) & Capabilities(u64::from(u32::MAX)),
                false => no_zstd | fixed,
            }
        });
        let names = (text(), text(), text(), text());
        let rest = (vec(1..=255_u8, 0..200), any::<u8>(), any::<u32>());
        (flags, names, rest).prop_map(|(capabilities, names, rest)| {
            let if_has = |flag, bytes: Vec<u8>| match capabilities.has(flag) {
                true => bytes,
                false => Vec::new(),
            };
            Response {
                capabilities,
                max_packet_bytes: rest.2,
                character_set: u16::from(rest.1),
                user: names.0,
                proof: Secret::new(rest.0),
                database: if_has(Capabilities::CONNECT_WITH_DB, names.1),
                method: if_has(Capabilities::PLUGIN_AUTH, names.2),
                attributes: if_has(Capabilities::CONNECT_ATTRS, names.3),
                zstd_level: 0,
            }
        })
    }

    proptest! {
        #[test]
        fn a_response_is_read_as_it_was_written(response in some_response()) {
            prop_assert_eq!(Response::parse(&response.write()), Ok(response));
        }

        #[test]
        fn a_change_of_user_is_read_as_it_was_written(response in some_response()) {
            let expected = Response { max_packet_bytes: 0, ..response };
            let mut expected = expected;
            expected.character_set = 0x0900;
            let written = expected.write_change_user();
            let read = Response::parse_change_user(&written, expected.capabilities);
            // Without CONNECT_WITH_DB the database is there all the same.
            prop_assert_eq!(read, Some(expected));
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in vec(any::<u8>(), 0..120), flags in any::<u64>()) {
            let _ = Response::parse(&bytes);
            let _ = Response::parse_change_user(&bytes, Capabilities(flags));
        }
    }

    #[test]
    fn a_request_for_tls_is_known() {
        let flags = Capabilities::PROTOCOL_41 | Capabilities::SSL;
        let response = Response {
            capabilities: flags,
            ..Response::default()
        };
        let whole = response.write();
        assert_eq!(Response::parse(&whole[..32]), Err(NoResponse::Tls));
    }

    #[test]
    fn the_old_protocol_is_known() {
        let response = b"\x85\x24\x00\x00\x00root\0secret\0";
        assert_eq!(Response::parse(response), Err(NoResponse::Protocol320));
        assert_eq!(Response::parse(b""), Err(NoResponse::Malformed));
    }

    #[test]
    fn a_client_without_the_last_nul() {
        let capabilities =
            Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION | Capabilities::PLUGIN_AUTH;
        let response = Response {
            capabilities,
            user: b"app".to_vec(),
            method: b"mysql_native_password".to_vec(),
            ..Response::default()
        };
        let whole = response.write();
        assert_eq!(Response::parse(&whole[..whole.len() - 1]), Ok(response));
    }
}
