//! Changes within a request.

use std::ops::Range;

use crate::head::Head;

/// A part of a request gets another text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) part: Part,
    /// Which bytes of the part.
    pub(crate) range: Range<usize>,
    pub(crate) new: Vec<u8>,
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Target,
    /// The value of the field at this place.
    Field(usize),
    Body,
}

/// Puts edits into the order in which they are made, without those that overlap one before.
pub(crate) fn settle(edits: &mut Vec<Edit>) {
    // A stable order: of two at the same place, the first rule's comes first.
    edits.sort_by_key(|edit| (edit.part, edit.range.start));
    edits.dedup_by(|next, kept| next.part == kept.part && next.range.start < kept.range.end);
}

/// Makes the edits of the head.
pub(crate) fn apply_to_head(head: &mut Head, edits: &[Edit]) {
    for group in edits.chunk_by(|one, other| one.part == other.part) {
        match group[0].part {
            Part::Target => {
                let new = apply(head.target(), group);
                head.set_target(&new);
            }
            Part::Field(place) => {
                let mut fields = head.fields();
                let new = fields.nth(place).map(|(_, value)| apply(value, group));
                drop(fields);
                if let Some(new) = new {
                    head.set_value(place, &new);
                }
            }
            Part::Body => {}
        }
    }
}

/// The body with its edits; `None` where it has none.
pub(crate) fn apply_to_body(body: &[u8], edits: &[Edit]) -> Option<Vec<u8>> {
    let first = edits.iter().position(|edit| edit.part == Part::Body)?;
    Some(apply(body, &edits[first..]))
}

fn apply(text: &[u8], edits: &[Edit]) -> Vec<u8> {
    let (mut new, mut from) = (Vec::with_capacity(text.len()), 0);
    for edit in edits {
        // One that does not lie within the text is not made.
        let before = text.get(from..edit.range.start);
        if let (Some(before), true) = (before, edit.range.end <= text.len()) {
            new.extend_from_slice(before);
            new.extend_from_slice(&edit.new);
            from = edit.range.end;
        }
    }
    new.extend_from_slice(&text[from..]);
    new
}
