//! The HTTP plugin as the demo and the bench use it.

use std::path::Path;

use tcpcopy_lab::Lab;

use crate::error::Result;
use crate::plugins;

/// The header that requests get, and its value.
pub(crate) const HEADER: &str = "X-Replayed-By";

/// The header's value.
pub(crate) const VALUE: &str = "tcpcopy";

/// The arguments that make tcpcopy mark requests by this file of the plugin.
pub(crate) fn marking(lab: &Lab, plugin: &Path) -> Result<Vec<String>> {
    let configuration = format!("[http]\nset = {{ {HEADER} = \"{VALUE}\" }}\n");
    plugins::plugged(lab, plugin, &configuration)
}
