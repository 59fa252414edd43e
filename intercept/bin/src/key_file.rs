//! The key file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use intercept_lib::tunnel::TunnelKey;

use crate::error::Error;

/// Bits of a file's mode that let others than the owner read or write it.
const OTHERS: u32 = 0o066;
/// More than any key file holds, in bytes.
const MAX_FILE_LEN: u64 = 4096;

/// Reads the key.
///
/// # Errors
/// [`Error::Io`], [`Error::KeyFileExposed`] or [`Error::KeyFile`]; none shows the file's text.
pub(crate) fn read(path: &Path) -> Result<TunnelKey, Error> {
    let failed = |source| Error::io(format!("read the key file {}", path.display()), source);
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.permissions().mode() & OTHERS != 0 {
        return Err(Error::KeyFileExposed(path.to_owned()));
    }
    let mut text = String::new();
    file.take(MAX_FILE_LEN)
        .read_to_string(&mut text)
        .map_err(failed)?;
    TunnelKey::parse(&text).map_err(|source| Error::KeyFile {
        path: path.to_owned(),
        source,
    })
}

/// Makes a new key.
///
/// # Errors
/// [`Error::Io`] when the system has no random numbers.
pub(crate) fn generate() -> Result<TunnelKey, Error> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(|source| Error::io("read random numbers", source))?;
    Ok(TunnelKey::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_a_private_file_with_a_key_will_do() {
        let path = std::env::temp_dir().join(format!("intercept-key-{}", std::process::id()));
        let key = generate().unwrap();
        fs::write(&path, key.to_hex() + "\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let exposed = read(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let good = read(&path);
        fs::write(&path, "my secret password").unwrap();
        let bad = read(&path);
        fs::remove_file(&path).unwrap();
        assert!(matches!(exposed, Err(Error::KeyFileExposed(_))));
        assert_eq!(good.unwrap(), key);
        let text = bad.unwrap_err().to_string();
        assert!(
            text.contains("64 hexadecimal") && !text.contains("secret"),
            "{text}"
        );
        assert!(matches!(read(&path), Err(Error::Io { .. })));
    }
}
