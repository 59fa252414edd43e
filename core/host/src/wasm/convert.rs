//! The contract's values as WIT has them, made of and into Rust's own.

use std::net::{IpAddr, SocketAddr};

use plugin_api::abi::{Scalar, Setting};
use plugin_api::{Direction, Key, KeyKind, Manifest, Needs, SessionInfo};

use super::bindings::tcpcopy::plugin::types;

pub(super) fn manifest(raw: types::Manifest) -> Manifest {
    Manifest {
        name: raw.name,
        version: raw.version,
        description: raw.description,
        needs: needs(raw.needs),
        keys: raw.keys.into_iter().map(key).collect(),
    }
}

fn key(raw: types::Key) -> Key {
    Key {
        name: raw.name,
        kind: match raw.kind {
            types::KeyKind::Text => KeyKind::Text,
            types::KeyKind::Secret => KeyKind::Secret,
            types::KeyKind::Integer => KeyKind::Integer,
            types::KeyKind::Float => KeyKind::Float,
            types::KeyKind::Boolean => KeyKind::Boolean,
            types::KeyKind::List => KeyKind::List,
            types::KeyKind::Table => KeyKind::Table,
        },
        doc: raw.doc,
        default: raw.default,
        required: raw.required,
        needs: needs(raw.needs),
    }
}

fn needs(raw: types::Needs) -> Needs {
    Needs {
        origin: raw.origin,
        target: raw.target,
    }
}

pub(super) fn setting(setting: Setting) -> types::Setting {
    types::Setting {
        place: setting.place,
        value: match setting.value {
            Scalar::Text(text) => types::Value::Text(text),
            Scalar::Integer(number) => types::Value::Integer(number),
            Scalar::Float(number) => types::Value::Float(number),
            Scalar::Boolean(yes) => types::Value::Boolean(yes),
            Scalar::EmptyList => types::Value::EmptyList,
            Scalar::EmptyTable => types::Value::EmptyTable,
        },
    }
}

pub(super) fn session(info: &SessionInfo) -> types::SessionInfo {
    types::SessionInfo {
        client: endpoint(info.client),
        origin: endpoint(info.origin),
        target: endpoint(info.target),
        copy: info.copy,
        start_seen: info.start_seen,
    }
}

pub(super) fn direction(direction: Direction) -> types::Direction {
    match direction {
        Direction::Client => types::Direction::Client,
        Direction::Origin => types::Direction::Origin,
        Direction::Target => types::Direction::Target,
    }
}

fn endpoint(address: SocketAddr) -> types::Endpoint {
    types::Endpoint {
        ip: match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        },
        port: address.port(),
    }
}
