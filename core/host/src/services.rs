//! What the host answers a plugin at once, in the middle of a call: the same for both forms.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::mem;
use std::sync::Arc;

use plugin_api::Level;

use crate::limits::Limits;
use crate::share::{Mailbox, Share};

/// What one instance may ask for.
#[derive(Debug)]
pub(crate) struct Services {
    plugin: Arc<str>,
    /// The time of the call that is under way, in microseconds.
    pub(crate) now: u64,
    share: Arc<Share>,
    mailbox: Option<Arc<Mailbox>>,
    drawn: u64,
    log: Log,
    /// The current window of the log, and how many lines have gone in.
    window: u64,
    lines: u32,
    dropped_lines: u64,
}

/// Where a plugin's lines go.
#[derive(Debug)]
enum Log {
    Common,
    Kept(Vec<(Level, String)>),
}

impl Services {
    /// For an engine's instance.
    pub(crate) fn new(plugin: Arc<str>, share: Arc<Share>, mailbox: Option<Arc<Mailbox>>) -> Self {
        Self {
            plugin,
            now: 0,
            share,
            mailbox,
            drawn: RandomState::new().build_hasher().finish(),
            log: Log::Common,
            window: 0,
            lines: 0,
            dropped_lines: 0,
        }
    }

    /// For a rehearsal: randomness that is the same each time, as in the testkit, and a log that is
    /// kept.
    pub(crate) fn for_rehearsal(plugin: Arc<str>, share: Arc<Share>) -> Self {
        Self {
            drawn: 0,
            log: Log::Kept(Vec::new()),
            ..Self::new(plugin, share, None)
        }
    }

    /// The instance is an engine's from here on.
    pub(crate) fn set_mailbox(&mut self, mailbox: Arc<Mailbox>) {
        self.mailbox = Some(mailbox);
    }

    /// Random bits: SplitMix64, from a seed that nobody knows.
    pub(crate) fn random(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.drawn ^ (self.drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Writes a line to the log, unless there have been too many.
    pub(crate) fn log(&mut self, level: Level, message: &str) {
        let window = self.now / Limits::LOG_WINDOW.as_micros() as u64;
        if window != mem::replace(&mut self.window, window) {
            self.lines = 0;
        }
        let message = cut(message, Limits::LOG_LINE_BYTES);
        let plugin = &*self.plugin;
        match &mut self.log {
            Log::Kept(lines) => return lines.push((level, message.to_owned())),
            Log::Common if self.lines >= Limits::LOG_LINES => {
                self.dropped_lines += 1;
                return;
            }
            Log::Common => {}
        }
        // Lines that nobody has asked to see must not use up the others' share.
        match level {
            Level::Error => tracing::error!(plugin, "{message}"),
            Level::Warn => tracing::warn!(plugin, "{message}"),
            Level::Info => tracing::info!(plugin, "{message}"),
            Level::Debug => return tracing::debug!(plugin, "{message}"),
            Level::Trace => return tracing::trace!(plugin, "{message}"),
        }
        self.lines += 1;
    }

    /// Takes the number of lines that were not written since the last time.
    pub(crate) fn take_dropped_lines(&mut self) -> u64 {
        mem::take(&mut self.dropped_lines)
    }

    /// Takes the lines that a rehearsal has kept.
    pub(crate) fn take_log(&mut self) -> Vec<(Level, String)> {
        match &mut self.log {
            Log::Common => Vec::new(),
            Log::Kept(lines) => mem::take(lines),
        }
    }

    pub(crate) fn share_get<R>(&self, key: &[u8], found: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.share.look(self.now, key, found)
    }

    pub(crate) fn share_take(&self, key: &[u8]) -> Option<Box<[u8]>> {
        self.share.take(self.now, key)
    }

    pub(crate) fn share_set(&self, key: &[u8], value: &[u8], expiry_us: u64) -> bool {
        let mailbox = self.mailbox.as_ref();
        self.share.set(self.now, key, value, expiry_us, mailbox)
    }
}

/// As much of a text as fits.
fn cut(text: &str, bytes: usize) -> &str {
    let mut length = text.len().min(bytes);
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    &text[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsal_draws_what_the_testkit_draws() {
        let share = Share::new(&Limits::default());
        let mut first = Services::for_rehearsal("x".into(), Arc::clone(&share));
        // SplitMix64 from 0, as published.
        assert_eq!(first.random(), 0xe220_a839_7b1d_cdaf);
        let mut other = Services::new("x".into(), share, None);
        assert_ne!(first.random(), other.random());
    }

    #[test]
    fn long_lines_are_cut_and_floods_counted() {
        let share = Share::new(&Limits::default());
        let mut kept = Services::for_rehearsal("x".into(), Arc::clone(&share));
        kept.log(Level::Info, &"é".repeat(Limits::LOG_LINE_BYTES));
        assert_eq!(kept.take_log()[0].1.len(), Limits::LOG_LINE_BYTES);

        let mut common = Services::new("x".into(), share, None);
        for _ in 0..Limits::LOG_LINES + 5 {
            common.log(Level::Warn, "again");
        }
        assert_eq!(common.take_dropped_lines(), 5);
        common.now = Limits::LOG_WINDOW.as_micros() as u64;
        common.log(Level::Warn, "again");
        assert_eq!(common.take_dropped_lines(), 0);
    }
}
