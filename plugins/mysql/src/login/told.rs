//! What the captured half of a login tells of the connection.

use crate::capability::Capabilities;

use super::captured::Verdict;
use super::response::Response;
use super::{Kind, Known, Login, request};

impl Login {
    /// What client and origin have agreed upon, as soon as both have spoken (for a login that began
    /// with the connection: what each of them said, joined with `&`, where the origin's greeting was
    /// seen, else what the client said).
    pub(crate) fn client_capabilities(&self) -> Option<Capabilities> {
        let Kind::Begun = self.kind else {
            return self.result.client;
        };
        let response = self.captured.response.as_ref()?;
        let origin = self.captured.greeting.as_ref();
        Some(request::agreed(response.capabilities, origin))
    }

    /// Whether what the origin can do is known, and not only what the client can.
    pub(crate) fn has_seen_origin(&self) -> bool {
        self.kind != Kind::Begun || self.captured.greeting.is_some()
    }

    /// To whom a connection belongs when the origin has let in whom this `COM_CHANGE_USER` names;
    /// `None` if it is none.
    pub(crate) fn changed_by(&self, command: &[u8]) -> Option<Known> {
        let agreed = match self.result.target {
            Capabilities(0) => request::USUAL | request::OURS,
            target => target,
        };
        let agreed = self.client_capabilities().unwrap_or(agreed);
        let response = Response::parse_change_user(command, agreed)?;
        Some(Known {
            user: response.user,
            database: response.database,
            character_set: response.character_set,
            client: None,
        })
    }

    /// Whether the origin has refused the captured client.
    pub(crate) fn is_denied_at_origin(&self) -> bool {
        self.captured.verdict == Some(Verdict::Denied)
    }
}
