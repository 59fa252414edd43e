//! The target's end of a model connection: a receive buffer and the application behind it.

use crate::events::Micros;
use crate::target::{App, AppAction, End, TargetConfig};

/// What the target's end does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FarAction {
    /// All bytes up to this offset have arrived.
    Acknowledge(usize),
    Write(u64),
    Finish,
    Reset,
}

#[derive(Debug)]
pub(super) struct Far {
    app: App,
    buffer_bytes: usize,
    /// How much was sent this far, and how much of it there was room for.
    pub(super) reached: usize,
    pub(super) arrived: usize,
    pub(super) fin_reached: bool,
    /// The FIN came, after all bytes.
    pub(super) client_closed: bool,
    has_finished: bool,
    /// The application has closed both directions.
    is_closed: bool,
    pub(super) end: Option<End>,
    app_at_us: Option<Micros>,
}

impl Far {
    pub(super) fn new(config: &TargetConfig, now_us: Micros) -> Self {
        Self {
            app: App::new(config, now_us),
            buffer_bytes: config.receive_buffer_bytes as usize,
            reached: 0,
            arrived: 0,
            fin_reached: false,
            client_closed: false,
            has_finished: false,
            is_closed: false,
            end: None,
            app_at_us: None,
        }
    }

    pub(super) fn reset_by_client(&mut self) {
        self.end.get_or_insert(End::ResetByMirror);
        self.is_closed = true;
    }

    pub(super) fn reset_by_network(&mut self) {
        self.end.get_or_insert(End::ResetByTarget);
        self.is_closed = true;
    }

    /// Looks at what of `stream` has come, and acts.
    pub(super) fn turn(&mut self, now_us: Micros, stream: &[u8]) -> Vec<FarAction> {
        let mut actions = Vec::new();
        if self.is_closed {
            return self.turn_closed();
        }
        let before = self.arrived;
        loop {
            let read = self.app.read;
            let window = read as usize + self.buffer_bytes;
            let arrived = self.reached.min(window).max(self.arrived);
            let has_grown = arrived > self.arrived;
            self.arrived = arrived;
            self.app.read(now_us, &stream[..arrived]);
            if !has_grown && self.app.read == read {
                break;
            }
        }
        if self.arrived > before {
            actions.push(FarAction::Acknowledge(self.arrived));
        }
        if self.fin_reached && self.arrived == stream.len() {
            self.client_closed = true;
            if self.app.read as usize == self.arrived {
                self.app.client_closed(now_us);
            }
        }
        while let Some(action) = self.app.act(now_us) {
            actions.push(self.act(action));
        }
        actions
    }

    fn act(&mut self, action: AppAction) -> FarAction {
        match action {
            AppAction::Write(bytes) => FarAction::Write(bytes),
            AppAction::Shutdown => {
                self.has_finished = true;
                FarAction::Finish
            }
            AppAction::Close if (self.app.read as usize) < self.reached => {
                self.reset_by_network();
                FarAction::Reset
            }
            AppAction::Close => {
                self.is_closed = true;
                self.end = Some(End::Closed);
                match std::mem::replace(&mut self.has_finished, true) {
                    // Closed after a shutdown: nothing is left to say.
                    true => FarAction::Write(0),
                    false => FarAction::Finish,
                }
            }
            AppAction::Abort => {
                self.reset_by_network();
                FarAction::Reset
            }
        }
    }

    /// What comes after both directions were closed is answered with a RST.
    fn turn_closed(&mut self) -> Vec<FarAction> {
        let has_reset = self.end != Some(End::Closed);
        if self.reached > self.arrived && !has_reset {
            self.end = Some(End::ResetByTarget);
            return vec![FarAction::Reset];
        }
        self.client_closed |= self.fin_reached && !has_reset;
        Vec::new()
    }

    /// When to take a turn although nothing comes; told once for each moment.
    pub(super) fn next_at(&mut self, now_us: Micros) -> Option<Micros> {
        let app_at_us = match self.is_closed {
            true => None,
            false => self.app.next_at(self.arrived as u64),
        };
        let at_us = app_at_us.map(|at_us| at_us.max(now_us + 1));
        let is_new = at_us != self.app_at_us;
        self.app_at_us = at_us;
        at_us.filter(|_| is_new)
    }
}
