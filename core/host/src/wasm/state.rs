//! What belongs to one WASM instance outside its memory: its limits, and the contract's imports.

use std::time::Duration;

use plugin_api::Level;
use rustix::time::{ClockId, clock_gettime};
use wasmtime::{ResourceLimiter, Result, UpdateDeadline};

use super::bindings::tcpcopy::plugin::{host, types};
use crate::services::Services;

/// What an element of a table costs.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Memories, tables and core instances that one plugin may have: what a component of a few modules
/// needs, and no more.
const PARTS: usize = 16;

/// An instance's state in its store.
#[derive(Debug)]
pub(super) struct State {
    pub(super) services: Services,
    /// Time of the processor that the call under way may take.
    pub(super) call_time: Duration,
    /// The thread's clock at the first tick of the call under way.
    busy_since: Option<Duration>,
    pub(super) is_late: bool,
    memory_limit: usize,
    memory: usize,
    /// Memory was refused during the call under way.
    pub(super) is_starved: bool,
}

impl State {
    pub(super) fn new(services: Services, memory_limit: usize, call_time: Duration) -> Self {
        Self {
            services,
            call_time,
            busy_since: None,
            is_late: false,
            memory_limit,
            memory: 0,
            is_starved: false,
        }
    }

    /// A call begins.
    pub(super) fn begin(&mut self, now: u64) {
        self.services.now = now;
        self.busy_since = None;
        self.is_starved = false;
    }

    /// The clock has ticked while a call is under way. What counts is the time that the call itself
    /// took: a busy machine is not the plugin's fault.
    pub(super) fn tick(&mut self) -> UpdateDeadline {
        let clock = clock_gettime(ClockId::ThreadCPUTime);
        let clock = Duration::new(
            clock.tv_sec.unsigned_abs(),
            clock.tv_nsec.unsigned_abs() as u32,
        );
        let since = *self.busy_since.get_or_insert(clock);
        self.is_late = clock.saturating_sub(since) >= self.call_time;
        match self.is_late {
            true => UpdateDeadline::Interrupt,
            false => UpdateDeadline::Continue(1),
        }
    }

    /// Whether there is room for something to grow; then it is taken.
    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let grown = self.memory.saturating_add(desired.saturating_sub(current));
        if grown > self.memory_limit {
            self.is_starved = true;
            return false;
        }
        self.memory = grown;
        true
    }
}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> Result<bool> {
        Ok(self.grow(current, desired))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT_BYTES);
        Ok(self.grow(bytes(current), bytes(desired)))
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}

impl types::Host for State {}

impl host::Host for State {
    fn random(&mut self) -> u64 {
        self.services.random()
    }

    fn log(&mut self, level: types::Level, message: String) {
        let level = match level {
            types::Level::Error => Level::Error,
            types::Level::Warn => Level::Warn,
            types::Level::Info => Level::Info,
            types::Level::Debug => Level::Debug,
            types::Level::Trace => Level::Trace,
        };
        self.services.log(level, &message);
    }

    fn share_get(&mut self, key: Vec<u8>) -> Option<Vec<u8>> {
        self.services.share_get(&key, <[u8]>::to_vec)
    }

    fn share_take(&mut self, key: Vec<u8>) -> Option<Vec<u8>> {
        self.services.share_take(&key).map(Vec::from)
    }

    fn share_set(&mut self, key: Vec<u8>, value: Vec<u8>, expiry: u64) -> bool {
        self.services.share_set(&key, &value, expiry)
    }
}
