//! What an answer says that a rule learns.

use plugin_api::Context;

use super::content::Content;
use super::{Rule, Source, Values, cookie, html, json};
use crate::head::Head;

/// The values of one answer, each with the place of its rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Learnt(Vec<(usize, Vec<u8>)>);

impl Learnt {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.0.iter().map(|(rule, value)| (*rule, value.as_slice()))
    }

    pub(crate) fn find(&self, rule: usize) -> Option<&[u8]> {
        let found = self.iter().find(|(it, _)| *it == rule);
        found.map(|(_, value)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those behind the first `count`.
    pub(crate) fn since(&self, count: usize) -> Self {
        Self(self.0[count..].to_vec())
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    fn push(&mut self, rule: usize, value: &[u8]) {
        if !value.is_empty() {
            self.0.push((rule, value.to_vec()));
        }
    }
}

impl Values {
    /// What the head of an answer says.
    pub(crate) fn learn_head(&self, mask: u32, head: &Head) -> Learnt {
        let mut learnt = Learnt::default();
        for (at, rule) in self.of_mask(mask) {
            // Of several, the last counts (RFC 6265, section 5.3).
            let value = match &rule.from {
                Source::Cookie(name) => {
                    let cookies = head.values("set-cookie").filter_map(cookie::set_cookie);
                    cookies
                        .filter(|(it, _)| it == name)
                        .last()
                        .map(|(_, it)| it)
                }
                Source::Header(name) => {
                    let is_it = |it: &[u8]| it.eq_ignore_ascii_case(name);
                    let fields = head.fields().filter(|(it, _)| is_it(it));
                    fields.last().map(|(_, value)| value)
                }
                Source::Json(_) | Source::Body(_) => None,
            };
            learnt.push(at, value.unwrap_or_default());
        }
        learnt
    }

    /// A place for the body of an answer, if a rule looks at it.
    pub(crate) fn content(&self, mask: u32, head: &Head) -> Option<Content> {
        if !self.of_mask(mask).any(|(_, rule)| rule.from.is_in_body()) {
            return None;
        }
        let content = Content::of(head, self.body_bytes)?;
        let looks = |(_, rule): (usize, &Rule)| match rule.from {
            Source::Json(_) => content.is_json(),
            Source::Body(_) => true,
            Source::Cookie(_) | Source::Header(_) => false,
        };
        self.of_mask(mask).any(looks).then_some(content)
    }

    /// What the body of an answer says.
    pub(crate) fn learn_body(&self, mask: u32, content: &Content, ctx: &mut Context<'_>) -> Learnt {
        let mut learnt = Learnt::default();
        let text = content.read();
        for (at, rule) in self.of_mask(mask) {
            match (&rule.from, &text) {
                (Source::Cookie(_) | Source::Header(_), _) => {}
                (_, None) => ctx.count(&rule.counters.unreadable, 1),
                (Source::Json(path), Some(text)) if content.is_json() => {
                    let inside = json::find(text, path).map(|it| &text[it]);
                    if let Some(value) = inside.and_then(json::unescape) {
                        learnt.push(at, &value);
                    }
                }
                (Source::Json(_), Some(_)) => {}
                (Source::Body(pattern), Some(text)) => {
                    if let Some(found) = pattern.first_group(text) {
                        learnt.push(at, &html::unescape(&text[found]));
                    }
                }
            }
        }
        learnt
    }
}
