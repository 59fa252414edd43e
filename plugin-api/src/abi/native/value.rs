//! What is passed between host and plugin, and how it is made of, and into, Rust's own.

#![allow(unsafe_code, reason = "what crosses the border is pointers")]

use std::ffi::c_void;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::abi::{Scalar, Setting};
use crate::{KeyKind, Needs, SessionInfo};

/// All kinds of keys, in the order of their numbers.
const KINDS: [KeyKind; 7] = [
    KeyKind::Text,
    KeyKind::Secret,
    KeyKind::Integer,
    KeyKind::Float,
    KeyKind::Boolean,
    KeyKind::List,
    KeyKind::Table,
];

/// The kinds of settings, as numbers: those of keys, without secrets and what holds others, and the
/// two empty ones.
const KIND_TEXT: u32 = 0;
const KIND_INTEGER: u32 = 2;
const KIND_FLOAT: u32 = 3;
const KIND_BOOLEAN: u32 = 4;
const KIND_EMPTY_LIST: u32 = 7;
const KIND_EMPTY_TABLE: u32 = 8;

/// Bytes that belong to whoever passes them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// The first byte; may be null when there is none.
    pub start: *const u8,
    /// How many.
    pub length: usize,
}

impl Bytes {
    /// Bytes to pass.
    ///
    /// ```
    /// assert_eq!(plugin_api::abi::native::Bytes::new(b"abc").length, 3);
    /// ```
    #[must_use]
    pub const fn new(bytes: &[u8]) -> Self {
        Self {
            start: bytes.as_ptr(),
            length: bytes.len(),
        }
    }

    /// No bytes, which is not the same as empty ones where that matters.
    pub const NONE: Self = Self {
        start: std::ptr::null(),
        length: 0,
    };

    /// The bytes that were passed.
    ///
    /// # Safety
    /// `start` must be null or point to `length` bytes that live and do not change for `'a`.
    #[must_use]
    pub unsafe fn as_slice<'a>(self) -> &'a [u8] {
        if self.start.is_null() {
            return &[];
        }
        // SAFETY: the caller's promise, and it is not null.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }

    /// A copy of the text that was passed; `None` when it is not UTF-8.
    ///
    /// # Safety
    /// As for [`as_slice`](Self::as_slice), for as long as this call takes.
    #[must_use]
    pub unsafe fn to_text(self) -> Option<String> {
        // SAFETY: the caller's promise.
        let bytes = unsafe { self.as_slice() };
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    }
}

/// Takes bytes, and appends them to what it has.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Sink {
    /// The first argument of `write`.
    pub context: *mut c_void,
    /// Takes bytes.
    pub write: unsafe extern "C" fn(context: *mut c_void, bytes: Bytes),
}

impl Sink {
    /// A sink that appends to a buffer. It must not be used after the buffer's end.
    #[must_use]
    pub fn into_buffer(buffer: &mut Vec<u8>) -> Self {
        unsafe extern "C" fn append(context: *mut c_void, bytes: Bytes) {
            // SAFETY: `context` is the buffer below, which nobody else uses during the call that
            // was given the sink; the bytes are good for as long as this call takes.
            unsafe { (*context.cast::<Vec<u8>>()).extend_from_slice(bytes.as_slice()) }
        }
        Self {
            context: std::ptr::from_mut(buffer).cast(),
            write: append,
        }
    }
}

/// One key of configuration.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// See [`crate::Key::name`].
    pub name: Bytes,
    /// See [`crate::Key::doc`].
    pub doc: Bytes,
    /// See [`crate::Key::default`]; null for none.
    pub default_value: Bytes,
    /// The place in [`KINDS`].
    pub kind: u32,
    /// 0 or 1.
    pub required: u32,
    /// See [`crate::Key::needs`]: 0 or 1.
    pub needs_origin: u32,
    /// See [`crate::Key::needs`]: 0 or 1.
    pub needs_target: u32,
}

impl Key {
    /// A key to pass. It borrows from `key`, whatever its type says.
    #[must_use]
    pub fn new(key: &crate::Key) -> Self {
        let place = KINDS.iter().position(|kind| *kind == key.kind);
        let default_value = key.default.as_ref();
        Self {
            name: Bytes::new(key.name.as_bytes()),
            doc: Bytes::new(key.doc.as_bytes()),
            default_value: default_value.map_or(Bytes::NONE, |text| Bytes::new(text.as_bytes())),
            kind: place.map_or(0, |place| place as u32),
            required: key.required.into(),
            needs_origin: key.needs.origin.into(),
            needs_target: key.needs.target.into(),
        }
    }

    /// The key that was passed; `None` when it is of no kind or not UTF-8.
    ///
    /// # Safety
    /// As for [`Bytes::as_slice`], for as long as this call takes.
    #[must_use]
    pub unsafe fn to_key(&self) -> Option<crate::Key> {
        // SAFETY: the caller's promise.
        let text = |bytes: Bytes| unsafe { bytes.to_text() };
        Some(crate::Key {
            name: text(self.name)?,
            kind: *KINDS.get(self.kind as usize)?,
            doc: text(self.doc)?,
            default: match self.default_value.start.is_null() {
                true => None,
                false => Some(text(self.default_value)?),
            },
            required: self.required != 0,
            needs: Needs {
                origin: self.needs_origin != 0,
                target: self.needs_target != 0,
            },
        })
    }
}

/// Who a plugin is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Manifest {
    /// See [`crate::Manifest::name`].
    pub name: Bytes,
    /// See [`crate::Manifest::version`].
    pub version: Bytes,
    /// See [`crate::Manifest::description`].
    pub description: Bytes,
    /// The keys.
    pub keys: *const Key,
    /// How many keys.
    pub key_count: usize,
    /// 0 or 1.
    pub needs_origin: u32,
    /// 0 or 1.
    pub needs_target: u32,
}

impl Manifest {
    /// A manifest to pass. It borrows from both, whatever its type says.
    #[must_use]
    pub fn new(manifest: &crate::Manifest, keys: &[Key]) -> Self {
        Self {
            name: Bytes::new(manifest.name.as_bytes()),
            version: Bytes::new(manifest.version.as_bytes()),
            description: Bytes::new(manifest.description.as_bytes()),
            keys: keys.as_ptr(),
            key_count: keys.len(),
            needs_origin: manifest.needs.origin.into(),
            needs_target: manifest.needs.target.into(),
        }
    }

    /// The manifest that was passed; `None` when something in it is not UTF-8 or of no kind.
    ///
    /// # Safety
    /// As for [`Bytes::as_slice`], for as long as this call takes; `keys` must point to
    /// `key_count` keys, unless there are none.
    #[must_use]
    pub unsafe fn to_manifest(&self) -> Option<crate::Manifest> {
        // SAFETY: the caller's promise.
        let text = |bytes: Bytes| unsafe { bytes.to_text() };
        let keys = match self.key_count {
            0 => &[],
            // SAFETY: the caller's promise.
            count => unsafe { std::slice::from_raw_parts(self.keys, count) },
        };
        // SAFETY: the caller's promise.
        let keys = keys.iter().map(|key| unsafe { key.to_key() });
        Some(crate::Manifest {
            name: text(self.name)?,
            version: text(self.version)?,
            description: text(self.description)?,
            needs: Needs {
                origin: self.needs_origin != 0,
                target: self.needs_target != 0,
            },
            keys: keys.collect::<Option<_>>()?,
        })
    }
}

/// One value of the configuration; see [`super::Setting`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RawSetting {
    /// Where it stands.
    pub place: Bytes,
    /// The text, for one.
    pub text: Bytes,
    /// The whole number; 0 or 1 for a truth value.
    pub integer: i64,
    /// The number.
    pub number: f64,
    /// A kind of key or of empty value.
    pub kind: u32,
}

impl RawSetting {
    /// A setting to pass. It borrows from `setting`, whatever its type says.
    #[must_use]
    pub fn new(setting: &Setting) -> Self {
        let mut raw = Self {
            place: Bytes::new(setting.place.as_bytes()),
            text: Bytes::NONE,
            integer: 0,
            number: 0.0,
            kind: KIND_TEXT,
        };
        match &setting.value {
            Scalar::Text(text) => raw.text = Bytes::new(text.as_bytes()),
            Scalar::Integer(integer) => (raw.kind, raw.integer) = (KIND_INTEGER, *integer),
            Scalar::Float(number) => (raw.kind, raw.number) = (KIND_FLOAT, *number),
            Scalar::Boolean(yes) => (raw.kind, raw.integer) = (KIND_BOOLEAN, i64::from(*yes)),
            Scalar::EmptyList => raw.kind = KIND_EMPTY_LIST,
            Scalar::EmptyTable => raw.kind = KIND_EMPTY_TABLE,
        }
        raw
    }

    /// The setting that was passed; `None` when it is of no kind or not UTF-8.
    ///
    /// # Safety
    /// As for [`Bytes::as_slice`], for as long as this call takes.
    #[must_use]
    pub unsafe fn to_setting(&self) -> Option<Setting> {
        // SAFETY: the caller's promise.
        let text = |bytes: Bytes| unsafe { bytes.to_text() };
        let value = match self.kind {
            KIND_TEXT => Scalar::Text(text(self.text)?),
            KIND_INTEGER => Scalar::Integer(self.integer),
            KIND_FLOAT => Scalar::Float(self.number),
            KIND_BOOLEAN => Scalar::Boolean(self.integer != 0),
            KIND_EMPTY_LIST => Scalar::EmptyList,
            KIND_EMPTY_TABLE => Scalar::EmptyTable,
            _ => return None,
        };
        let place = text(self.place)?;
        Some(Setting { place, value })
    }
}

/// An address.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The IP address in network order.
    pub ip: [u8; 16],
    /// The port.
    pub port: u16,
    /// How many bytes of `ip` count: 4 or 16.
    pub ip_length: u16,
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        let (mut ip, ip_length) = ([0; 16], if address.is_ipv4() { 4 } else { 16 });
        match address.ip() {
            IpAddr::V4(v4) => ip[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => ip = v6.octets(),
        }
        Self {
            ip,
            port: address.port(),
            ip_length,
        }
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        let [a, b, c, d, ..] = endpoint.ip;
        let ip = match endpoint.ip_length {
            4 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            _ => IpAddr::V6(Ipv6Addr::from(endpoint.ip)),
        };
        Self::new(ip, endpoint.port)
    }
}

/// Which connection a session replays.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// See [`SessionInfo::id`].
    pub id: u64,
    /// See [`SessionInfo::client`].
    pub client: Endpoint,
    /// See [`SessionInfo::origin`].
    pub origin: Endpoint,
    /// See [`SessionInfo::target`].
    pub target: Endpoint,
    /// See [`SessionInfo::copy`].
    pub copy: u16,
    /// 0 or 1.
    pub start_seen: u16,
}

impl From<&SessionInfo> for Info {
    fn from(info: &SessionInfo) -> Self {
        Self {
            id: info.id,
            client: info.client.into(),
            origin: info.origin.into(),
            target: info.target.into(),
            copy: info.copy,
            start_seen: info.start_seen.into(),
        }
    }
}

impl From<&Info> for SessionInfo {
    fn from(info: &Info) -> Self {
        Self {
            id: info.id,
            client: info.client.into(),
            origin: info.origin.into(),
            target: info.target.into(),
            copy: info.copy,
            start_seen: info.start_seen != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_arrives() {
        let manifest = crate::Manifest::new("name", "1.2.3", "é")
            .needs(Needs::ORIGIN)
            .key(crate::Key::secret("a", "b").required())
            .key(crate::Key::table("c", "").default(""))
            .key(crate::Key::list("d", "").needs(Needs::BOTH));
        let keys: Vec<_> = manifest.keys.iter().map(Key::new).collect();
        let raw = Manifest::new(&manifest, &keys);
        // SAFETY: both live.
        assert_eq!(unsafe { raw.to_manifest() }, Some(manifest));

        let values = [
            Scalar::Text("é".to_owned()),
            Scalar::Integer(i64::MIN),
            Scalar::Float(0.5),
            Scalar::Boolean(true),
            Scalar::EmptyList,
            Scalar::EmptyTable,
        ];
        for value in values {
            let setting = Setting {
                place: "a.b".to_owned(),
                value,
            };
            // SAFETY: it lives.
            let arrived = unsafe { RawSetting::new(&setting).to_setting() };
            assert_eq!(arrived, Some(setting));
        }

        let v6 = "[2001:db8::1]:443".parse().expect("an address");
        let info = SessionInfo {
            copy: 7,
            start_seen: false,
            target: v6,
            ..SessionInfo::example()
        };
        assert_eq!(SessionInfo::from(&Info::from(&info)), info);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let wrong = Key {
            name: Bytes::new(b"\xff"),
            ..Key::new(&crate::Key::text("", ""))
        };
        // SAFETY: constants.
        assert_eq!(unsafe { wrong.to_key() }, None);
        let wrong = Key {
            kind: 7,
            ..Key::new(&crate::Key::text("", ""))
        };
        // SAFETY: constants.
        assert_eq!(unsafe { wrong.to_key() }, None);
        let wrong = RawSetting {
            place: Bytes::NONE,
            text: Bytes::NONE,
            integer: 0,
            number: 0.0,
            kind: 1,
        };
        // SAFETY: there is nothing to read.
        assert_eq!(unsafe { wrong.to_setting() }, None);
    }
}
