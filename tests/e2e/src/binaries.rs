//! Where the programs under test are.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

/// The path of tcpcopy: `TCPCOPY_BIN`, or what cargo builds from this workspace.
pub fn tcpcopy() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| find("TCPCOPY_BIN", "tcpcopy"));
    &PATH
}

/// The path of intercept: `INTERCEPT_BIN`, or what cargo builds from this workspace.
pub fn intercept() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| find("INTERCEPT_BIN", "intercept"));
    &PATH
}

fn find(variable: &str, package: &str) -> String {
    let path = env::var(variable).unwrap_or_else(|_| build(package));
    assert!(
        Path::new(&path).is_file(),
        "{variable} names no file: {path}"
    );
    path
}

/// Builds a program as users get it and returns the path that cargo reports.
fn build(package: &str) -> String {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--package",
            package,
            "--message-format=json",
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo is there, as it runs this test");
    assert!(output.status.success(), "cargo could not build {package}");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == package)
        .find_map(|message| message["executable"].as_str().map(str::to_owned))
        .unwrap_or_else(|| panic!("cargo built no program `{package}`"))
}
