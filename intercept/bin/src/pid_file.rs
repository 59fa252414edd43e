//! The file that tells the process number.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::Error;

/// A pid file, locked as long as this value lives.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    file: Flock<File>,
}

impl PidFile {
    /// Opens and locks the file.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it, [`Error::Io`] otherwise.
    pub(crate) fn lock(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::io(format!("open the pid file {}", path.display()), source);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                file,
            }),
            Err((_, Errno::EWOULDBLOCK)) => Err(Error::Locked {
                what: "the pid file",
                path: path.to_owned(),
                option: "--pid-file",
            }),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }

    /// Writes the number of this process.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn write(&mut self) -> Result<(), Error> {
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut self.file)
            .map_err(|source| Error::io(format!("write {}", self.path.display()), source))
    }

    /// Removes the file.
    pub(crate) fn remove(self) {
        // A file that stays is not locked, so it stands in nobody's way.
        let _ = fs::remove_file(&self.path);
    }
}
