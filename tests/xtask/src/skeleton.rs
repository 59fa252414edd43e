//! `cargo xtask plugin new NAME`: a copy of `plugins/skeleton` under another name, here or in a
//! repository of its author's.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Result, at, claim};
use crate::run::root;

/// What is copied, from where it is built and tested like every plugin.
const FILES: [(&str, &str); 3] = [
    (
        "Cargo.toml",
        include_str!("../../../plugins/skeleton/Cargo.toml"),
    ),
    (
        "src/lib.rs",
        include_str!("../../../plugins/skeleton/src/lib.rs"),
    ),
    (
        "hello.transcript",
        include_str!("../../../plugins/skeleton/hello.transcript"),
    ),
];

/// The skeleton's `Cargo.toml` from the package's version on is the workspace's; elsewhere it is this.
const OF_WORKSPACE: &str = "version.workspace = true";
const ELSEWHERE: &str = r#"version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib", "rlib"]

[dependencies]
tcpcopy-plugin-api = { path = "PLUGIN_API" }

[profile.release]
strip = "debuginfo"

# It is no part of a workspace above it.
[workspace]
"#;

/// Writes a new plugin into the workspace, or elsewhere, and tells what to do with it.
pub(crate) fn write(name: &str, elsewhere: Option<&Path>) -> Result<()> {
    match elsewhere {
        None => {
            write_into(&root().join("plugins"), name, None)?;
            println!("plugins/{name} relays what the client says, and its test passes:\n");
            println!("    cargo test -p tcpcopy-plugin-{name}");
            println!(
                "    cargo xtask plugins {name}      # target/plugins/{name}.so and {name}.wasm"
            );
            println!("\nnext: plugin-api/GUIDE.md, and plugins/{name}/src/lib.rs");
        }
        Some(directory) => {
            let api = fs::canonicalize(root().join("plugin-api")).map_err(at(&root()))?;
            let written = write_into(directory, name, Some(&api))?;
            let library = format!("tcpcopy_plugin_{name}");
            println!("{} relays what the client says:\n", written.display());
            println!("    cd {}", written.display());
            println!("    cargo test");
            println!("    cargo build --release --lib      # target/release/lib{library}.so");
            println!("    cargo build --release --lib --target wasm32-unknown-unknown");
            println!("    # target/wasm32-unknown-unknown/release/{library}.wasm");
            println!("\nnext: {}/GUIDE.md, and src/lib.rs", api.display());
        }
    }
    Ok(())
}

/// Writes a plugin into a directory of plugins; the answer is where. One outside the workspace needs
/// to know where the crate that it imports is.
fn write_into(plugins: &Path, name: &str, api: Option<&Path>) -> Result<PathBuf> {
    let of_name =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    let is_name = name.starts_with(|letter: char| letter.is_ascii_lowercase());
    claim(is_name && name.chars().all(of_name), || {
        format!(
            "{name} is no name for a plugin\n\n\
             hint: lower case letters, digits and _, a letter first"
        )
    })?;
    let directory = plugins.join(name);
    claim(!directory.exists(), || {
        format!("{} is there already", directory.display())
    })?;
    for (file, text) in FILES {
        let path = directory.join(file);
        let parent = path.parent().unwrap_or(&directory);
        fs::create_dir_all(parent).map_err(at(parent))?;
        let text = text
            .replace("skeleton", name)
            .replace("Skeleton", &camel_case(name));
        let text = match api.filter(|_| file == "Cargo.toml") {
            Some(api) => outside(&text, api),
            None => text,
        };
        fs::write(&path, text).map_err(at(&path))?;
    }
    Ok(directory)
}

/// A `Cargo.toml` of the workspace as one that stands alone.
fn outside(manifest: &str, api: &Path) -> String {
    let own = manifest.split(OF_WORKSPACE).next().unwrap_or_default();
    own.to_owned() + &ELSEWHERE.replace("PLUGIN_API", &api.display().to_string())
}

/// `line_protocol` as `LineProtocol`.
fn camel_case(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    name.split('_').map(capital).collect()
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process;

    use super::*;
    use crate::run::{cargo, run};

    #[test]
    fn a_new_plugin_has_its_own_name_everywhere() {
        let plugins = env::temp_dir().join(format!("tcpcopy-skeleton-{}", process::id()));
        write_into(&plugins, "line_protocol", None).expect("written");
        let again = write_into(&plugins, "line_protocol", None).expect_err("is there");
        assert!(
            again
                .to_string()
                .ends_with("line_protocol is there already")
        );
        for (file, _) in FILES {
            let text = fs::read_to_string(plugins.join("line_protocol").join(file)).expect("read");
            assert!(!text.to_lowercase().contains("skeleton"), "{file}: {text}");
        }
        let library = plugins.join("line_protocol/src/lib.rs");
        let library = fs::read_to_string(library).expect("read");
        assert!(
            library.contains("export_plugin!(LineProtocol);"),
            "{library}"
        );
        fs::remove_dir_all(&plugins).expect("it was there");
    }

    /// It compiles as shown, with what this workspace has downloaded.
    #[test]
    fn one_outside_the_workspace_stands_alone() {
        let plugins = env::temp_dir().join(format!("tcpcopy-outside-{}", process::id()));
        let api = root().join("plugin-api");
        let written = write_into(&plugins, "mine", Some(&api)).expect("written");
        fs::copy(root().join("Cargo.lock"), written.join("Cargo.lock")).expect("copied");
        let tested = run(cargo(&["test", "--quiet", "--offline"]).current_dir(&written));
        fs::remove_dir_all(&plugins).expect("it was there");
        tested.expect("its test passes");
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["", "Http", "2nd", "a-b", "../x", "_a"] {
            let refused = write_into(Path::new("/nowhere"), name, None).expect_err(name);
            assert!(
                refused.to_string().contains("no name for a plugin"),
                "{refused}"
            );
        }
    }
}
