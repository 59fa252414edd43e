//! The application behind the model target: reads messages, answers each by its class.

use std::collections::VecDeque;

use super::config::{Finish, Reader, TargetConfig};
use crate::conversation::{answer_bytes, message_end};
use crate::events::Micros;

/// What the application asks of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppAction {
    /// Write so many bytes.
    Write(u64),
    /// Close the sending direction, go on reading.
    Shutdown,
    /// Close both directions.
    Close,
    /// Reset.
    Abort,
}

/// One connection's application.
#[derive(Debug)]
pub(crate) struct App {
    reader: Reader,
    finish: Finish,
    service_us: Micros,
    answer_percent: u64,
    /// Stream bytes read so far.
    pub(crate) read: u64,
    /// No reading before this moment.
    read_at_us: Micros,
    paused: bool,
    messages: u64,
    answers: VecDeque<(Micros, u64)>,
    client_closed_us: Option<Micros>,
    late_data_written: bool,
    last_activity_us: Micros,
    writing_closed: bool,
    finished: bool,
}

impl App {
    pub(crate) fn new(config: &TargetConfig, now_us: Micros) -> Self {
        let greeting = (config.greeting_bytes > 0).then_some((now_us, config.greeting_bytes));
        Self {
            reader: config.reader,
            finish: config.finish,
            service_us: config.service_us,
            answer_percent: config.answer_percent,
            read: 0,
            read_at_us: 0,
            paused: false,
            messages: 0,
            answers: greeting.into_iter().collect(),
            client_closed_us: None,
            late_data_written: false,
            last_activity_us: now_us,
            writing_closed: false,
            finished: false,
        }
    }

    /// The client's FIN has come, after all its data.
    pub(crate) fn client_closed(&mut self, now_us: Micros) {
        self.client_closed_us.get_or_insert(now_us);
    }

    /// Reads what it may of `stream`, the connection's bytes in order so far.
    pub(crate) fn read(&mut self, now_us: Micros, stream: &[u8]) {
        let arrived = stream.len() as u64;
        while self.read < arrived && now_us >= self.read_at_us && !self.finished {
            let mut end = arrived;
            match self.reader {
                Reader::Fast => {}
                Reader::Slow { bytes, interval_us } => {
                    end = end.min(self.read + bytes);
                    self.read_at_us = now_us + interval_us;
                }
                Reader::Pauses {
                    after_bytes,
                    pause_us,
                } if !self.paused => {
                    end = end.min(after_bytes.max(1));
                    if end == after_bytes.max(1) {
                        self.paused = true;
                        self.read_at_us = now_us + pause_us;
                    }
                }
                Reader::Pauses { .. } => {}
            }
            self.take(now_us, stream, end);
        }
    }

    fn take(&mut self, now_us: Micros, stream: &[u8], end: u64) {
        self.last_activity_us = now_us;
        let [from, to] = [self.read, end].map(|at| usize::try_from(at).expect("in memory"));
        for class in stream[from..to].iter().copied().filter_map(message_end) {
            self.messages += 1;
            let bytes = (answer_bytes(class) * self.answer_percent).div_ceil(100);
            if bytes > 0 && !self.writing_closed {
                self.answers.push_back((now_us + self.service_us, bytes));
            }
        }
        self.read = end;
    }

    /// What it does now, if anything; call again until nothing is left.
    pub(crate) fn act(&mut self, now_us: Micros) -> Option<AppAction> {
        if self.finished {
            return None;
        }
        if let Some(&(at_us, bytes)) = self.answers.front()
            && now_us >= at_us
        {
            self.answers.pop_front();
            self.last_activity_us = now_us;
            return Some(AppAction::Write(bytes));
        }
        let action = self.finishing(now_us)?;
        match action {
            AppAction::Write(_) => {}
            AppAction::Shutdown => {
                self.writing_closed = true;
                self.finish = Finish::AfterClient;
            }
            AppAction::Close | AppAction::Abort => self.finished = true,
        }
        Some(action)
    }

    fn finishing(&mut self, now_us: Micros) -> Option<AppAction> {
        let answered = self.answers.is_empty();
        match self.finish {
            Finish::ResetAfter { bytes } if self.read >= bytes => Some(AppAction::Abort),
            Finish::CloseAfter { messages } if answered && self.messages >= messages => {
                Some(AppAction::Close)
            }
            Finish::ShutdownAfter { messages } if answered && self.messages >= messages => {
                Some(AppAction::Shutdown)
            }
            Finish::CloseIdle { idle_us } if now_us >= self.last_activity_us + idle_us => {
                Some(AppAction::Close)
            }
            Finish::LateData { delay_us, bytes } => {
                let closed_us = self.client_closed_us.filter(|_| answered)?;
                if self.late_data_written {
                    return Some(AppAction::Close);
                }
                (now_us >= closed_us + delay_us).then(|| {
                    self.late_data_written = true;
                    AppAction::Write(bytes)
                })
            }
            _ => (self.client_closed_us.is_some() && answered).then_some(AppAction::Close),
        }
    }

    /// When it next does something of its own accord; `arrived` is the stream's length.
    pub(crate) fn next_at(&self, arrived: u64) -> Option<Micros> {
        if self.finished {
            return None;
        }
        let read = (self.read < arrived).then_some(self.read_at_us);
        let answer = self.answers.front().map(|&(at_us, _)| at_us);
        let finish = match self.finish {
            Finish::CloseIdle { idle_us } => Some(self.last_activity_us + idle_us),
            Finish::LateData { delay_us, .. } => self
                .client_closed_us
                .filter(|_| self.answers.is_empty())
                .map(|at| at + delay_us),
            _ => None,
        };
        [read, answer, finish].into_iter().flatten().min()
    }
}
