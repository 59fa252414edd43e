//! What cargo makes of this workspace: its programs and its plugins, as users get them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

use crate::{LabError, Result};

/// Names the directory of plugins that are built already.
const PLUGINS: &str = "TCPCOPY_PLUGINS";

/// The cargo that runs this program, in the workspace.
///
/// What cargo has told this program about its own package is not passed on: build scripts of
/// others read the same variables, and whatever depends on these would be built again each time
/// that another program asks.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let is_of_package =
        |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_package) {
            command.env_remove(name);
        }
    }
    command
}

/// The file of a plugin: in the directory that `TCPCOPY_PLUGINS` names, or where
/// `cargo xtask plugins` has just built it.
///
/// # Panics
/// When there is none, or cargo fails.
pub fn plugin_file(name: &str) -> PathBuf {
    static DIRECTORY: LazyLock<PathBuf> =
        LazyLock::new(|| env::var_os(PLUGINS).map_or_else(build_plugins, PathBuf::from));
    let path = DIRECTORY.join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo xtask plugins`, and set {PLUGINS} to the directory that it names",
        path.display()
    );
    path
}

/// Builds all plugins and returns where they are.
fn build_plugins() -> PathBuf {
    let output = |arguments: &[&str]| {
        let output = cargo(arguments).output().expect("cargo starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo {arguments:?}: {error}");
        output.stdout
    };
    output(&["xtask", "plugins"]);
    let metadata = output(&["metadata", "--no-deps", "--format-version=1"]);
    let metadata: Value = serde_json::from_slice(&metadata).expect("cargo's metadata are JSON");
    let target = metadata["target_directory"].as_str();
    Path::new(target.expect("cargo has a target directory")).join("plugins")
}

/// Builds programs as users get them, in one go, and returns the path of each.
///
/// # Errors
/// [`LabError::Start`] when cargo fails.
pub(crate) fn build_programs<const N: usize>(packages: [&str; N]) -> Result<[String; N]> {
    let failed = |detail: String| LabError::Start { detail };
    let mut command = cargo(&["build", "--release", "--message-format=json"]);
    for package in packages {
        command.args(["--package", package]);
    }
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|source| LabError::Spawn {
        command: "cargo".to_owned(),
        source,
    })?;
    if !output.status.success() {
        return Err(failed(format!("cargo could not build {packages:?}")));
    }
    let messages: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let mut paths = [const { String::new() }; N];
    for (path, package) in paths.iter_mut().zip(packages) {
        let of_package = messages
            .iter()
            .filter(|message| message["target"]["name"] == package);
        let mut executables = of_package.filter_map(|message| message["executable"].as_str());
        let executable = executables.next();
        let missing = || failed(format!("cargo built no program `{package}`"));
        executable.ok_or_else(missing)?.clone_into(path);
    }
    Ok(paths)
}
