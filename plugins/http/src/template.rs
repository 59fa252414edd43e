//! Values of headers that say something of the session.

use std::fmt;

use plugin_api::SessionInfo;

use crate::head::is_token;

/// A text with places for what differs between sessions.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Copy,
    Client,
    ClientPort,
    Origin,
}

/// Without the text, which may be a secret.
impl fmt::Debug for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Template").finish_non_exhaustive()
    }
}

impl Template {
    /// Reads `{copy}`, `{client}`, `{client_port}` and `{origin}`; `{{` is a brace.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        check(text)?;
        let (mut parts, mut plain) = (Vec::new(), Vec::new());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            plain.extend_from_slice(before.as_bytes());
            if let Some(after) = after.strip_prefix('{') {
                plain.push(b'{');
                rest = after;
                continue;
            }
            let (name, after) = after.split_once('}').ok_or("`{` has no `}`")?;
            let part = match name {
                "copy" => Part::Copy,
                "client" => Part::Client,
                "client_port" => Part::ClientPort,
                "origin" => Part::Origin,
                _ => {
                    return Err(format!(
                        "`{{{name}}}` is none of {{copy}}, {{client}}, {{client_port}}, {{origin}}; \
                         a brace is written {{{{"
                    ));
                }
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(part);
            rest = after;
        }
        plain.extend_from_slice(rest.as_bytes());
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// A text as it is.
    pub(crate) fn plain(text: &str) -> Self {
        Self(vec![Part::Text(text.as_bytes().to_vec())])
    }

    pub(crate) fn write(&self, session: &SessionInfo, out: &mut Vec<u8>) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Copy => out.extend_from_slice(session.copy.to_string().as_bytes()),
                Part::Client => out.extend_from_slice(session.client.ip().to_string().as_bytes()),
                Part::ClientPort => {
                    out.extend_from_slice(session.client.port().to_string().as_bytes());
                }
                Part::Origin => out.extend_from_slice(session.origin.to_string().as_bytes()),
            }
        }
    }
}

/// Whether a text may be the value of a header (RFC 9110, section 5.5).
pub(crate) fn check(text: &str) -> Result<(), String> {
    let is_control = |byte: u8| (byte < 0x20 && byte != b'\t') || byte == 0x7f;
    match text.bytes().any(is_control) || text.trim() != text {
        true => {
            Err("is no value of a header: it has control characters, or blanks around it".into())
        }
        false => Ok(()),
    }
}

/// Whether a text may be the name of a header (RFC 9110, section 5.1).
pub(crate) fn check_name(text: &str) -> Result<(), String> {
    match !text.is_empty() && text.bytes().all(is_token) {
        true => Ok(()),
        false => Err(format!("`{text}` is no name of a header")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled() {
        let session = SessionInfo {
            copy: 3,
            ..SessionInfo::example()
        };
        let of = |text: &str| {
            let mut out = Vec::new();
            Template::read(text)
                .expect("a template")
                .write(&session, &mut out);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(of("tcpcopy"), "tcpcopy");
        assert_eq!(of("copy {copy} {{of}"), "copy 3 {of}");
        assert_eq!(of("{client}:{client_port}"), "192.0.2.1:50001");
        assert_eq!(of("{origin}"), "198.51.100.1:80");
    }

    #[test]
    fn what_would_break_a_head_is_refused() {
        assert!(Template::read("a\r\nb").is_err());
        assert!(Template::read(" a").is_err());
        assert!(Template::read("{copy").is_err() && Template::read("{cpy}").is_err());
        assert!(check_name("X-Replayed").is_ok() && check_name("a b").is_err());
        assert!(check_name("").is_err());
    }
}
