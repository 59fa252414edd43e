//! Running in the background, and the file that names the process.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::StartError;

/// Goes on in a child process without terminal, in the root directory, with standard input, output
/// and error closed. No thread may run yet; open files and locks stay.
///
/// # Errors
/// [`StartError::System`].
pub fn detach() -> Result<(), StartError> {
    nix::unistd::daemon(false, false).map_err(|source| StartError::System {
        action: "go to the background",
        source: source.into(),
    })
}

/// The pid file, locked as long as this value lives and removed with it.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: Flock<File>,
}

impl PidFile {
    /// Creates or takes over the file and locks it. What a killed process left is no obstacle,
    /// since its lock died with it.
    ///
    /// # Errors
    /// [`StartError::AlreadyRunning`] when another process holds the lock, else
    /// [`StartError::File`].
    pub fn lock(path: &Path) -> Result<Self, StartError> {
        let failed = |source: io::Error| StartError::File {
            action: "open the pid file",
            path: path.to_owned(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
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
            Err((_, Errno::EWOULDBLOCK)) => Err(StartError::AlreadyRunning(path.to_owned())),
            Err((_, error)) => Err(failed(error.into())),
        }
    }

    /// Writes the number of this process; to be called after [`detach`].
    ///
    /// # Errors
    /// [`StartError::File`].
    pub fn write(&mut self) -> Result<(), StartError> {
        let written = self.replace(&format!("{}\n", std::process::id()));
        written.map_err(|source| StartError::File {
            action: "write the pid file",
            path: self.path.clone(),
            source,
        })
    }

    fn replace(&mut self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }
}

impl Drop for PidFile {
    /// Without the privilege to remove the file it is left empty.
    fn drop(&mut self) {
        if std::fs::remove_file(&self.path).is_err() {
            let _ = self.replace("");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_is_locked_written_and_removed() {
        let name = format!("tcpcopy-pid-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "4711, left by a killed process\n").unwrap();
        let mut file = PidFile::lock(&path).unwrap();
        file.write().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        let second = PidFile::lock(&path);
        assert!(
            matches!(second, Err(StartError::AlreadyRunning(_))),
            "{second:?}"
        );
        drop(file);
        assert!(!path.exists());
    }
}
