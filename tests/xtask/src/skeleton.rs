//! `cargo xtask plugin new NAME`: a copy of `plugins/skeleton` under another name.

use std::fs;
use std::path::Path;

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

/// Writes a new plugin into the workspace.
pub(crate) fn write(name: &str) -> Result<()> {
    write_into(&root().join("plugins"), name)?;
    println!("plugins/{name} relays what the client says, and its test passes:");
    println!();
    println!("    cargo test -p tcpcopy-plugin-{name}");
    println!("    cargo xtask plugins      # {name}.so and {name}.wasm, in target/plugins/");
    println!();
    println!("next: plugins/{name}/src/lib.rs; plugin-api/src/lib.rs tells what there is");
    Ok(())
}

fn write_into(plugins: &Path, name: &str) -> Result<()> {
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
        format!("plugins/{name} is there already")
    })?;
    for (file, text) in FILES {
        let path = directory.join(file);
        let parent = path.parent().unwrap_or(&directory);
        fs::create_dir_all(parent).map_err(at(parent))?;
        let text = text
            .replace("skeleton", name)
            .replace("Skeleton", &camel_case(name));
        fs::write(&path, text).map_err(at(&path))?;
    }
    Ok(())
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

    #[test]
    fn a_new_plugin_has_its_own_name_everywhere() {
        let plugins = env::temp_dir().join(format!("tcpcopy-skeleton-{}", process::id()));
        write_into(&plugins, "line_protocol").expect("written");
        let again = write_into(&plugins, "line_protocol").expect_err("is there");
        assert_eq!(again.to_string(), "plugins/line_protocol is there already");
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

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["", "Http", "2nd", "a-b", "../x", "_a"] {
            let refused = write_into(Path::new("/nowhere"), name).expect_err(name);
            assert!(
                refused.to_string().contains("no name for a plugin"),
                "{refused}"
            );
        }
    }
}
