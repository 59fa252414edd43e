//! The plugins of this workspace, as users get them.

#![allow(dead_code, reason = "not every test program needs all of it")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use tcpcopy_host::{Library, Limits};

/// The file of a plugin: in the directory that `TCPCOPY_PLUGINS` names, or where
/// `cargo xtask plugins` has just built it.
pub(crate) fn path(file: &str) -> PathBuf {
    static DIRECTORY: LazyLock<PathBuf> =
        LazyLock::new(|| env::var_os("TCPCOPY_PLUGINS").map_or_else(build, PathBuf::from));
    let path = DIRECTORY.join(file);
    assert!(
        path.exists(),
        "{} is missing: run `cargo xtask plugins`, and set TCPCOPY_PLUGINS to the directory that it names",
        path.display()
    );
    path
}

/// A plugin of this workspace, loaded.
pub(crate) fn load(file: &str) -> Library {
    Library::load(&path(file), &Limits::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// The same plugin in both forms.
pub(crate) fn both(name: &str) -> [Library; 2] {
    [".so", ".wasm"].map(|ending| load(&format!("{name}{ending}")))
}

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
