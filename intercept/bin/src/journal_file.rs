//! The journal on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use intercept_lib::journal;
use intercept_lib::table::SessionTable;
use nix::fcntl::{Flock, FlockArg};

use crate::error::Error;

/// Length below which a journal is not rewritten, in bytes.
const MIN_REWRITE_LEN: u64 = 4 << 20;
/// How many times longer than what it says a journal may become before it is rewritten.
const REWRITE_FACTOR: u64 = 4;

/// The journal of a running intercept: appended to, and rewritten when it has grown.
#[derive(Debug)]
pub(crate) struct JournalFile {
    path: PathBuf,
    /// Held as long as this intercept lives, so that no other uses the journal.
    _lock: Flock<File>,
    file: File,
    len: u64,
    /// 0 when something is missing in it.
    rewrite_at: u64,
}

impl JournalFile {
    /// Opens the journal for a queue, reads what an earlier intercept left into the table, and
    /// starts a new one with that.
    ///
    /// # Errors
    /// [`Error::Locked`] when another intercept uses it, [`Error::Io`] otherwise.
    pub(crate) fn open(dir: &Path, queue: u16, table: &mut SessionTable) -> Result<Self, Error> {
        let path = dir.join(format!("queue-{queue}.journal"));
        let failed = |source| Error::io(format!("open the journal {}", path.display()), source);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed)?;
        let lock = open(&path.with_extension("lock")).map_err(failed)?;
        let lock =
            Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(
                |(_, errno)| match errno {
                    nix::errno::Errno::EWOULDBLOCK => Error::Locked {
                        what: "the journal",
                        path: path.clone(),
                        option: "--queue or --state-dir",
                    },
                    errno => failed(errno.into()),
                },
            )?;
        let mut bytes = Vec::new();
        open(&path)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(failed)?;
        let now = Instant::now();
        let damaged = journal::replay(&bytes, |record| table.load(now, record));
        if damaged > 0 {
            tracing::warn!(path = %path.display(), damaged, "skipped damaged bytes of the journal");
        }
        let mut snapshot = Vec::new();
        table.snapshot(&mut snapshot);
        let file = rewrite(&path, &snapshot).map_err(failed)?;
        let len = snapshot.len() as u64;
        Ok(Self {
            _lock: lock,
            file,
            len,
            rewrite_at: rewrite_at(len),
            path,
        })
    }

    /// Appends records with one write. What fails leaves the journal due to be rewritten.
    pub(crate) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if !records.is_empty() {
            if let Err(error) = self.file.write_all(records) {
                self.rewrite_at = 0;
                return Err(error);
            }
            self.len += records.len() as u64;
        }
        Ok(())
    }

    /// Whether [`Self::replace`] is due: the journal has grown too much, or something is missing.
    pub(crate) const fn wants_rewrite(&self) -> bool {
        self.len >= self.rewrite_at
    }

    /// Replaces all there is by a snapshot of the table.
    pub(crate) fn replace(&mut self, snapshot: &[u8]) -> io::Result<()> {
        self.file = rewrite(&self.path, snapshot)?;
        self.len = snapshot.len() as u64;
        self.rewrite_at = rewrite_at(self.len);
        Ok(())
    }

    /// Removes the journal: every session was reset.
    pub(crate) fn remove(self) {
        // What can't be removed is read at the next start, and does no harm there.
        let _ = fs::remove_file(&self.path);
    }
}

fn rewrite_at(len: u64) -> u64 {
    (len * REWRITE_FACTOR).max(MIN_REWRITE_LEN)
}

/// Writes a snapshot into a new file that takes the journal's place.
fn rewrite(path: &Path, snapshot: &[u8]) -> io::Result<File> {
    let new_path = path.with_extension("new");
    let mut file = open(&new_path)?;
    file.set_len(0)?;
    file.write_all(snapshot)?;
    fs::rename(&new_path, path)?;
    Ok(file)
}

/// Opens a file that only its owner may use, to read it and to append to it.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use intercept_lib::table::TableConfig;
    use intercept_lib::tunnel::Registration;
    use tcpcopy_packet::{Endpoint, FourTuple};

    fn table() -> SessionTable {
        SessionTable::new(TableConfig::default(), Instant::now())
    }

    fn register(table: &mut SessionTable, journal: &mut JournalFile, client_port: u16) {
        let client = Endpoint::new("198.51.100.9".parse().unwrap(), client_port);
        let target = Endpoint::new("192.0.2.1".parse().unwrap(), 80);
        let (link, _) = table.link_up(Instant::now(), 1, 0);
        let tuple = FourTuple::new(client, target);
        table
            .register(
                link,
                &Registration {
                    session: 1,
                    tuple,
                    iss: 5,
                },
            )
            .unwrap();
        let mut records = Vec::new();
        table.take_journal(&mut records);
        journal.append(&records).unwrap();
    }

    #[test]
    fn what_one_intercept_wrote_the_next_reads() {
        let dir = std::env::temp_dir().join(format!("intercept-journal-{}", std::process::id()));
        let mut first = table();
        let mut journal = JournalFile::open(&dir, 0, &mut first).unwrap();
        register(&mut first, &mut journal, 1000);
        let locked = JournalFile::open(&dir, 0, &mut table());
        assert!(matches!(locked, Err(Error::Locked { .. })), "{locked:?}");
        JournalFile::open(&dir, 1, &mut table()).unwrap();
        let mut snapshot = Vec::new();
        first.snapshot(&mut snapshot);
        journal.replace(&snapshot).unwrap();
        register(&mut first, &mut journal, 1001);
        journal.append(b"torn").unwrap();
        drop(journal);

        let mut second = table();
        let journal = JournalFile::open(&dir, 0, &mut second).unwrap();
        assert_eq!(second.counts().tombstones, 2);
        let mut journal = journal;
        assert!(!journal.wants_rewrite());
        journal.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        journal.append(b"lost").unwrap_err();
        assert!(journal.wants_rewrite(), "at once, and until it succeeds");
        snapshot.clear();
        second.snapshot(&mut snapshot);
        journal.replace(&snapshot).unwrap();
        assert!(!journal.wants_rewrite());
        journal.remove();
        let mut third = table();
        JournalFile::open(&dir, 0, &mut third).unwrap();
        assert_eq!(third.counts().tombstones, 0);
        fs::remove_dir_all(&dir).unwrap();
    }
}
