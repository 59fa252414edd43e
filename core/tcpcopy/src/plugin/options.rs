//! The command line of plugins: which, for what, told what, and how much they may do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tcpcopy_host::Limits;

/// Heading in the help.
const PLUGINS: &str = "Plugins";
/// Longest call in ms: a shard does nothing else meanwhile.
const MOST_CALL_MS: i64 = 10_000;
/// Least MiB for an instance: a WASM module begins with one or two.
const LEAST_MEMORY_MB: i64 = 4;
/// Most MiB for an instance: what a WASM module can address.
const MOST_MEMORY_MB: i64 = 4096;

/// The plugins between clients and target.
#[derive(Args, Clone, Debug, Default)]
pub struct PluginOptions {
    /// Protocol plugin between the clients and the target: a native library or a WASM module, for
    /// all of -x or the origins' port after @. May be repeated: each gets what the one before sends
    #[arg(help_heading = PLUGINS, long, value_name = "FILE[@PORT]", value_parser = parse_plugin)]
    pub plugin: Vec<PluginArgument>,

    /// What they are told.
    #[command(flatten)]
    pub tell: TellOptions,

    /// How much they may take.
    #[command(flatten)]
    pub limits: LimitOptions,
}

/// What plugins are told.
#[derive(Args, Clone, Debug, Default)]
pub struct TellOptions {
    /// What plugins are told: a TOML file with a table for each, by the plugin's name
    #[arg(help_heading = PLUGINS, long, value_name = "FILE")]
    pub plugin_config: Option<PathBuf>,

    /// One key of a plugin's table, over the file's: http.host=test.example
    #[arg(help_heading = PLUGINS, long, value_name = "PLUGIN.KEY=VALUE")]
    pub set: Vec<String>,
}

/// How much a plugin may take; without an option the host's default.
#[derive(Args, Clone, Debug, Default)]
pub struct LimitOptions {
    /// Processor time that a WASM plugin may take for one event, in ms; the sessions of an instance
    /// that takes more end. Default: 100
    #[arg(help_heading = PLUGINS, long, value_name = "MS",
          value_parser = clap::value_parser!(u32).range(1..=MOST_CALL_MS))]
    pub plugin_call_ms: Option<u32>,

    /// Memory of each WASM plugin, for each shard and target, in MiB; it comes on top of -m. Default:
    /// 128
    #[arg(help_heading = PLUGINS, long, value_name = "MIB",
          value_parser = clap::value_parser!(u32).range(LEAST_MEMORY_MB..=MOST_MEMORY_MB))]
    pub plugin_memory_mb: Option<u32>,

    /// What a plugin may send for one event, in MiB. Default: 4
    #[arg(help_heading = PLUGINS, long, value_name = "MIB",
          value_parser = clap::value_parser!(u32).range(1..=MOST_MEMORY_MB))]
    pub plugin_output_mb: Option<u32>,

    /// Connections at once in each plugin, for each shard and target; more are left out by name.
    /// Default: 200000
    #[arg(help_heading = PLUGINS, long, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub plugin_sessions: Option<u32>,

    /// Values that the connections of a target share through plugins, in MiB; it comes on top of -m.
    /// Default: 64
    #[arg(help_heading = PLUGINS, long, value_name = "MIB",
          value_parser = clap::value_parser!(u32).range(1..=MOST_MEMORY_MB))]
    pub plugin_share_mb: Option<u32>,

    /// A plugin that fails so often in a row is switched off: its connections are left out by name
    /// from then on. Default: 5
    #[arg(help_heading = PLUGINS, long, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub plugin_failures: Option<u32>,
}

impl LimitOptions {
    /// What they mean to the host.
    #[must_use]
    pub fn limits(&self) -> Limits {
        /// Bytes of a MiB.
        const MIB: usize = 1 << 20;
        let mib = |count: Option<u32>| count.map(|count| count as usize * MIB);
        let default = Limits::default();
        Limits {
            call_time: (self.plugin_call_ms)
                .map_or(default.call_time, |ms| Duration::from_millis(ms.into())),
            memory_bytes: mib(self.plugin_memory_mb).unwrap_or(default.memory_bytes),
            output_bytes: mib(self.plugin_output_mb).unwrap_or(default.output_bytes),
            sessions: (self.plugin_sessions).map_or(default.sessions, |count| count as usize),
            share_bytes: mib(self.plugin_share_mb).unwrap_or(default.share_bytes),
            failures: self.plugin_failures.unwrap_or(default.failures),
            ..default
        }
    }
}

/// A plugin as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginArgument {
    /// Its file.
    pub path: PathBuf,
    /// The origins' port that it is for; every one without.
    pub port: Option<u16>,
}

/// Splits a port off. What follows the last @ is one if it looks like one, unless a file is called
/// so.
fn parse_plugin(text: &str) -> Result<PluginArgument, String> {
    let whole = PluginArgument {
        path: PathBuf::from(text),
        port: None,
    };
    let Some((path, port)) = text.rsplit_once('@') else {
        return Ok(whole);
    };
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || Path::new(text).exists() {
        return Ok(whole);
    }
    match (path, port.parse()) {
        ("", _) => Err("there is no file before the @".to_owned()),
        (_, Ok(0) | Err(_)) => Err(format!("'{port}' is not a port, 1 to 65535")),
        (path, Ok(port)) => Ok(PluginArgument {
            path: PathBuf::from(path),
            port: Some(port),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(String, Option<u16>), String> {
        let plugin = parse_plugin(text)?;
        Ok((plugin.path.display().to_string(), plugin.port))
    }

    #[test]
    fn the_help_tells_the_defaults() {
        let Limits {
            call_time,
            memory_bytes,
            output_bytes,
            sessions,
            share_bytes,
            failures,
            ..
        } = Limits::default();
        let command = LimitOptions::augment_args(clap::Command::new("limits"));
        for (name, default) in [
            ("plugin_call_ms", call_time.as_millis() as usize),
            ("plugin_memory_mb", memory_bytes >> 20),
            ("plugin_output_mb", output_bytes >> 20),
            ("plugin_sessions", sessions),
            ("plugin_share_mb", share_bytes >> 20),
            ("plugin_failures", failures as usize),
        ] {
            let mut arguments = command.get_arguments();
            let found = arguments.find(|argument| argument.get_id() == name);
            let help = found.and_then(clap::Arg::get_help).map(ToString::to_string);
            let ending = format!("Default: {default}");
            assert!(
                help.is_some_and(|help| help.ends_with(&ending)),
                "{name}: {default}"
            );
        }
    }

    #[test]
    fn a_plugin_may_be_for_one_port() {
        for (text, path, port) in [
            ("http.wasm", "http.wasm", None),
            ("http.wasm@80", "http.wasm", Some(80)),
            ("/a@b/http.so", "/a@b/http.so", None),
            ("/a@b/http.so@65535", "/a@b/http.so", Some(65535)),
            ("http@v2", "http@v2", None),
            ("http@", "http@", None),
        ] {
            assert_eq!(parsed(text), Ok((path.to_owned(), port)), "{text}");
        }
        for text in ["@80", "http.wasm@0", "http.wasm@65536"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
