//! Several capture files as one, in the order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{CaptureFile, FileCounters, FileError, FileFrame, OpenInput};

/// Capture files whose frames come in the order of their times; of frames of the same time that of
/// the file named first comes first.
#[derive(Debug)]
pub struct MergedFiles {
    files: Vec<CaptureFile>,
    /// The files that have a frame at hand, by its time.
    ready: BinaryHeap<Reverse<(u64, usize)>>,
    /// The files whose frame at hand is used up.
    behind: Vec<usize>,
}

impl MergedFiles {
    /// Begins to read them all.
    ///
    /// # Errors
    /// [`FileError`] for the first that can't be read or is no capture file.
    pub fn read(inputs: &[OpenInput]) -> Result<Self, FileError> {
        let files: Result<_, _> = inputs.iter().map(OpenInput::read).collect();
        files.map(Self::new)
    }

    /// Merges open files.
    #[must_use]
    pub fn new(files: Vec<CaptureFile>) -> Self {
        Self {
            ready: BinaryHeap::with_capacity(files.len()),
            behind: (0..files.len()).rev().collect(),
            files,
        }
    }

    /// The next frame of all; `None` when every file has ended.
    ///
    /// # Errors
    /// [`FileError`] once for each file that is broken, where it is; the others go on when this is
    /// called again.
    pub fn next_frame(&mut self) -> Result<Option<FileFrame<'_>>, FileError> {
        while let Some(index) = self.behind.pop() {
            self.files[index].advance()?;
            if let Some(frame) = self.files[index].frame() {
                self.ready.push(Reverse((frame.time_ns, index)));
            }
        }
        let Some(Reverse((_, index))) = self.ready.pop() else {
            return Ok(None);
        };
        self.behind.push(index);
        Ok(self.files[index].frame())
    }

    /// How many bytes of the files themselves, compressed as they are, have been read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.files.iter().map(CaptureFile::position).sum()
    }

    /// How the reading has gone so far, of all files together.
    #[must_use]
    pub fn counters(&self) -> FileCounters {
        let mut sum = FileCounters::default();
        self.files.iter().for_each(|file| sum.add(&file.counters()));
        sum
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &[CaptureFile] {
        &self.files
    }
}
