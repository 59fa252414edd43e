//! What can be wrong on the way to intercept.

/// A fault of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// Nobody listens where intercept should.
    NoIntercept {
        /// Where, with the port.
        intercept: String,
    },
    /// Intercept can't be reached, or does not answer as one.
    Unreachable {
        /// Where it should be, with the port.
        intercept: String,
        /// What happened.
        reason: String,
    },
    /// The ends of the tunnel don't have the same key.
    Key {
        /// Where intercept is, with the port.
        intercept: String,
        /// What happened.
        reason: String,
    },
}

impl Tunnel {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::NoIntercept { .. } => "no_intercept",
            Self::Unreachable { .. } => "tunnel_unreachable",
            Self::Key { .. } => "tunnel_key",
        }
    }

    pub(super) fn what(&self) -> String {
        match self {
            Self::NoIntercept { intercept } => {
                format!("nobody listens at {intercept}: intercept does not run there")
            }
            Self::Unreachable { intercept, reason } => {
                format!("no tunnel to intercept at {intercept}: {reason}")
            }
            Self::Key { intercept, reason } => {
                format!("intercept at {intercept} does not have the key of this end: {reason}")
            }
        }
    }

    pub(super) fn remedy(&self) -> String {
        match self {
            Self::NoIntercept { intercept } => {
                let (_, port) = parts(intercept);
                format!(
                    "start intercept there (its -p is {port}), or name its place with -s HOST:PORT"
                )
            }
            Self::Unreachable { intercept, .. } => {
                let (host, port) = parts(intercept);
                format!("let TCP port {port} in on {host}; check -s and -p")
            }
            Self::Key { .. } => {
                "give both ends the same file with --key-file; one is made so: intercept \
                 --generate-key > key && chmod 600 key"
                    .to_owned()
            }
        }
    }
}

/// Host and port of an intercept.
fn parts(intercept: &str) -> (&str, &str) {
    intercept.rsplit_once(':').unwrap_or((intercept, ""))
}
