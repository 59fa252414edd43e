//! The plugins of this workspace, as users get them.

use tcpcopy_lab::{Lab, plugin_file};

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
/// # Panics
/// As [`plugin_file`].
pub fn plugin(lab: &Lab, name: &str, form: Form) -> String {
    let file = format!("{name}.{}", form.ending());
    let built = plugin_file(&file);
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
