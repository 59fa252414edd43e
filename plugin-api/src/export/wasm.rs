//! The WASM export: the functions of the WIT world, for any plugin.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::panic;
use std::time::Duration;

use bindings::exports::tcpcopy::plugin::guest::{
    Guest, PluginManifest, SessionInfo as RawInfo, Setting as RawSetting,
};
use bindings::tcpcopy::plugin::{host, types};

use super::panic_words;
use crate::abi::{Event, Scalar, Setting, assemble};
use crate::context::Host;
use crate::instance::Instance;
use crate::{Config, Direction, KeyKind, Level, Plugin, Session, SessionInfo};

/// The contract's text as Rust.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unsafe_code,
    unreachable_pub,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "generated"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit/v0.1.0",
        world: "plugin",
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "plugin_api::export::wasm::bindings",
    });
}

pub use bindings::export_component;

/// What a call is given besides its own payload; the answer's buffer has room for this much more.
const ACTIONS_ROOM: usize = 64;

/// A plugin as the contract's functions.
#[derive(Debug)]
pub struct Exported<P>(PhantomData<P>);

impl<P: Plugin> Guest for Exported<P> {
    fn manifest() -> PluginManifest {
        log_panics();
        let manifest = P::manifest();
        PluginManifest {
            name: manifest.name,
            version: manifest.version,
            description: manifest.description,
            needs: needs(manifest.needs),
            keys: manifest.keys.into_iter().map(key).collect(),
        }
    }

    fn configure(settings: Vec<RawSetting>) -> Result<(), String> {
        log_panics();
        let config = assemble(settings.into_iter().map(setting));
        let config: Config = config.map_err(|error| error.to_string())?;
        let running = Running::<P> {
            instance: Instance::configure(&config)?,
            sessions: HashMap::default(),
        };
        RUNNING.set(Some(Box::new(running)));
        Ok(())
    }

    fn open(session: u64, now: u64, info: RawInfo) -> Vec<u8> {
        let info = SessionInfo {
            id: session,
            client: address(&info.client),
            origin: address(&info.origin),
            target: address(&info.target),
            copy: info.copy,
            start_seen: info.start_seen,
        };
        with_running(|running| running.open(now, &info))
    }

    fn on_data(session: u64, now: u64, direction: types::Direction, bytes: Vec<u8>) -> Vec<u8> {
        let (direction, bytes) = (stream(direction), bytes.as_slice());
        event(session, now, Event::Data { direction, bytes })
    }

    fn on_gap(
        session: u64,
        now: u64,
        direction: types::Direction,
        missing: Option<u64>,
    ) -> Vec<u8> {
        let direction = stream(direction);
        event(session, now, Event::Gap { direction, missing })
    }

    fn on_end(session: u64, now: u64, direction: types::Direction) -> Vec<u8> {
        let direction = stream(direction);
        event(session, now, Event::End { direction })
    }

    fn on_timer(session: u64, now: u64) -> Vec<u8> {
        event(session, now, Event::Timer)
    }

    fn on_shared(session: u64, now: u64, key: Vec<u8>, value: Option<Vec<u8>>) -> Vec<u8> {
        let (key, value) = (key.as_slice(), value.as_deref());
        event(session, now, Event::Shared { key, value })
    }

    fn close(session: u64) {
        with_running(|running| running.close(session));
    }
}

thread_local! {
    /// The one instance of this module. A static can't be generic, so it is behind a trait.
    static RUNNING: RefCell<Option<Box<dyn Run>>> = const { RefCell::new(None) };
}

/// Calls the instance. Both expectations are of the host, which the contract binds.
fn with_running<R>(call: impl FnOnce(&mut dyn Run) -> R) -> R {
    RUNNING.with_borrow_mut(|running| {
        let running = running.as_mut().expect("configure comes first");
        call(running.as_mut())
    })
}

fn event(session: u64, now: u64, event: Event<'_>) -> Vec<u8> {
    with_running(|running| running.event(now, session, event))
}

/// An instance of whatever plugin.
trait Run {
    fn open(&mut self, now: u64, info: &SessionInfo) -> Vec<u8>;
    fn event(&mut self, now: u64, session: u64, event: Event<'_>) -> Vec<u8>;
    fn close(&mut self, session: u64);
}

struct Running<P: Plugin> {
    instance: Instance<P>,
    sessions: HashMap<u64, P::Session, BuildHasherDefault<SessionHasher>>,
}

impl<P: Plugin> Run for Running<P> {
    fn open(&mut self, now: u64, info: &SessionInfo) -> Vec<u8> {
        let now = Duration::from_micros(now);
        let open = |plugin: &mut P, ctx: &mut crate::Context<'_>| plugin.open(info, ctx);
        let session = self.instance.call(now, &mut WasmHost, open);
        self.sessions.insert(info.id, session);
        self.instance.actions().take()
    }

    fn event(&mut self, now: u64, session: u64, event: Event<'_>) -> Vec<u8> {
        let session = self.sessions.get_mut(&session);
        let session = session.expect("a session opens before anything happens to it");
        if let Event::Data { bytes, .. } = event {
            // Most answers are about as long as what they answer: one allocation is enough.
            self.instance.actions().reserve(bytes.len() + ACTIONS_ROOM);
        }
        self.instance
            .event(Duration::from_micros(now), &mut WasmHost, session, event);
        self.instance.actions().take()
    }

    fn close(&mut self, session: u64) {
        if let Some(mut session) = self.sessions.remove(&session) {
            session.on_close(self.instance.plugin());
        }
    }
}

/// Spreads the numbers of sessions, which are the host's own and so no attack.
#[derive(Default)]
struct SessionHasher(u64);

impl Hasher for SessionHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The imports.
struct WasmHost;

impl Host for WasmHost {
    fn random(&mut self) -> u64 {
        host::random()
    }

    fn log(&mut self, level: Level, message: &str) {
        let level = match level {
            Level::Error => types::Level::Error,
            Level::Warn => types::Level::Warn,
            Level::Info => types::Level::Info,
            Level::Debug => types::Level::Debug,
            Level::Trace => types::Level::Trace,
        };
        host::log(level, message);
    }

    fn share_get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        host::share_get(key)
    }

    fn share_take(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        host::share_take(key)
    }

    fn share_set(&mut self, key: &[u8], value: &[u8], expiry: Duration) -> bool {
        let expiry = u64::try_from(expiry.as_micros()).unwrap_or(u64::MAX);
        host::share_set(key, value, expiry)
    }
}

/// A panic traps, and a trap has no words: they go to the log before.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        WasmHost.log(Level::Error, &panic_words(panic));
    }));
}

fn needs(needs: crate::Needs) -> types::Needs {
    types::Needs {
        origin: needs.origin,
        target: needs.target,
    }
}

fn key(key: crate::Key) -> types::Key {
    types::Key {
        name: key.name,
        kind: match key.kind {
            KeyKind::Text => types::KeyKind::Text,
            KeyKind::Secret => types::KeyKind::Secret,
            KeyKind::Integer => types::KeyKind::Integer,
            KeyKind::Float => types::KeyKind::Float,
            KeyKind::Boolean => types::KeyKind::Boolean,
            KeyKind::List => types::KeyKind::List,
            KeyKind::Table => types::KeyKind::Table,
        },
        doc: key.doc,
        default: key.default,
        required: key.required,
        needs: needs(key.needs),
    }
}

fn setting(setting: RawSetting) -> Setting {
    let value = match setting.value {
        types::Value::Text(text) => Scalar::Text(text),
        types::Value::Integer(number) => Scalar::Integer(number),
        types::Value::Float(number) => Scalar::Float(number),
        types::Value::Boolean(yes) => Scalar::Boolean(yes),
        types::Value::EmptyList => Scalar::EmptyList,
        types::Value::EmptyTable => Scalar::EmptyTable,
    };
    let place = setting.place;
    Setting { place, value }
}

fn address(endpoint: &types::Endpoint) -> SocketAddr {
    let v4 = <[u8; 4]>::try_from(endpoint.ip.as_slice()).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(endpoint.ip.as_slice()).map(IpAddr::from);
    let ip = v4.or(v6).expect("an address has 4 or 16 bytes");
    SocketAddr::new(ip, endpoint.port)
}

fn stream(direction: types::Direction) -> Direction {
    match direction {
        types::Direction::Client => Direction::Client,
        types::Direction::Origin => Direction::Origin,
        types::Direction::Target => Direction::Target,
    }
}
