//! What the lab needs and no package of the machine's Debian brings: fetched once by a registry's
//! ordinary client, and kept below cargo's target directory. Nothing is installed.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};

use crate::{LabError, Result, may_skip};

/// Finds what an earlier call has fetched, or fetches it.
///
/// `name` is its own directory below cargo's; `find` is given what is in it, whole, and `fetch` an
/// empty place whose content that will be. `missing` makes an error of a reason.
pub(crate) fn find_or_fetch<T>(
    name: &str,
    find: impl Fn(&Path) -> Option<T>,
    fetch: impl FnOnce(&Path) -> Result<(), String>,
    missing: impl Fn(&str) -> LabError,
) -> Result<T> {
    let home = home().join(name);
    let root = home.join("root");
    if let Some(found) = find(&root) {
        return Ok(found);
    }
    fs::create_dir_all(&home).map_err(|cause| LabError::io("make", home.display(), cause))?;
    // One of all tests that run now fetches it; the others wait.
    let lock = home.join("lock");
    let file = File::create(&lock).map_err(|cause| LabError::io("make", lock.display(), cause))?;
    let _lock = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| LabError::io("lock", lock.display(), errno.into()))?;
    if let Some(found) = find(&root) {
        return Ok(found);
    }
    let work = home.join("work");
    // What an earlier try, or an earlier version, has left.
    let _ = fs::remove_dir_all(&work);
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&work)
        .map_err(|cause| cause.to_string())
        .and_then(|()| fetch(&work))
        .and_then(|()| fs::rename(&work, &root).map_err(|cause| cause.to_string()))
        .map_err(|reason| missing(&reason))?;
    find(&root).ok_or_else(|| missing("what was fetched is not it"))
}

/// Whether a test can have what was looked for; where not, and the test may do without, it prints
/// why.
///
/// # Panics
/// When it can't be had and `CI` is set.
pub(crate) fn for_test<T>(what: &str, found: Result<T>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(reason) if may_skip() => {
            // Not `eprintln!`: the test harness would keep it to itself.
            let _ = writeln!(io::stderr(), "NOT RUN, needs {what}: {reason}");
            None
        }
        Err(reason) => panic!("{reason}"),
    }
}

/// Runs a program to its end and returns what it printed, or why it failed.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| format!("{program}: {cause}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// The directory that keeps all of it from one run to the next.
fn home() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    target.join("lab")
}
