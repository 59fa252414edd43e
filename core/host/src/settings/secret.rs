//! Secrets that stand elsewhere than in the configuration.

use std::env;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::SettingsError;

/// The longest secret, in bytes.
const SECRET_BYTES: u64 = 64 * 1024;

/// The bits of a file's mode that let others than its owner do something with it.
const OTHERS: u32 = 0o077;

/// Where a table stands that may be a secret's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the value of a key that is a secret.
    Key,
    /// It is within a table or list, where `file` and `env` may be the plugin's own words.
    Inside,
}

/// Where a secret stands.
#[derive(Debug)]
pub(super) enum Source<'a> {
    File(&'a str),
    Environment(&'a str),
}

impl<'a> Source<'a> {
    /// A table with one key that names a source.
    pub(super) fn of(table: &'a Table, place: Place) -> Option<Self> {
        let mut keys = table.iter();
        let ((key, Value::String(text)), None) = (keys.next()?, keys.next()) else {
            return None;
        };
        match (key.as_str(), place) {
            ("secret_file", _) | ("file", Place::Key) => Some(Self::File(text)),
            ("secret_env", _) | ("env", Place::Key) => Some(Self::Environment(text)),
            _ => None,
        }
    }

    /// The secret itself. `place` is the key that it is for.
    pub(super) fn read(&self, place: &str, base: Option<&Path>) -> Result<String, SettingsError> {
        match self {
            Self::File(path) => {
                let path = base.map_or_else(|| PathBuf::from(path), |base| base.join(path));
                read_file(place, &path)
            }
            Self::Environment(name) => env::var(name).map_err(|error| {
                let why = match error {
                    env::VarError::NotPresent => format!("the variable {name} is not set"),
                    env::VarError::NotUnicode(_) => format!("the variable {name} is not UTF-8"),
                };
                let remedy = format!("set {name} in the environment that tcpcopy is started in");
                SettingsError::new(place, why, remedy)
            }),
        }
    }
}

/// Whether others than a file's owner have access to it.
pub(super) fn is_open(about: &Metadata) -> bool {
    about.permissions().mode() & OTHERS != 0
}

/// Reads a secret's file, without the line's end that editors leave.
fn read_file(place: &str, path: &Path) -> Result<String, SettingsError> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        let why = format!("the secret's file {shown} can't be read: {error}");
        SettingsError::new(place, why, "check the path and who may read the file")
    };
    let file = File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        let why = format!("{shown} is not a file");
        return Err(SettingsError::new(
            place,
            why,
            "name a file with the secret in it",
        ));
    }
    if is_open(&about) {
        let mode = about.permissions().mode();
        let why = format!(
            "others than its owner have access to {shown} (mode {:03o}), so it keeps no secret",
            mode & 0o777
        );
        return Err(SettingsError::new(place, why, format!("chmod 600 {shown}")));
    }
    let mut text = String::new();
    let mut most = file.take(SECRET_BYTES + 1);
    most.read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > SECRET_BYTES {
        let why = format!("{shown} is longer than {SECRET_BYTES} bytes");
        return Err(SettingsError::new(
            place,
            why,
            "name a file with nothing but the secret",
        ));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}
