//! What the configuration says besides the accounts.

use plugin_api::{Config, Key};

/// So much of a client may wait for its login, a statement's number or the target's asking for a
/// file, in bytes.
const DEFAULT_QUEUE_BYTES: i64 = 16 << 20;

/// How the plugin does its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Statements that write are left out.
    pub(crate) read_only: bool,
    /// Bytes of a client that may wait, at most.
    pub(crate) queue_bytes: usize,
}

impl Options {
    /// The keys of configuration.
    pub(crate) fn keys() -> [Key; 2] {
        [
            Key::boolean("read_only", "leave out statements that write").default("false"),
            Key::integer(
                "queue_bytes",
                "what a client has said may wait, in bytes, while the target is not ready for it; \
                 65536 to 1073741824",
            )
            .default("16777216"),
        ]
    }

    /// Reads those keys.
    pub(crate) fn configure(config: &Config) -> Result<Self, String> {
        let queue_bytes = config.integer_or("queue_bytes", DEFAULT_QUEUE_BYTES)?;
        let range = 1 << 16..=1 << 30;
        if !range.contains(&queue_bytes) {
            let problem = "must be from 65536 to 1073741824";
            return Err(config.error("queue_bytes", problem).into());
        }
        Ok(Self {
            read_only: config.boolean_or("read_only", false)?,
            queue_bytes: queue_bytes as usize,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_ranges() {
        let options = Options::configure(&Config::new()).expect("defaults");
        assert!(!options.read_only && options.queue_bytes == 16 << 20);
        let error = Options::configure(&Config::new().with("queue_bytes", 1)).expect_err("small");
        assert_eq!(error, "queue_bytes: must be from 65536 to 1073741824");
    }
}
