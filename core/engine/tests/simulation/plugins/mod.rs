//! Model plugins between clients and target, over both upstreams.

mod check;
mod generated;
mod model;
mod named;
mod session;

pub(crate) use model::{ModelPlugins, Observed, PluginModel, Sighting};
