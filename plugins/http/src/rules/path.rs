//! What the configuration makes of a request's target (RFC 9112, section 3.2).

use crate::head::Head;

/// Changes of the path.
#[derive(Debug, Default)]
pub(crate) struct Path {
    /// Taken off where a path begins with it.
    pub(crate) strip_prefix: Vec<u8>,
    /// Put before each path.
    pub(crate) prefix: Vec<u8>,
}

impl Path {
    pub(crate) fn is_any(&self) -> bool {
        !self.strip_prefix.is_empty() || !self.prefix.is_empty()
    }

    /// Changes path and, where the target has one, authority.
    pub(crate) fn apply(&self, head: &mut Head, host: Option<&[u8]>) {
        let target = head.target();
        let (authority, path) = split(target);
        let has_authority = !authority.is_empty();
        if !self.is_any() && !has_authority {
            return;
        }
        if path.is_empty() && !has_authority {
            // `*`, or the authority of a CONNECT.
            return;
        }
        let mut new = Vec::with_capacity(target.len() + self.prefix.len());
        match host {
            Some(host) if has_authority => {
                new.extend_from_slice(b"http://");
                new.extend_from_slice(host);
            }
            _ => new.extend_from_slice(authority),
        }
        let rest = strip(path, &self.strip_prefix).unwrap_or(path);
        new.extend_from_slice(&self.prefix);
        // What is left may be empty, or a query; a prefix is a path already.
        if self.prefix.is_empty() && !rest.starts_with(b"/") {
            new.push(b'/');
        }
        new.extend_from_slice(rest);
        if new != target {
            head.set_target(&new);
        }
    }
}

/// The rest of a path that begins with whole segments of a prefix.
fn strip<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(prefix)?;
    matches!(rest, [] | [b'/' | b'?', ..]).then_some(rest)
}

/// Scheme with authority, and path with query; the path is empty for `*` and for a CONNECT.
pub(super) fn split(target: &[u8]) -> (&[u8], &[u8]) {
    if target.starts_with(b"/") {
        return (&[], target);
    }
    let Some(scheme) = memchr::memmem::find(target, b"://") else {
        return (&[], &[]);
    };
    let after = scheme + 3;
    let end = target[after..]
        .iter()
        .position(|it| matches!(it, b'/' | b'?'));
    target.split_at(end.map_or(target.len(), |end| after + end))
}

/// A target's path, without authority and query; empty for `*` and for a CONNECT.
pub(crate) fn path_of(target: &[u8]) -> &[u8] {
    let (_, path) = split(target);
    let end = memchr::memchr(b'?', path).unwrap_or(path.len());
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Message;
    use crate::limits::Limits;

    fn changed(strip: &str, prefix: &str, host: Option<&str>, target: &str) -> String {
        let path = Path {
            strip_prefix: strip.as_bytes().to_vec(),
            prefix: prefix.as_bytes().to_vec(),
        };
        let bytes = format!("GET {target} HTTP/1.1\r\n\r\n");
        let mut head = Head::default();
        let read = head.read(Message::Request, bytes.as_bytes(), &Limits::DEFAULT);
        assert_eq!(read, Ok(Some(bytes.len())));
        path.apply(&mut head, host.map(str::as_bytes));
        String::from_utf8_lossy(head.target()).into_owned()
    }

    #[test]
    fn prefixes_are_put_on_and_taken_off() {
        assert_eq!(changed("", "/v2", None, "/a?b=/v1"), "/v2/a?b=/v1");
        assert_eq!(changed("/v1", "", None, "/v1/a"), "/a");
        assert_eq!(changed("/v1", "/v2", None, "/v1?x"), "/v2?x");
        assert_eq!(changed("/v1", "", None, "/v1"), "/");
        assert_eq!(changed("/v1", "", None, "/v1?x"), "/?x");
        assert_eq!(changed("/v1", "", None, "/v10/a"), "/v10/a");
        assert_eq!(changed("", "/v2", None, "*"), "*");
        assert_eq!(
            changed("", "/v2", None, "example.com:443"),
            "example.com:443"
        );
    }

    #[test]
    fn a_target_with_an_authority_gets_the_host() {
        let host = Some("staging");
        assert_eq!(changed("", "", host, "/a"), "/a");
        assert_eq!(changed("", "", host, "http://x:80/a"), "http://staging/a");
        assert_eq!(changed("", "/p", host, "http://x"), "http://staging/p");
        assert_eq!(changed("", "/p", None, "http://x/a?b"), "http://x/p/a?b");
        assert_eq!(path_of(b"http://x/a/b?c"), b"/a/b");
        assert_eq!(path_of(b"*"), b"");
    }
}
