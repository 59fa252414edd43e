//! `cargo xtask plugins`: every plugin both ways.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tcpcopy_lab::Lab;

use crate::error::{Result, TaskError, at, claim};
use crate::in_c;
use crate::run::{cargo, output, root, run};
use crate::wasm_std;

/// The directory of the results, in cargo's own for what it builds.
const RESULTS: &str = "plugins";

/// A crate under `plugins/`.
struct Plugin {
    /// The name of its directory, and of the results.
    name: String,
    package: String,
    /// The name of its library, as a crate's name.
    library: String,
}

/// The arguments that make tcpcopy use this file of a plugin with a configuration, which is the lab's
/// `plugins.toml` from here on.
pub(crate) fn plugged(lab: &Lab, plugin: &Path, configuration: &str) -> Result<Vec<String>> {
    let file = lab.write("plugins.toml", configuration)?;
    let plugin = plugin.to_string_lossy().into_owned();
    Ok([
        "--plugin".to_owned(),
        plugin,
        "--plugin-config".to_owned(),
        file,
    ]
    .into())
}

/// Builds plugins as `NAME.so` and `NAME.wasm`, all of them where none is named; the answer is where
/// they are.
pub(crate) fn build(names: &[String]) -> Result<PathBuf> {
    wasm_std::ensure()?;
    let metadata = output(&mut cargo(&["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)
        .map_err(|error| TaskError::Claim(format!("cargo metadata: {error}")))?;
    let mut plugins = plugins(&metadata);
    for name in names {
        claim(plugins.iter().any(|plugin| plugin.name == *name), || {
            let known: Vec<_> = plugins.iter().map(|plugin| &*plugin.name).collect();
            format!("there is no plugin {name}, but: {}", known.join(", "))
        })?;
    }
    plugins.retain(|plugin| names.is_empty() || names.contains(&plugin.name));
    let built = PathBuf::from(metadata["target_directory"].as_str().unwrap_or_default());
    let packages = plugins
        .iter()
        .flat_map(|plugin| ["--package", &plugin.package]);
    let packages: Vec<_> = packages.collect();

    println!("plugins as native libraries: a release build");
    run(cargo(&["build", "--release", "--lib"]).args(&packages))?;
    println!("plugins as WASM: a release build for {}", wasm_std::TARGET);
    // The lines of sources would make up most of a module; the names of functions stay.
    run(
        cargo(&["build", "--release", "--lib", "--target", wasm_std::TARGET])
            .args(["--config", "profile.release.strip=\"debuginfo\""])
            .args(&packages),
    )?;

    let results = built.join(RESULTS);
    fs::create_dir_all(&results).map_err(at(&results))?;
    for plugin in &plugins {
        let native = format!("release/lib{}.so", plugin.library);
        let wasm = format!("{}/release/{}.wasm", wasm_std::TARGET, plugin.library);
        for (from, ending) in [(native, "so"), (wasm, "wasm")] {
            let to = results.join(format!("{}.{ending}", plugin.name));
            replace(&built.join(from), &to)?;
            let bytes = fs::metadata(&to).map_err(at(&to))?.len();
            println!("{} ({} kB)", to.display(), bytes / 1000);
        }
    }
    if names.is_empty() {
        in_c::build(&results)?;
    }
    Ok(results)
}

/// The crates under `plugins/` that make a library to load.
fn plugins(metadata: &Value) -> Vec<Plugin> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages.filter_map(plugin).collect()
}

fn plugin(package: &Value) -> Option<Plugin> {
    let manifest = Path::new(package["manifest_path"].as_str()?);
    let directory = manifest.parent()?;
    let plugins = fs::canonicalize(root().join("plugins")).ok()?;
    if directory.parent()? != plugins {
        return None;
    }
    let is_loaded = |target: &&Value| {
        let mut kinds = target["kind"].as_array().into_iter().flatten();
        kinds.any(|kind| kind == "cdylib")
    };
    let library = package["targets"].as_array()?.iter().find(is_loaded)?;
    Some(Plugin {
        name: directory.file_name()?.to_str()?.to_owned(),
        package: package["name"].as_str()?.to_owned(),
        library: library["name"].as_str()?.replace('-', "_"),
    })
}

/// Puts a copy in the place of what was there, so that a process that has loaded that keeps it.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    fs::copy(from, &new).map_err(at(from))?;
    fs::rename(&new, to).map_err(at(to))
}
