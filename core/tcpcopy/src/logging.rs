//! The log: lines of `tracing` to standard error or a file, and the status line of a terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::Log;
use crate::error::StartError;
use crate::options::{LogFormat, LogLevel};

/// Takes the cursor to the start of the line and clears it.
const CLEAR_LINE: &str = "\r\x1b[K";

/// Where log lines go; cheap to clone.
#[derive(Clone, Debug)]
pub struct LogSink(Arc<Mutex<Sink>>);

#[derive(Debug)]
struct Sink {
    /// The file with its path, to open it anew; standard error without one.
    file: Option<(PathBuf, File)>,
    /// Whether the terminal's current line is a status line, to be cleared before a log line.
    status_shown: bool,
}

impl LogSink {
    /// Opens the log and makes it the destination of every `tracing` event of the process.
    ///
    /// # Errors
    /// [`StartError::File`] when the log file can't be opened.
    pub fn install(log: &Log) -> Result<Self, StartError> {
        let file = match &log.file {
            None => None,
            Some(path) => {
                let file = open(path).map_err(|source| StartError::File {
                    action: "open the log file",
                    path: path.clone(),
                    source,
                })?;
                Some((path.clone(), file))
            }
        };
        let colour = file.is_none()
            && io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let sink = Self(Arc::new(Mutex::new(Sink {
            file,
            status_shown: false,
        })));
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level(log.level))
            // A log that can't be written, as on a full disk, must end nobody.
            .log_internal_errors(false)
            .with_ansi(colour)
            .with_target(false)
            .with_writer(sink.clone());
        // A second installation, as between tests of one process, keeps the first.
        let _ = match log.format {
            LogFormat::Text => subscriber.try_init(),
            LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
        };
        Ok(sink)
    }

    /// Opens the log file anew, after it was moved away; the old one stays when that fails.
    ///
    /// # Errors
    /// What the system said.
    pub fn reopen(&self) -> io::Result<()> {
        let mut sink = self.lock();
        if let Some((path, file)) = &mut sink.file {
            *file = open(path)?;
        }
        Ok(())
    }

    /// Replaces the terminal's status line; one that can't be written is of no importance.
    pub fn show_status(&self, line: &str) {
        let mut sink = self.lock();
        sink.status_shown = true;
        let _ = write!(io::stderr(), "{CLEAR_LINE}{line}");
    }

    /// Takes the status line away.
    pub fn clear_status(&self) {
        self.lock().clear_status();
    }

    fn lock(&self) -> MutexGuard<'_, Sink> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    fn clear_status(&mut self) {
        if std::mem::take(&mut self.status_shown) {
            let _ = write!(io::stderr(), "{CLEAR_LINE}");
        }
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Holds the sink for the time of one event.
#[derive(Debug)]
pub struct LogWriter<'a>(MutexGuard<'a, Sink>);

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = LogWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LogWriter(self.lock())
    }
}

impl Write for LogWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0.file {
            Some((_, file)) => file.write(bytes),
            None => {
                self.0.clear_status();
                io::stderr().write(bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0.file {
            Some((_, file)) => file.flush(),
            None => io::stderr().flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_log_file_is_opened_anew() {
        let directory = std::env::temp_dir().join(format!("tcpcopy-log-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("log");
        let file = Some((path.clone(), open(&path).unwrap()));
        let sink = LogSink(Arc::new(Mutex::new(Sink {
            file,
            status_shown: false,
        })));
        sink.make_writer().write_all(b"first\n").unwrap();
        std::fs::rename(&path, directory.join("log.1")).unwrap();
        sink.make_writer().write_all(b"second\n").unwrap();
        sink.reopen().unwrap();
        sink.make_writer().write_all(b"third\n").unwrap();
        assert_eq!(
            std::fs::read_to_string(directory.join("log.1")).unwrap(),
            "first\nsecond\n"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "third\n");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
