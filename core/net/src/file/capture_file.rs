//! One capture file, read frame by frame.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::FileError;
use super::classic::Classic;
use super::error::{Cause, Fault, Problem};
use super::pcapng::Pcapng;
use super::source::Source;

/// What is read: a file, or what another program writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input; it can be read once.
    StandardInput,
    /// A file, or a pipe with a name.
    Path(PathBuf),
}

impl Input {
    /// Opens it, without reading anything.
    ///
    /// # Errors
    /// [`FileError::Open`].
    pub fn open(&self) -> Result<OpenInput, FileError> {
        let name = self.to_string();
        let opened = match self {
            // A process that goes to the background replaces its standard input.
            Self::StandardInput => io::stdin()
                .as_fd()
                .try_clone_to_owned()
                .map(|descriptor| (None, File::from(descriptor))),
            Self::Path(path) => open_path(path),
        };
        match opened {
            Ok((len_bytes, file)) => Ok(OpenInput {
                name,
                file,
                len_bytes,
            }),
            Err(source) => Err(FileError::Open { name, source }),
        }
    }
}

/// Opens a file, with its length unless it is a stream.
fn open_path(path: &Path) -> io::Result<(Option<u64>, File)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok((metadata.is_file().then_some(metadata.len()), file))
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StandardInput => f.write_str("standard input"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// An open input. A regular file can be read several times, even by a process that could not open
/// it any more.
#[derive(Debug)]
pub struct OpenInput {
    name: String,
    file: File,
    len_bytes: Option<u64>,
}

impl OpenInput {
    /// Begins to read it, a regular file from its begin; on a stream this waits for the first bytes.
    /// What an earlier call has returned must not be read any more.
    ///
    /// # Errors
    /// [`FileError`] if it can't be read or is no capture file.
    pub fn read(&self) -> Result<CaptureFile, FileError> {
        let again = || {
            let mut file = self.file.try_clone()?;
            if !self.is_stream() {
                file.rewind()?;
            }
            Ok(file)
        };
        match again() {
            Ok(file) => CaptureFile::from_reader(self.name.clone(), file),
            Err(source) => Err(FileError::Open {
                name: self.name.clone(),
                source,
            }),
        }
    }

    /// Whether it can be read once only, as standard input and pipes.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.len_bytes.is_none()
    }

    /// The length of the file as it was opened, in bytes; none for a stream.
    #[must_use]
    pub fn len_bytes(&self) -> Option<u64> {
        self.len_bytes
    }

    /// What errors call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A frame of a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFrame<'a> {
    /// When it was captured, in nanoseconds since the Unix epoch. Within a file no frame is earlier
    /// than the one before.
    pub time_ns: u64,
    /// How it is framed: the number that libpcap's list of link types has for it.
    pub link_type: u16,
    /// Its bytes from the link header on: `original_len` of them, or fewer if it was cut short.
    pub frame: &'a [u8],
    /// Its length when it passed the device, in bytes.
    pub original_len: u32,
}

impl FileFrame<'_> {
    /// Whether the capture kept a part of it only.
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        (self.frame.len() as u64) < u64::from(self.original_len)
    }
}

/// How the reading of a file has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCounters {
    /// Frames so far.
    pub frames: u64,
    /// Frames whose time was before that of the frame before, which was taken instead.
    pub backwards: u64,
    /// Frames that have no time in the file; that of the frame before was taken.
    pub without_time: u64,
    /// Frames of which the capture kept a part only.
    pub cut_short: u64,
}

impl FileCounters {
    /// Adds another file's, or another round's.
    pub fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.backwards += other.backwards;
        self.without_time += other.without_time;
        self.cut_short += other.cut_short;
    }
}

/// What a format tells of a frame beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameInfo {
    /// `None` where the file does not tell.
    pub(super) time_ns: Option<u64>,
    pub(super) link_type: u16,
    pub(super) original_len: u32,
}

/// A capture file and where it has been read to.
#[derive(Debug)]
pub struct CaptureFile {
    name: String,
    source: Source,
    format: Format,
    /// The bytes of the frame at hand.
    frame: Vec<u8>,
    /// The rest of it; `None` before the first and after the last.
    info: Option<(u64, FrameInfo)>,
    last_time_ns: u64,
    counters: FileCounters,
    has_ended: bool,
}

#[derive(Debug)]
enum Format {
    Classic(Classic),
    Pcapng(Pcapng),
}

impl CaptureFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`FileError`] if it can't be opened or is no capture file.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Input::Path(path.to_owned()).open()?.read()
    }

    /// Reads a capture file from anywhere; `name` is what errors call it.
    ///
    /// # Errors
    /// [`FileError`] if it is no capture file.
    pub fn from_reader(
        name: String,
        reader: impl Read + Send + 'static,
    ) -> Result<Self, FileError> {
        let mut source = match Source::new(reader) {
            Ok(source) => source,
            Err(fault) => return Err(file_error(&name, false, fault)),
        };
        match Format::recognise(&mut source) {
            Ok(format) => Ok(Self {
                name,
                source,
                format,
                frame: Vec::new(),
                info: None,
                last_time_ns: 0,
                counters: FileCounters::default(),
                has_ended: false,
            }),
            Err(fault) => Err(file_error(&name, source.is_compressed(), fault)),
        }
    }

    /// Reads on to the next frame and tells whether there is one.
    ///
    /// # Errors
    /// [`FileError`] once, where the file is broken; it ends there.
    pub fn advance(&mut self) -> Result<bool, FileError> {
        self.info = None;
        if self.has_ended {
            return Ok(false);
        }
        let read = match &mut self.format {
            Format::Classic(classic) => classic.advance(&mut self.source, &mut self.frame),
            Format::Pcapng(pcapng) => pcapng.advance(&mut self.source, &mut self.frame),
        };
        match read {
            Ok(Some(info)) => {
                self.take(info);
                Ok(true)
            }
            Ok(None) => {
                self.has_ended = true;
                Ok(false)
            }
            Err(fault) => {
                self.has_ended = true;
                Err(file_error(&self.name, self.source.is_compressed(), fault))
            }
        }
    }

    /// The frame that [`Self::advance`] has read.
    #[must_use]
    pub fn frame(&self) -> Option<FileFrame<'_>> {
        self.info.map(|(time_ns, info)| FileFrame {
            time_ns,
            link_type: info.link_type,
            frame: &self.frame,
            original_len: info.original_len,
        })
    }

    /// Reads on to the next frame and returns it; `None` at the end.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn next_frame(&mut self) -> Result<Option<FileFrame<'_>>, FileError> {
        self.advance()?;
        Ok(self.frame())
    }

    /// The link type of all frames, if the file has only one by its format.
    #[must_use]
    pub fn link_type(&self) -> Option<u16> {
        match &self.format {
            Format::Classic(classic) => Some(classic.link_type()),
            Format::Pcapng(_) => None,
        }
    }

    /// How many bytes of the file itself, compressed as it is, have been read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.source.position()
    }

    /// How the reading has gone so far.
    #[must_use]
    pub fn counters(&self) -> FileCounters {
        self.counters
    }

    /// What errors call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn take(&mut self, info: FrameInfo) {
        let time_ns = info.time_ns.unwrap_or(self.last_time_ns);
        self.counters.frames += 1;
        self.counters.backwards += u64::from(time_ns < self.last_time_ns);
        self.counters.without_time += u64::from(info.time_ns.is_none());
        self.last_time_ns = self.last_time_ns.max(time_ns);
        self.info = Some((self.last_time_ns, info));
        let cut_short = self.frame().is_some_and(|frame| frame.is_cut_short());
        self.counters.cut_short += u64::from(cut_short);
    }
}

impl Format {
    fn recognise(source: &mut Source) -> Result<Self, Fault> {
        let mut magic = [0; 4];
        let broken = |cause| Fault { offset: 0, cause };
        let length = source.read(&mut magic).map_err(broken)?;
        if length == 0 {
            return Err(broken(Cause::Content(Problem::Empty)));
        }
        if Classic::begins_with(magic) {
            Classic::open(magic, source).map(Self::Classic)
        } else if Pcapng::begins_with(magic) {
            Pcapng::open(source).map(Self::Pcapng)
        } else {
            Err(broken(Cause::Content(Problem::UnknownFormat(magic))))
        }
    }
}

fn file_error(name: &str, compressed: bool, fault: Fault) -> FileError {
    let (name, offset) = (name.to_owned(), fault.offset);
    match fault.cause {
        Cause::System(source) => FileError::Read {
            name,
            offset,
            source,
        },
        Cause::Content(problem) => FileError::Broken {
            name,
            offset,
            compressed,
            problem,
        },
    }
}
