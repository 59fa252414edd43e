//! The plugins of this workspace, as users get them.

#![allow(dead_code, reason = "not every test program needs all of it")]

use tcpcopy_host::{Library, Limits};
pub(crate) use tcpcopy_lab::plugin_file as path;

/// A plugin of this workspace, loaded.
pub(crate) fn load(file: &str) -> Library {
    Library::load(&path(file), &Limits::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// The same plugin in both forms.
pub(crate) fn both(name: &str) -> [Library; 2] {
    [".so", ".wasm"].map(|ending| load(&format!("{name}{ending}")))
}
