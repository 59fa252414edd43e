//! The arrows between crates point inwards, and unsafe code is fenced in: a new arrow is a
//! visible decision, made here.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Every crate and the crates of this workspace that it may know.
const ALLOWED: [(&str, &[&str]); 13] = [
    ("tcpcopy-packet", &[]),
    ("tcpcopy-engine", &["tcpcopy-packet"]),
    ("tcpcopy-net", &[]),
    ("intercept-lib", &["tcpcopy-packet"]),
    (
        "tcpcopy-doctor",
        &["intercept-lib", "tcpcopy-net", "tcpcopy-packet"],
    ),
    (
        "tcpcopy-host",
        &[
            "tcpcopy-engine",
            "tcpcopy-lab",
            "tcpcopy-packet",
            "tcpcopy-plugin-api",
        ],
    ),
    (
        "tcpcopy",
        &[
            "intercept-lib",
            "tcpcopy-doctor",
            "tcpcopy-engine",
            "tcpcopy-host",
            "tcpcopy-net",
            "tcpcopy-packet",
            "tcpcopy-plugin-api",
        ],
    ),
    (
        "intercept",
        &[
            "intercept-lib",
            "tcpcopy-doctor",
            "tcpcopy-net",
            "tcpcopy-packet",
        ],
    ),
    ("tcpcopy-plugin-api", &[]),
    ("tcpcopy-lab", &[]),
    ("tcpcopy-e2e", &["tcpcopy-lab"]),
    ("xtask", &["tcpcopy-lab"]),
    (
        "tcpcopy-fuzz",
        &[
            "intercept-lib",
            "tcpcopy-engine",
            "tcpcopy-net",
            "tcpcopy-packet",
            "tcpcopy-plugin-api",
            "tcpcopy-plugin-http",
            "tcpcopy-plugin-mysql",
            "tcpcopy-plugin-redis",
        ],
    ),
];

/// What the tests of a crate may know beyond that.
const ALLOWED_IN_TESTS: [(&str, &str); 1] = [("intercept", "tcpcopy-lab")];

/// What every crate under `plugins/` may know: a plugin knows nothing else of tcpcopy.
const KNOWN_TO_PLUGINS: [&str; 1] = ["tcpcopy-plugin-api"];

/// The crates that may hold unsafe code, each block with its reason.
const UNSAFE_ALLOWED: [&str; 4] = [
    "tcpcopy-net",
    "intercept",
    "tcpcopy-plugin-api",
    "tcpcopy-host",
];

fn packages() -> Vec<Value> {
    let cargo = env::var("CARGO").unwrap();
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version=1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

#[test]
fn every_arrow_between_crates_is_allowed() {
    let packages = packages();
    let members: BTreeSet<_> = packages
        .iter()
        .map(|package| text(package, "name"))
        .collect();
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let plugins = fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins")).unwrap();
    let mut wrong = Vec::new();
    for package in &packages {
        let name = text(package, "name");
        let is_plugin = Path::new(text(package, "manifest_path")).starts_with(&plugins);
        let of_plugin = is_plugin.then_some(KNOWN_TO_PLUGINS.as_slice());
        let Some(known) = allowed.get(name).copied().or(of_plugin) else {
            wrong.push(format!("{name} is not in the list"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let other = text(dependency, "name");
            let in_tests = dependency["kind"] == "dev" && ALLOWED_IN_TESTS.contains(&(name, other));
            if members.contains(other) && !known.contains(&other) && !in_tests {
                wrong.push(format!("{name} -> {other}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows that design section 3 does not have: {wrong:#?}"
    );
    for (name, known) in ALLOWED {
        assert!(
            members.contains(name),
            "{name} is in the list but not in the workspace"
        );
        assert!(
            known.iter().all(|other| members.contains(other)),
            "{name}: {known:?}"
        );
    }
}

#[test]
fn unsafe_code_is_forbidden_outside_the_fence() {
    for package in packages() {
        let name = text(&package, "name");
        for target in package["targets"].as_array().unwrap() {
            let kinds: Vec<_> = target["kind"].as_array().unwrap().iter().collect();
            let ours = ["lib", "rlib", "bin"];
            if !kinds
                .iter()
                .any(|kind| ours.iter().any(|ours| *kind == ours))
            {
                continue;
            }
            let path = text(target, "src_path");
            let source = fs::read_to_string(path).unwrap();
            let forbids = source.lines().any(|line| line == "#![forbid(unsafe_code)]");
            let may = UNSAFE_ALLOWED.contains(&name);
            assert!(forbids || may, "{path} lacks #![forbid(unsafe_code)]");
        }
    }
}
