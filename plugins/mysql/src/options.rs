//! What the configuration says besides the accounts.

use plugin_api::{Config, Key};

/// So much of a client may wait for its login, a statement's number or the target's asking for a
/// file, in bytes: two messages of the 16 MiB that MariaDB takes by default, and what goes with them.
/// A client that prepares a statement and sends long values behind it is far ahead of a target that
/// still works on the statement before.
const DEFAULT_QUEUE_BYTES: i64 = 48 << 20;

/// The same of all clients of a thread together: half of what a WASM plugin is given.
const DEFAULT_QUEUE_TOTAL_BYTES: i64 = 64 << 20;

/// How the plugin does its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Statements that write are left out.
    pub(crate) read_only: bool,
    /// Bytes of a client that may wait, at most.
    pub(crate) queue_bytes: usize,
    /// The same of all clients of a thread.
    pub(crate) queue_total_bytes: usize,
}

impl Options {
    /// The keys of configuration.
    pub(crate) fn keys() -> [Key; 3] {
        [
            Key::boolean("read_only", "leave out statements that write").default("false"),
            Key::integer(
                "queue_bytes",
                "what a client has said may wait, in bytes, while the target is not ready for it; \
                 65536 to 1073741824",
            )
            .default("50331648"),
            Key::integer(
                "queue_total_bytes",
                "the same of all clients of a thread together; 65536 to 1073741824",
            )
            .default("67108864"),
        ]
    }

    /// Reads those keys.
    pub(crate) fn configure(config: &Config) -> Result<Self, String> {
        Ok(Self {
            read_only: config.boolean_or("read_only", false)?,
            queue_bytes: bytes(config, "queue_bytes", DEFAULT_QUEUE_BYTES)?,
            queue_total_bytes: bytes(config, "queue_total_bytes", DEFAULT_QUEUE_TOTAL_BYTES)?,
        })
    }
}

fn bytes(config: &Config, key: &str, default: i64) -> Result<usize, String> {
    let bytes = config.integer_or(key, default)?;
    match bytes {
        0x1_0000..=0x4000_0000 => Ok(bytes as usize),
        _ => Err(config.error(key, "must be from 65536 to 1073741824").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_ranges() {
        let options = Options::configure(&Config::new()).expect("defaults");
        assert!(!options.read_only && options.queue_bytes == 48 << 20);
        let error = Options::configure(&Config::new().with("queue_bytes", 1)).expect_err("small");
        assert_eq!(error, "queue_bytes: must be from 65536 to 1073741824");
    }
}
