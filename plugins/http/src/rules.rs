//! What the configuration makes of a request's head.

mod filter;
mod path;
mod rewrite;

use plugin_api::SessionInfo;

pub(crate) use filter::{Filter, Match, SHARES, Sample, Without};
pub(crate) use path::{Path, path_of};
pub(crate) use rewrite::{Part, Rewrite};

use crate::head::Head;
use crate::template::Template;

/// Headers to rename: old name, new name.
pub(crate) type Names = Vec<(Vec<u8>, Vec<u8>)>;

/// All changes, in the order in which they are made.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) path: Path,
    pub(crate) rewrite: Vec<Rewrite>,
    pub(crate) rename: Names,
    pub(crate) remove: Vec<Vec<u8>>,
    pub(crate) set: Vec<(Vec<u8>, Template)>,
    pub(crate) add: Vec<(Vec<u8>, Template)>,
    /// What stands in for the authority of a target that has one.
    pub(crate) host: Option<Vec<u8>>,
}

impl Rules {
    /// Changes a request's head.
    pub(crate) fn apply(&self, head: &mut Head, session: &SessionInfo) {
        if self.path.is_any() || self.host.is_some() {
            self.path.apply(head, self.host.as_deref());
        }
        for rewrite in &self.rewrite {
            rewrite.apply(head);
        }
        for (old, new) in &self.rename {
            head.rename(old, new);
        }
        for name in &self.remove {
            head.remove(name);
        }
        for (name, value) in &self.set {
            head.set(name, |out| value.write(session, out));
        }
        for (name, value) in &self.add {
            head.add(name, |out| value.write(session, out));
        }
    }
}
