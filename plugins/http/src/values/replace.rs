//! Values in requests: where they are, what stands for them at the target.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use plugin_api::Context;

use super::edit::{Edit, Part, settle};
use super::{GRACE, Kind, Rule, Source, VAIN_EXPIRY, Values, cookie, form, json, key};
use crate::head::Head;
use crate::place::Place;

/// What has come of looking for the counterparts of a request's values.
#[derive(Debug)]
pub(crate) enum Resolution {
    /// The request with these edits.
    Ready(Vec<Edit>),
    /// The counterpart of one is not known yet: this key has to be waited for.
    Wait { key: Vec<u8>, timeout: Duration },
    /// The request is left out.
    Drop,
}

/// How often a request has been looked at.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    /// Since when it has waited.
    since: Option<Duration>,
    /// The keys that it has waited for in vain.
    vain: Vec<Vec<u8>>,
    /// It can't wait any longer.
    pub(crate) is_urgent: bool,
}

impl Attempt {
    /// A key was waited for in vain.
    pub(crate) fn give_up(&mut self, key: &[u8]) {
        self.vain.push(key.to_vec());
    }
}

/// A value in a request.
struct Found<'a> {
    part: Part,
    range: Range<usize>,
    /// As it stands there.
    raw: &'a [u8],
    /// How it is written there.
    form: Form,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Cookie,
    /// As it is.
    Plain,
    Encoded,
    /// Inside of a JSON string.
    Text,
    /// A JSON number or the like.
    Bare,
}

impl Values {
    /// Whether a rule looks into the body of a request with this head.
    pub(crate) fn looks_into(&self, head: &Head) -> bool {
        if head.values("content-encoding").next().is_some() {
            return false;
        }
        let Some(kind) = head.values("content-type").next() else {
            return false;
        };
        let mut places = self.rules.iter().flat_map(|rule| &rule.to);
        places.any(|place| match place {
            Place::Form(_) => is_form(kind) || form::boundary(kind).is_some(),
            Place::Json(_) => is_json(kind),
            Place::Cookie(_) | Place::Header(_) | Place::Query(_) => false,
        })
    }

    /// Looks for the counterparts of all values of a request.
    pub(crate) fn resolve(
        &self,
        head: &Head,
        body: Option<&[u8]>,
        copy: u16,
        attempt: &mut Attempt,
        ctx: &mut Context<'_>,
    ) -> Resolution {
        let mut edits = Vec::new();
        // What comes of it is counted once, and not at each attempt.
        let mut results: Vec<&str> = Vec::new();
        let mut drops = None;
        for (at, rule) in self.rules.iter().enumerate() {
            let counters = &rule.counters;
            let found = rule.to.iter().flat_map(|place| find(place, head, body));
            for found in found {
                match self.look_up(at, copy, &found, attempt, ctx) {
                    Lookup::Nothing => {}
                    Lookup::Edit(new) => {
                        results.push(&counters.replaced);
                        edits.push(Edit {
                            part: found.part,
                            range: found.range,
                            new,
                        });
                    }
                    Lookup::Unfit => results.push(&counters.unfit),
                    Lookup::Unknown => {
                        results.push(&counters.unknown);
                        drops = drops.or(rule.drops.then_some(at));
                    }
                    Lookup::Wait { key, timeout } => return Resolution::Wait { key, timeout },
                }
            }
        }
        for counter in results {
            ctx.count(counter, 1);
        }
        if let Some(at) = drops {
            ctx.count(&self.rules[at].counters.dropped, 1);
            return Resolution::Drop;
        }
        settle(&mut edits);
        Resolution::Ready(edits)
    }

    fn look_up(
        &self,
        at: usize,
        copy: u16,
        found: &Found<'_>,
        attempt: &mut Attempt,
        ctx: &mut Context<'_>,
    ) -> Lookup {
        let rule = &self.rules[at];
        let Some(plain) = found.plain() else {
            return Lookup::Nothing;
        };
        let canonical = rule.canonical(&plain);
        if canonical.is_empty() {
            return Lookup::Nothing;
        }
        let counterpart = key(Kind::Counterpart, at, copy, &canonical);
        if let Some(value) = ctx.share().get(&counterpart) {
            return match found.write(&rule.written(found.form, &plain, &value)) {
                Some(new) => Lookup::Edit(new),
                None => Lookup::Unfit,
            };
        }
        let vain = key(Kind::Vain, at, copy, &canonical);
        if attempt.vain.contains(&counterpart) {
            ctx.share().set(&vain, b"", VAIN_EXPIRY);
            return Lookup::Unknown;
        }
        let is_seen = |ctx: &mut Context<'_>| {
            let seen = key(Kind::Seen, at, copy, &canonical);
            ctx.share().get(&seen).is_some()
        };
        let patience = match ctx.share().get(&vain) {
            Some(_) => Duration::ZERO,
            None if is_seen(ctx) => rule.wait,
            None => rule.wait.min(GRACE),
        };
        let since = *attempt.since.get_or_insert(ctx.now());
        let waited = ctx.now().saturating_sub(since);
        let timeout = patience.saturating_sub(waited);
        match timeout.is_zero() || attempt.is_urgent {
            true => Lookup::Unknown,
            false => Lookup::Wait {
                key: counterpart,
                timeout,
            },
        }
    }
}

/// What has come of looking for one value.
enum Lookup {
    Nothing,
    Edit(Vec<u8>),
    /// The counterpart can't stand where it should.
    Unfit,
    Unknown,
    Wait {
        key: Vec<u8>,
        timeout: Duration,
    },
}

impl Rule {
    /// The counterpart as it is to stand in this form, where the origin's value stood like `plain`.
    fn written<'a>(&self, form: Form, plain: &[u8], value: &'a [u8]) -> Cow<'a, [u8]> {
        match self.from {
            Source::Cookie(_) if form != Form::Cookie => {
                let value = cookie::unquoted(value);
                match memchr::memchr(b'%', plain) {
                    Some(_) => Cow::Borrowed(value),
                    None => form::decode_percent(value),
                }
            }
            _ => Cow::Borrowed(value),
        }
    }
}

impl Found<'_> {
    /// The value itself.
    fn plain(&self) -> Option<Cow<'_, [u8]>> {
        match self.form {
            Form::Cookie | Form::Plain | Form::Bare => Some(Cow::Borrowed(self.raw)),
            Form::Encoded => Some(form::decode(self.raw)),
            Form::Text => json::unescape(self.raw),
        }
    }

    /// How a value is written in its place; `None` where it can't be.
    fn write(&self, value: &[u8]) -> Option<Vec<u8>> {
        let in_head = self.part != Part::Body;
        let is_control = |it: &u8| (*it < 0x20 && *it != b'\t') || *it == 0x7f;
        match self.form {
            Form::Cookie if value.contains(&b';') => None,
            Form::Cookie | Form::Plain if in_head && value.iter().any(is_control) => None,
            Form::Cookie | Form::Plain => Some(value.to_vec()),
            Form::Encoded => Some(form::encode(value)),
            Form::Text => Some(json::escape(value)),
            Form::Bare => {
                let is_bare = |it: &u8| it.is_ascii_alphanumeric() || b"+-.".contains(it);
                Some(match !value.is_empty() && value.iter().all(is_bare) {
                    true => value.to_vec(),
                    false => [b"\"", json::escape(value).as_slice(), b"\""].concat(),
                })
            }
        }
    }
}

/// All values at a place of a request.
fn find<'a>(place: &'a Place, head: &'a Head, body: Option<&'a [u8]>) -> Vec<Found<'a>> {
    let fields = head.fields().enumerate();
    match place {
        Place::Cookie(name) => {
            let cookies = fields.filter(|(_, (it, _))| it.eq_ignore_ascii_case(b"cookie"));
            let values = cookies.flat_map(|(at, (_, value))| {
                let found = cookie::find(value, name);
                found.map(move |range| found_at(Part::Field(at), value, range, Form::Cookie))
            });
            values.collect()
        }
        Place::Header(name) => {
            let those = fields.filter(|(_, (it, _))| it.eq_ignore_ascii_case(name));
            let values = those.map(|(at, (name, value))| {
                let range = credentials(name, value)..value.len();
                found_at(Part::Field(at), value, range, Form::Plain)
            });
            values.collect()
        }
        Place::Query(name) => {
            let target = head.target();
            let start = memchr::memchr(b'?', target).map_or(target.len(), |at| at + 1);
            let values = form::find(&target[start..], name).map(|it| {
                let range = start + it.start..start + it.end;
                found_at(Part::Target, target, range, Form::Encoded)
            });
            values.collect()
        }
        Place::Form(name) => body.map_or_else(Vec::new, |body| in_form(head, body, name)),
        Place::Json(path) => {
            let body = body.filter(|_| head.values("content-type").any(is_json));
            let found = body.and_then(|body| {
                let range = json::find(body, path)?;
                let is_text = range.start > 0 && body[range.start - 1] == b'"';
                let form = if is_text { Form::Text } else { Form::Bare };
                Some(found_at(Part::Body, body, range, form))
            });
            found.into_iter().collect()
        }
    }
}

fn in_form<'a>(head: &Head, body: &'a [u8], name: &'a [u8]) -> Vec<Found<'a>> {
    let kind = head.values("content-type").next().unwrap_or_default();
    if let Some(boundary) = form::boundary(kind) {
        let parts = form::find_parts(body, boundary, name).into_iter();
        let found = parts.map(|range| found_at(Part::Body, body, range, Form::Plain));
        return found.collect();
    }
    if !is_form(kind) {
        return Vec::new();
    }
    let values = form::find(body, name);
    values
        .map(|range| found_at(Part::Body, body, range, Form::Encoded))
        .collect()
}

fn found_at(part: Part, text: &[u8], range: Range<usize>, form: Form) -> Found<'_> {
    Found {
        part,
        raw: &text[range.clone()],
        range,
        form,
    }
}

/// Where credentials begin: behind their scheme (RFC 9110, section 11.4).
fn credentials(name: &[u8], value: &[u8]) -> usize {
    let is_it = name.eq_ignore_ascii_case(b"authorization")
        || name.eq_ignore_ascii_case(b"proxy-authorization");
    let space = memchr::memchr(b' ', value).filter(|_| is_it);
    space.map_or(0, |at| at + 1)
}

fn is_form(kind: &[u8]) -> bool {
    let form = b"application/x-www-form-urlencoded";
    let start = kind.get(..form.len()).unwrap_or_default();
    start.eq_ignore_ascii_case(form)
}

fn is_json(kind: &[u8]) -> bool {
    let mut windows = kind.windows(4);
    windows.any(|window| window.eq_ignore_ascii_case(b"json"))
}
