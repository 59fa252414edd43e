//! Changes by regular expression.

use crate::head::Head;
use crate::pattern::Pattern;

/// Replaces what matches.
#[derive(Debug)]
pub(crate) struct Rewrite {
    pub(crate) part: Part,
    pub(crate) pattern: Pattern,
    /// `$1` stands for a group.
    pub(crate) with: String,
}

/// Which part of a request.
#[derive(Debug)]
pub(crate) enum Part {
    /// The path with its query, behind the authority if there is one.
    Path,
    /// The values of a header.
    Header(Vec<u8>),
}

impl Rewrite {
    pub(crate) fn apply(&self, head: &mut Head) {
        match &self.part {
            Part::Path => {
                let target = head.target();
                let (authority, path) = super::path::split(target);
                if path.is_empty() {
                    return;
                }
                if let Some(new) = self.pattern.replace(path, &self.with) {
                    let new = [authority, &fit(new)].concat();
                    head.set_target(&new);
                }
            }
            Part::Header(name) => {
                for place in 0..head.fields().count() {
                    let mut fields = head.fields();
                    let new = fields
                        .nth(place)
                        .filter(|(it, _)| it.eq_ignore_ascii_case(name))
                        .and_then(|(_, value)| self.pattern.replace(value, &self.with));
                    drop(fields);
                    if let Some(new) = new {
                        head.set_value(place, new.trim_ascii());
                    }
                }
            }
        }
    }
}

/// A path stays one: `/` at its beginning, no blanks within.
fn fit(mut path: Vec<u8>) -> Vec<u8> {
    path.retain(|byte| *byte > b' ');
    if path.first() != Some(&b'/') {
        path.insert(0, b'/');
    }
    path
}
