//! WASM plugins: components of the contract's world, or core modules that are made such.
//!
//! They are not trusted. An instance has its memory and the contract's imports, nothing else; its
//! calls are interrupted when they take too long, and its memory has a bound.

mod convert;
mod module;
mod state;
mod ticker;

use std::fmt;
use std::time::Duration;

use plugin_api::abi::{Event, flatten};
use plugin_api::{Config, Manifest, SessionInfo};
use tcpcopy_engine::plugin::Failure;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Store, Trap};

use self::bindings::{Plugin, PluginPre};
use self::state::State;
pub(crate) use self::ticker::Ticker;
use self::ticker::engine;
use crate::instance::{Broken, Unconfigured};
use crate::limits::Limits;
use crate::load_error::LoadProblem;
use crate::services::Services;

/// The contract's text as Rust.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    reason = "generated"
)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../plugin-api/wit/v0.1.0",
        world: "plugin",
    });
}

/// How long manifest and configuration may take: they come before any traffic.
const SETUP_TIME: Duration = Duration::from_secs(5);

/// A plugin that has been compiled and linked.
#[derive(Clone)]
pub(crate) struct Library {
    linked: PluginPre<State>,
}

impl fmt::Debug for Library {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("wasm::Library")
            .finish_non_exhaustive()
    }
}

impl Library {
    /// Compiles and links a file.
    pub(crate) fn load(bytes: &[u8]) -> Result<Self, LoadProblem> {
        let component = module::compile(bytes)?;
        let mut linker = Linker::new(engine());
        let all = Plugin::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state);
        let linked = all.and_then(|()| linker.instantiate_pre(&component));
        let signature = |error: wasmtime::Error| LoadProblem::Signature {
            function: "world plugin".to_owned(),
            problem: format!("{error:#}"),
        };
        let linked = linked.and_then(PluginPre::new).map_err(signature)?;
        Ok(Self { linked })
    }

    /// Asks the plugin who it is, in an instance of its own.
    pub(crate) fn manifest(
        &self,
        services: Services,
        limits: &Limits,
    ) -> Result<Manifest, LoadProblem> {
        let _ticker = Ticker::running().map_err(LoadProblem::NoClock)?;
        let silent = |broken: Broken| LoadProblem::Silent(broken.words);
        let mut instance = self.instance(services, limits).map_err(silent)?;
        let asked = instance.call(0, |plugin, store| {
            plugin.tcpcopy_plugin_guest().call_manifest(store)
        });
        Ok(convert::manifest(asked.map_err(silent)?))
    }

    /// Makes an instance.
    pub(crate) fn configure(
        &self,
        config: &Config,
        services: Services,
        limits: &Limits,
    ) -> Result<Instance, Unconfigured> {
        let broken = Unconfigured::Broken;
        let _ticker = Ticker::running().map_err(|error| broken(no_ticker(&error)))?;
        let mut instance = self.instance(services, limits).map_err(broken)?;
        let settings: Vec<_> = flatten(config).into_iter().map(convert::setting).collect();
        let configured = instance.call(0, |plugin, store| {
            plugin
                .tcpcopy_plugin_guest()
                .call_configure(store, &settings)
        });
        configured.map_err(broken)?.map_err(Unconfigured::Refused)?;
        instance.store.data_mut().call_time = limits.call_time;
        Ok(instance)
    }

    fn instance(&self, services: Services, limits: &Limits) -> Result<Instance, Broken> {
        let state = State::new(services, limits.memory_bytes, SETUP_TIME);
        let mut store = Store::new(engine(), state);
        store.limiter(|state| state);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().tick()));
        store.set_epoch_deadline(1);
        let plugin = self.linked.instantiate(&mut store);
        let plugin = plugin.map_err(|error| judge(&error, store.data()))?;
        Ok(Instance {
            store,
            plugin,
            output_bytes: limits.output_bytes,
        })
    }
}

/// An instance of a WASM plugin.
pub(crate) struct Instance {
    store: Store<State>,
    plugin: Plugin,
    output_bytes: usize,
}

impl fmt::Debug for Instance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.store.data();
        let mut fields = formatter.debug_struct("wasm::Instance");
        fields.field("state", state).finish_non_exhaustive()
    }
}

impl Instance {
    pub(crate) fn open(
        &mut self,
        now: u64,
        info: &SessionInfo,
        answer: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        let (session, info) = (info.id, convert::session(info));
        self.ask(now, answer, |plugin, store| {
            let guest = plugin.tcpcopy_plugin_guest();
            guest.call_open(store, session, now, &info)
        })
    }

    pub(crate) fn event(
        &mut self,
        now: u64,
        session: u64,
        event: Event<'_>,
        answer: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        self.ask(now, answer, |plugin, store| {
            let guest = plugin.tcpcopy_plugin_guest();
            match event {
                Event::Data { direction, bytes } => {
                    guest.call_on_data(store, session, now, convert::direction(direction), bytes)
                }
                Event::Gap { direction, missing } => {
                    guest.call_on_gap(store, session, now, convert::direction(direction), missing)
                }
                Event::End { direction } => {
                    guest.call_on_end(store, session, now, convert::direction(direction))
                }
                Event::Timer => guest.call_on_timer(store, session, now),
                Event::Shared { key, value } => {
                    guest.call_on_shared(store, session, now, key, value)
                }
            }
        })
    }

    pub(crate) fn close(&mut self, session: u64) -> Result<(), Broken> {
        let now = self.store.data().services.now;
        self.call(now, |plugin, store| {
            plugin.tcpcopy_plugin_guest().call_close(store, session)
        })
    }

    pub(crate) fn services(&mut self) -> &mut Services {
        &mut self.store.data_mut().services
    }

    fn ask(
        &mut self,
        now: u64,
        answer: &mut Vec<u8>,
        call: impl FnOnce(&Plugin, &mut Store<State>) -> wasmtime::Result<Vec<u8>>,
    ) -> Result<(), Broken> {
        *answer = self.call(now, call)?;
        match answer.len() > self.output_bytes {
            true => Err(Broken::over_output(self.output_bytes)),
            false => Ok(()),
        }
    }

    fn call<R>(
        &mut self,
        now: u64,
        call: impl FnOnce(&Plugin, &mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Broken> {
        self.store.data_mut().begin(now);
        self.store.set_epoch_deadline(1);
        let called = call(&self.plugin, &mut self.store);
        called.map_err(|error| judge(&error, self.store.data()))
    }
}

fn no_ticker(error: &std::io::Error) -> Broken {
    let words = format!("there is no thread for the clock of its calls: {error}");
    Broken::new(Failure::Trapped, words)
}

/// What became of a call that has trapped.
fn judge(error: &wasmtime::Error, state: &State) -> Broken {
    tracing::debug!("a plugin's call ended: {error:?}");
    if state.is_late {
        let words = format!("a call took more than {:?}", state.call_time);
        return Broken::new(Failure::TimedOut, words);
    }
    if state.is_starved {
        let words = "it asked for more memory than it is given, and gave up";
        return Broken::new(Failure::OutOfMemory, words);
    }
    let words = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    Broken::new(Failure::Trapped, words)
}
