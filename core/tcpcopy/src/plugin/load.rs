//! Plugins for a replay: loaded and configured while files may be read, and a host for each target.

use std::sync::Arc;

use tcpcopy_engine::plugin::{Needs, Plugins as EnginePlugins};
use tcpcopy_host::{Host, Library, PluginFigures, Settings, Step};

use super::PluginError;
use super::options::{PluginArgument, TellOptions};
use crate::config::{Config, Lane};
use crate::error::StartError;
use crate::wake::Waker;

/// The plugins of every lane.
#[derive(Debug, Default)]
pub struct Plugins {
    lanes: Vec<OfLane>,
    /// The names of those that want what origins answer.
    wanting_origin: Vec<String>,
}

/// Those of one lane.
#[derive(Debug)]
struct OfLane {
    host: Host,
    /// The origins' ports of the lane.
    ports: Vec<u16>,
}

impl Plugins {
    /// Loads and configures what the options name; without plugins that is nothing.
    ///
    /// # Errors
    /// [`StartError::Plugin`] for the first thing that is wrong.
    pub fn load(config: &Config) -> Result<Self, StartError> {
        let options = &config.plugins;
        if options.plugin.is_empty() {
            return Ok(Self::default());
        }
        let limits = options.limits.limits();
        let mut settings = settings(&options.tell)?;
        let (mut steps, mut wanting_origin) = (Vec::new(), Vec::new());
        for PluginArgument { path, port } in &options.plugin {
            let library = Library::load(path, &limits).map_err(PluginError::from)?;
            let manifest = library.manifest();
            let config = settings.config_of(manifest).map_err(PluginError::from)?;
            let needs = manifest.needs_for(&config);
            if needs.origin {
                wanting_origin.push(manifest.name.clone());
            }
            let (name, version) = (&manifest.name, &manifest.version);
            let (form, file) = (library.form(), path.display());
            tracing::info!(name, version, %form, %file, port, ?needs, "plugin");
            steps.push(Step {
                config,
                library,
                port: *port,
            });
        }
        let unused = settings.unused();
        if !unused.is_empty() {
            let plugins = unused.join(", ");
            tracing::warn!(
                plugins,
                "told something by --plugin-config or --set, and not there"
            );
        }
        let host = |lane: &Lane| {
            let host = Host::new(steps.clone(), limits.clone()).map_err(PluginError::from)?;
            let mut ports: Vec<u16> = lane.mappings.iter().map(|it| it.origin_port).collect();
            ports.sort_unstable();
            ports.dedup();
            Ok(OfLane { host, ports })
        };
        let lanes = config
            .lanes
            .iter()
            .map(host)
            .collect::<Result<_, StartError>>()?;
        if !wanting_origin.is_empty()
            && let Some(filter) = &config.capture.filter
            && ["src", "dst"].iter().any(|word| filter.contains(word))
        {
            tracing::warn!(
                filter,
                "plugins need what origins answer, and -F narrows that as well: say host, net or \
                 port there without src and dst"
            );
        }
        Ok(Self {
            lanes,
            wanting_origin,
        })
    }

    /// Whether any plugin wants what origins answer on this port.
    #[must_use]
    pub fn want_origin(&self, port: u16) -> bool {
        let needs = self.lanes.iter().filter_map(|lane| lane.host.needs(port));
        needs.into_iter().any(|needs: Needs| needs.origin)
    }

    /// Whether any plugin of a lane wants what the target answers.
    #[must_use]
    pub fn want_replies(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| {
            let needs = lane.ports.iter().filter_map(|port| lane.host.needs(*port));
            needs.into_iter().any(|needs| needs.target)
        })
    }

    /// The plugins for one engine of a lane; `waker` wakes its shard when a value has come that a
    /// session of it waits for.
    #[must_use]
    pub fn of_lane(&self, lane: usize, waker: &Waker) -> Option<Box<dyn EnginePlugins>> {
        let OfLane { host, ports } = self.lanes.get(lane)?;
        // Nothing between the engine and its sessions where no plugin is for them.
        if ports.iter().all(|port| host.needs(*port).is_none()) {
            return None;
        }
        let waker = waker.clone();
        Some(Box::new(host.plugins(Arc::new(move || waker.wake()))))
    }

    /// The names of those that want what origins answer.
    #[must_use]
    pub fn wanting_origin(&self) -> &[String] {
        &self.wanting_origin
    }

    /// What the plugins of every lane have done so far.
    #[must_use]
    pub fn figures(&self) -> Vec<Vec<PluginFigures>> {
        self.lanes.iter().map(|lane| lane.host.figures()).collect()
    }
}

/// What the options and the file that they name tell plugins.
pub(super) fn settings(options: &TellOptions) -> Result<Settings, PluginError> {
    let mut settings = match &options.plugin_config {
        None => Settings::default(),
        Some(path) => Settings::read(path)?,
    };
    for assignment in &options.set {
        settings.set(assignment)?;
    }
    Ok(settings)
}
