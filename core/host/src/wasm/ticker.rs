//! The clock by which calls of WASM plugins are interrupted: it ticks only while there may be any, so
//! that who loads a plugin has no thread of ours when it forks or gives up privileges.

use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::{Config, Engine};

use crate::library::{Form, Library};

/// How often a call under way is looked at.
const TICK: Duration = Duration::from_millis(10);

/// The one engine of this process: compiler settings, and the count of ticks.
pub(super) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.epoch_interruption(true);
        config.wasm_component_model(true);
        // The compiler's helpers would stay, idle, while tcpcopy forks and gives up privileges.
        config.parallel_compilation(false);
        Engine::new(&config).expect("the settings are constant, and fit the features we build with")
    })
}

/// As long as one of these lives, the engine's ticks are counted.
#[derive(Debug)]
pub(crate) struct Ticker {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    is_due: Mutex<bool>,
    changed: Condvar,
}

impl Ticker {
    /// The ticker that runs, or a new one.
    pub(crate) fn running() -> std::io::Result<Arc<Self>> {
        static RUNNING: Mutex<Weak<Ticker>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ticker) = running.upgrade() {
            return Ok(ticker);
        }
        let ticker = Arc::new(Self::start()?);
        *running = Arc::downgrade(&ticker);
        Ok(ticker)
    }

    /// The ticker for calls of a library over a longer time, if it needs one. Without a thread for
    /// it, calls go uninterrupted, which the log tells.
    pub(crate) fn of(library: &Library) -> Option<Arc<Self>> {
        if library.form() != Form::Wasm {
            return None;
        }
        let running = Self::running();
        let failed = |error: &_| tracing::error!(%error, "calls of plugins can't be interrupted");
        running.inspect_err(failed).ok()
    }

    fn start() -> std::io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let seen = Arc::clone(&stop);
        let tick = move || {
            let mut is_due = seen.is_due.lock().unwrap_or_else(PoisonError::into_inner);
            while !*is_due {
                engine().increment_epoch();
                let waited = seen.changed.wait_timeout(is_due, TICK);
                is_due = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        };
        let thread = thread::Builder::new().name("plugin-ticker".to_owned());
        Ok(Self {
            thread: Some(thread.spawn(tick)?),
            stop,
        })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        let due = self.stop.is_due.lock();
        *due.unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the plugins' ticker has panicked");
        }
    }
}
