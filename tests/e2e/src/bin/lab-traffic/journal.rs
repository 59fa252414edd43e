//! A file to which many threads and processes add lines.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// An open journal; every line is one write at the end of the file, so that none is torn.
#[derive(Debug)]
pub(crate) struct Journal(File);

impl Journal {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map(Self)
    }

    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        (&self.0).write_all(format!("{text}\n").as_bytes())
    }
}
