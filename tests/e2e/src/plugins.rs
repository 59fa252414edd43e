//! The plugins of this workspace, as users get them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use tcpcopy_lab::Lab;

/// A form that every plugin is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A library of this machine's own code.
    Native,
    /// A WASM module.
    Wasm,
}

impl Form {
    /// Both forms.
    pub const BOTH: [Self; 2] = [Self::Native, Self::Wasm];

    /// The ending of its files.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Native => "so",
            Self::Wasm => "wasm",
        }
    }
}

/// Puts a plugin where every user of the lab's hosts may read it, and returns its path there.
///
/// The plugins are those in the directory that `TCPCOPY_PLUGINS` names, or else what
/// `cargo xtask plugins` builds.
///
/// # Panics
/// When there is no such plugin.
pub fn plugin(lab: &Lab, name: &str, form: Form) -> String {
    static DIRECTORY: LazyLock<PathBuf> =
        LazyLock::new(|| env::var_os("TCPCOPY_PLUGINS").map_or_else(build, PathBuf::from));
    let file = format!("{name}.{}", form.ending());
    let built = DIRECTORY.join(&file);
    // Programs in the lab must not take it for a library of their own: Python has a module `http`.
    let path = lab.path(&format!("plugin-{file}"));
    let install = lab.host("client").command("install");
    let copied = install.args(["-m", "644", &built.to_string_lossy(), &path]);
    copied.run().unwrap_or_else(|error| panic!("{error}"));
    path
}

/// The arguments that make tcpcopy use a plugin with a configuration, in TOML, that has a table for
/// it.
///
/// # Panics
/// As [`plugin`].
pub fn plug(lab: &Lab, name: &str, form: Form, configuration: &str) -> Vec<String> {
    let path = plugin(lab, name, form);
    let file = lab.write(&format!("{name}.toml"), configuration);
    let file = file.expect("the lab takes a file");
    ["--plugin", &path, "--plugin-config", &file]
        .map(str::to_owned)
        .into()
}

/// Builds all plugins and returns where they are.
fn build() -> PathBuf {
    let cargo = |arguments: &[&str]| {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let output = Command::new(cargo)
            .args(arguments)
            .current_dir(root)
            .output();
        let output = output.expect("cargo starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo {arguments:?}: {error}");
        output.stdout
    };
    cargo(&["xtask", "plugins"]);
    let metadata = cargo(&["metadata", "--no-deps", "--format-version=1"]);
    let metadata: Value = serde_json::from_slice(&metadata).expect("cargo's metadata are JSON");
    let target = metadata["target_directory"].as_str();
    Path::new(target.expect("cargo has a target directory")).join("plugins")
}
