//! The file with the key shared with intercept, under the conditions that intercept makes, too.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use intercept_lib::tunnel::TunnelKey;

use crate::error::StartError;

/// Bits of a file's mode that let others than the owner read or write it.
const OTHERS: u32 = 0o066;
/// More than any key file holds, in bytes.
const MAX_FILE_LEN: u64 = 4096;

/// Reads the key.
///
/// # Errors
/// [`StartError::KeyFileExposed`] when others have access to the file, [`StartError::Key`] when it
/// can't be read or holds no key; none shows the file's text.
pub fn read(path: &Path) -> Result<TunnelKey, StartError> {
    let wrong = |reason: String| StartError::Key {
        path: path.to_owned(),
        reason,
    };
    let failed = |error: std::io::Error| wrong(error.to_string());
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.permissions().mode() & OTHERS != 0 {
        return Err(StartError::KeyFileExposed(path.to_owned()));
    }
    let mut text = String::new();
    file.take(MAX_FILE_LEN)
        .read_to_string(&mut text)
        .map_err(failed)?;
    TunnelKey::parse(&text).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn only_a_private_file_with_a_key_will_do() {
        let path = std::env::temp_dir().join(format!("tcpcopy-key-{}", std::process::id()));
        let key = TunnelKey::from_bytes([7; 32]);
        fs::write(&path, key.to_hex() + "\n").unwrap();
        let exposed = [0o640, 0o604, 0o620].map(|mode| {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            read(&path)
        });
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let good = read(&path);
        fs::write(&path, "my secret password").unwrap();
        let bad = read(&path);
        fs::write(&path, key.to_hex() + &" ".repeat(1 << 20) + "more").unwrap();
        let endless = read(&path);
        fs::remove_file(&path).unwrap();
        for result in exposed {
            let text = result.expect_err("others have access").user_text();
            let hint = format!("hint: chmod 600 {}\n", path.display());
            assert!(text.ends_with(&hint), "{text}");
        }
        assert_eq!(good.unwrap(), key);
        let text = bad.unwrap_err().to_string();
        assert!(
            text.contains("64 hexadecimal") && !text.contains("secret"),
            "{text}"
        );
        assert_eq!(endless.unwrap(), key, "read no further than its limit");
        assert!(matches!(read(&path), Err(StartError::Key { .. })));
    }
}
