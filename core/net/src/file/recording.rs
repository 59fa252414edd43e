//! A recording: blocks of pcapng written to one file or to a row of files, within a bound on the
//! disk.
//!
//! The files of a row are called after the one that was named, with a number before the extension:
//! `web.pcapng` becomes `web-00001.pcapng`, `web-00002.pcapng`, and so on. Files that an earlier
//! recording of the same name left count as the oldest of the row.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::encoder::whole_blocks;

/// Digits of a file's number at least, so that the names are in order.
const NUMBER_WIDTH: usize = 5;
/// Recorded traffic is for its owner only.
const FILE_MODE: u32 = 0o600;
/// With a bound on all files and none on one, a file gets this part of it.
const KEPT_FILES_DEFAULT: u64 = 8;

/// When to begin another file, and how much to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// The most bytes of a file.
    pub file_bytes: Option<u64>,
    /// The longest time between the first packet of a file and its last.
    pub period: Option<Duration>,
    /// The most bytes of all files of the row; the oldest are removed.
    pub keep_bytes: Option<u64>,
    /// The most files of the row, the one being written included; the oldest are removed.
    pub keep_files: Option<u64>,
}

impl Rotation {
    /// Whether there is a row of files at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self != Self::default()
    }

    /// The most bytes of a file, such that the row keeps its bound.
    fn file_limit(&self) -> u64 {
        let of_all = self.keep_bytes.unwrap_or(u64::MAX);
        let share = self.keep_bytes.map(|bytes| bytes / KEPT_FILES_DEFAULT);
        self.file_bytes.or(share).unwrap_or(u64::MAX).min(of_all)
    }
}

/// What to record to.
#[derive(Clone, Debug)]
pub struct RecordingConfig {
    /// The file, or the name that the files of the row are called after.
    pub path: PathBuf,
    /// When to begin another file.
    pub rotation: Rotation,
    /// What each file begins with, as [`PcapngEncoder::header`](super::PcapngEncoder::header) made
    /// it.
    pub header: Vec<u8>,
}

/// What a recording has left so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Packets written, those of removed files included.
    pub packets: u64,
    /// Bytes written, those of removed files included.
    pub bytes: u64,
    /// Files begun.
    pub files: u64,
    /// Files removed to keep the bound, those of earlier recordings included.
    pub removed_files: u64,
    /// Their bytes.
    pub removed_bytes: u64,
}

/// A recording can't go on. What was written before is whole and stays.
#[derive(Debug, thiserror::Error)]
#[error("can't {action} {}: {source}{}", path.display(), before(kept))]
pub struct RecordingError {
    /// What was tried.
    pub action: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is on the disk.
    pub kept: Kept,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

fn before(kept: &Kept) -> String {
    match kept.files {
        0 => String::new(),
        _ => format!("; {} packets were recorded before", kept.packets),
    }
}

/// Files being written.
pub struct Recording {
    config: RecordingConfig,
    sink: Sink,
    /// The file being written.
    path: PathBuf,
    /// Its bytes so far.
    length: u64,
    /// The time of its first packet.
    begun_ns: Option<u64>,
    /// The number of the next file.
    next_number: u64,
    /// Files of the row that are complete, the oldest first, with their bytes.
    complete: VecDeque<(PathBuf, u64)>,
    kept: Kept,
}

enum Sink {
    File(File),
    Stream(Box<dyn Write + Send>),
}

impl Recording {
    /// Creates the first file. A single file that exists is overwritten; a row goes on with the
    /// number after the last.
    ///
    /// # Errors
    /// [`RecordingError`] if the file can't be created or written.
    pub fn create(config: RecordingConfig) -> Result<Self, RecordingError> {
        let failed = |action, path: &Path, source| RecordingError {
            action,
            path: path.to_owned(),
            kept: Kept::default(),
            source,
        };
        let is_row = config.rotation.is_on();
        let left = if is_row {
            files_of_row(&config.path)
                .map_err(|error| failed("list the files beside", &config.path, error))?
        } else {
            Vec::new()
        };
        let next_number = left.last().map_or(1, |(number, ..)| number + 1);
        let mut recording = Self {
            sink: Sink::Stream(Box::new(io::sink())),
            path: config.path.clone(),
            length: 0,
            begun_ns: None,
            next_number,
            complete: left
                .into_iter()
                .map(|(_, path, bytes)| (path, bytes))
                .collect(),
            kept: Kept::default(),
            config,
        };
        recording.begin_file()?;
        Ok(recording)
    }

    /// Records to a stream, such as standard output.
    ///
    /// # Errors
    /// [`RecordingError`] if nothing can be written to it.
    pub fn to_stream(
        name: &str,
        stream: impl Write + Send + 'static,
        header: Vec<u8>,
    ) -> Result<Self, RecordingError> {
        let mut recording = Self {
            config: RecordingConfig {
                path: name.into(),
                rotation: Rotation::default(),
                header,
            },
            sink: Sink::Stream(Box::new(stream)),
            path: name.into(),
            length: 0,
            begun_ns: None,
            next_number: 1,
            complete: VecDeque::new(),
            kept: Kept {
                files: 1,
                ..Kept::default()
            },
        };
        let header = recording.config.header.clone();
        recording.put(&header)?;
        Ok(recording)
    }

    /// Writes whole blocks, some of which are `packets`, the newest of `time_ns` nanoseconds since
    /// the Unix epoch; begins another file first where it is time to.
    ///
    /// # Errors
    /// [`RecordingError`], as on a full disk; the file then ends with the last whole block.
    pub fn write(
        &mut self,
        blocks: &[u8],
        packets: u64,
        time_ns: u64,
    ) -> Result<(), RecordingError> {
        if self.is_full(blocks.len() as u64, time_ns) {
            self.finish_file();
            self.begin_file()?;
        }
        self.begun_ns.get_or_insert(time_ns);
        self.put(blocks)?;
        self.kept.packets += packets;
        Ok(())
    }

    /// Writes the last blocks and waits until the disk has everything.
    ///
    /// # Errors
    /// [`RecordingError`].
    pub fn close(mut self, last_blocks: &[u8]) -> Result<Kept, RecordingError> {
        self.put(last_blocks)?;
        let flushed = match &mut self.sink {
            Sink::File(file) => match file.sync_data() {
                // Pipes and devices can't.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
                other => other,
            },
            Sink::Stream(stream) => stream.flush(),
        };
        match flushed {
            Ok(()) => Ok(self.kept),
            Err(error) => Err(self.failed("write to", error)),
        }
    }

    /// What has been written so far.
    #[must_use]
    pub fn kept(&self) -> Kept {
        self.kept
    }

    /// The file being written.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn is_full(&self, more: u64, time_ns: u64) -> bool {
        let rotation = &self.config.rotation;
        let Some(begun_ns) = self.begun_ns.filter(|_| rotation.is_on()) else {
            return false;
        };
        let age = Duration::from_nanos(time_ns.saturating_sub(begun_ns));
        self.length + more > rotation.file_limit()
            || rotation.period.is_some_and(|period| age >= period)
    }

    fn finish_file(&mut self) {
        let path = std::mem::take(&mut self.path);
        self.complete.push_back((path, self.length));
    }

    /// Creates the next file, once there is room for it.
    fn begin_file(&mut self) -> Result<(), RecordingError> {
        let mut options = OpenOptions::new();
        options.write(true).mode(FILE_MODE);
        if self.config.rotation.is_on() {
            self.make_room()?;
            self.path = numbered(&self.config.path, self.next_number);
            self.next_number += 1;
            options.create_new(true);
        } else {
            options.create(true).truncate(true);
        }
        let file = match options.open(&self.path) {
            Ok(file) => file,
            Err(error) => return Err(self.failed("create", error)),
        };
        self.sink = Sink::File(file);
        self.length = 0;
        self.begun_ns = None;
        self.kept.files += 1;
        let header = std::mem::take(&mut self.config.header);
        let written = self.put(&header);
        self.config.header = header;
        written
    }

    /// Removes the oldest files until another one fits the bounds.
    fn make_room(&mut self) -> Result<(), RecordingError> {
        let rotation = self.config.rotation;
        let limit = rotation
            .keep_bytes
            .map(|bytes| bytes - rotation.file_limit());
        let most = rotation.keep_files.map(|files| files.saturating_sub(1));
        loop {
            let bytes: u64 = self.complete.iter().map(|(_, bytes)| bytes).sum();
            let fits = limit.is_none_or(|limit| bytes <= limit)
                && most.is_none_or(|most| self.complete.len() as u64 <= most);
            if fits {
                return Ok(());
            }
            let Some((path, bytes)) = self.complete.pop_front() else {
                return Ok(());
            };
            match fs::remove_file(&path) {
                Ok(()) => {
                    self.kept.removed_files += 1;
                    self.kept.removed_bytes += bytes;
                }
                // Somebody else has taken it away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(RecordingError {
                        action: "remove the oldest file",
                        path,
                        kept: self.kept,
                        source,
                    });
                }
            }
        }
    }

    /// Writes all of it, or as many whole blocks as there is room for.
    fn put(&mut self, blocks: &[u8]) -> Result<(), RecordingError> {
        let mut written = 0;
        while written < blocks.len() {
            let result = match &mut self.sink {
                Sink::File(file) => file.write(&blocks[written..]),
                Sink::Stream(stream) => stream.write(&blocks[written..]),
            };
            match result {
                Ok(0) => return Err(self.cut(&blocks[..written], io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.cut(&blocks[..written], error)),
            }
        }
        self.length += blocks.len() as u64;
        self.kept.bytes += blocks.len() as u64;
        Ok(())
    }

    /// Takes the torn block off the end of the file.
    fn cut(&mut self, written: &[u8], error: io::Error) -> RecordingError {
        let (whole, packets) = whole_blocks(written);
        self.length += whole as u64;
        self.kept.bytes += whole as u64;
        self.kept.packets += packets;
        if let Sink::File(file) = &self.sink {
            // Where that fails, a reader finds the torn block and says so.
            let _ = file.set_len(self.length);
        }
        self.failed("write to", error)
    }

    fn failed(&self, action: &'static str, source: io::Error) -> RecordingError {
        RecordingError {
            action,
            path: self.path.clone(),
            kept: self.kept,
            source,
        }
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording")
            .field("path", &self.path)
            .field("length", &self.length)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

/// The name of a file of the row.
fn numbered(path: &Path, number: u64) -> PathBuf {
    let (before, after) = around_number(path);
    path.with_file_name(format!("{before}{number:0NUMBER_WIDTH$}{after}"))
}

/// What stands before and after the number in the names of a row.
fn around_number(path: &Path) -> (String, String) {
    let text =
        |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let stem = text(path.file_stem()).unwrap_or_default();
    let extension = text(path.extension()).map(|extension| format!(".{extension}"));
    (format!("{stem}-"), extension.unwrap_or_default())
}

/// The files of the row that exist: number, path and length, in order.
fn files_of_row(path: &Path) -> io::Result<Vec<(u64, PathBuf, u64)>> {
    let (before, after) = around_number(path);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| {
                name.strip_prefix(before.as_str())?
                    .strip_suffix(after.as_str())
            })
            .filter(|digits| digits.len() >= NUMBER_WIDTH)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok());
        let metadata = entry.metadata()?;
        if let Some(number) = number.filter(|_| metadata.is_file()) {
            found.push((number, directory.join(name), metadata.len()));
        }
    }
    found.sort();
    Ok(found)
}
