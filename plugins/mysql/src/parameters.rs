//! Values that travel with a command: the parameters of prepared statements, and the attributes of
//! queries.

use std::collections::BTreeSet;

use crate::wire::{Reader, put_lenenc, put_lenenc_bytes};

#[cfg(test)]
mod tests;

/// In the flags of `COM_STMT_EXECUTE`: the number of parameters is given.
const COUNT_GIVEN: u8 = 8;

/// Bytes of `COM_STMT_EXECUTE` before the parameters: command, statement, flags, iterations.
const FIXED: usize = 10;

/// Where the flags are.
const FLAGS: usize = 5;

/// More parameters than a statement can have.
const MAX_COUNT: u64 = 65_535 * 2;

/// Where the statement begins in the payload of a `COM_QUERY` with attributes.
pub(crate) fn text_after_attributes(payload: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(payload);
    reader.skip(1)?;
    let count = reader.lenenc().filter(|count| *count <= MAX_COUNT)? as usize;
    // The number of sets, which is always one.
    reader.lenenc()?;
    if count > 0 {
        let parameters = Parameters::read(&mut reader, count, true)?;
        let types = parameters.types.as_ref()?;
        for (at, kind) in types.iter().enumerate() {
            if !parameters.is_null(at) {
                pass_value(&mut reader, *kind)?;
            }
        }
    }
    Some(payload.len() - reader.rest().len())
}

/// What stands before the values.
#[derive(Debug)]
struct Parameters<'a> {
    nulls: &'a [u8],
    /// Type and sign of each, where they are given.
    types: Option<Vec<u16>>,
}

impl<'a> Parameters<'a> {
    fn read(reader: &mut Reader<'a>, count: usize, has_names: bool) -> Option<Self> {
        let nulls = reader.bytes(count.div_ceil(8))?;
        let are_given = reader.u8()? != 0;
        let mut types = None;
        if are_given {
            let mut list = Vec::new();
            for _ in 0..count {
                list.push(reader.u16()?);
                if has_names {
                    reader.lenenc_bytes()?;
                }
            }
            types = Some(list);
        }
        Some(Self { nulls, types })
    }

    fn is_null(&self, at: usize) -> bool {
        self.nulls[at / 8] & (1 << (at % 8)) != 0
    }
}

/// Passes over a value of this type.
fn pass_value(reader: &mut Reader<'_>, kind: u16) -> Option<()> {
    match kind as u8 {
        // NULL; TINY, BOOL; SHORT, YEAR; LONG, FLOAT, INT24; DOUBLE, LONGLONG.
        0x06 => Some(()),
        0x01 | 0xf4 => reader.skip(1),
        0x02 | 0x0d => reader.skip(2),
        0x03 | 0x04 | 0x09 => reader.skip(4),
        0x05 | 0x08 => reader.skip(8),
        // Times begin with their length; all the others are strings.
        0x07 | 0x0a | 0x0b | 0x0c => {
            let length = reader.u8()?;
            reader.skip(usize::from(length))
        }
        _ => reader.lenenc_bytes().map(drop),
    }
}

/// A `COM_STMT_EXECUTE` as the client sent it, or its beginning.
#[derive(Debug)]
pub(crate) struct Execute<'a> {
    payload: &'a [u8],
    /// Whether it may name its parameters: query attributes were agreed upon.
    has_names: bool,
    /// How many parameters it says it has, attributes included.
    count: usize,
    /// How many of them are the statement's own.
    own: usize,
    parameters: Option<Parameters<'a>>,
    values: &'a [u8],
}

/// What the target must be told in place of what the client said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retelling<'a> {
    pub(crate) statement: u32,
    /// Query attributes are agreed upon with the target.
    pub(crate) with_names: bool,
    /// The types to be told although the client does not tell them.
    pub(crate) types: Option<&'a [u16]>,
    /// Parameters whose values have been sent before.
    pub(crate) sent_before: &'a BTreeSet<u16>,
}

impl<'a> Execute<'a> {
    /// Reads the execution of a statement with so many parameters. `has_attributes` where that was
    /// agreed upon; `None`, where it is not known, lets the flags decide.
    pub(crate) fn read(payload: &'a [u8], own: u16, has_attributes: Option<bool>) -> Option<Self> {
        let mut reader = Reader::new(payload);
        reader.skip(FIXED)?;
        let own = usize::from(own);
        let is_flagged = payload[FLAGS] & COUNT_GIVEN != 0;
        // With parameters of its own, a statement's count is there without the flag, too.
        let count_given = match has_attributes {
            Some(are_agreed) => are_agreed && (is_flagged || own > 0),
            None => is_flagged,
        };
        let has_names = has_attributes.unwrap_or(count_given);
        let count = match count_given {
            true => reader.lenenc().filter(|count| *count <= MAX_COUNT)? as usize,
            false => own,
        };
        let parameters = match count {
            0 => None,
            count => Some(Parameters::read(&mut reader, count, has_names)?),
        };
        Some(Self {
            payload,
            has_names,
            count,
            own,
            parameters,
            values: reader.rest(),
        })
    }

    /// The types of the statement's parameters, if they are given.
    pub(crate) fn types(&self) -> Option<&[u16]> {
        let types = self.parameters.as_ref()?.types.as_deref()?;
        types.get(..self.own)
    }

    /// Whether query attributes shape it.
    pub(crate) fn has_names(&self) -> bool {
        self.has_names
    }

    /// Whether the target has to know the types from before.
    pub(crate) fn relies_on_types(&self) -> bool {
        self.parameters
            .as_ref()
            .is_some_and(|it| it.types.is_none())
    }

    /// Whether nothing but the statement's number has to be changed.
    pub(crate) fn fits(&self, retelling: Retelling<'_>) -> bool {
        let same_shape = self.has_names == retelling.with_names;
        same_shape && !(self.relies_on_types() && retelling.types.is_some())
    }

    /// The payload for the target. `None` when what it takes is not there.
    pub(crate) fn retell(&self, retelling: Retelling<'_>) -> Option<Vec<u8>> {
        let mut out = self.payload[..FIXED].to_vec();
        super::command::replace_statement_id(&mut out, retelling.statement);
        if self.fits(retelling) {
            out.extend_from_slice(&self.payload[FIXED..]);
            return Some(out);
        }
        let count = if retelling.with_names {
            self.count
        } else {
            self.own
        };
        match retelling.with_names {
            true => {
                out[FLAGS] |= COUNT_GIVEN;
                put_lenenc(&mut out, count as u64);
            }
            false => out[FLAGS] &= !COUNT_GIVEN,
        }
        let Some(parameters) = self.parameters.as_ref().filter(|_| count > 0) else {
            return Some(out);
        };
        let given = parameters.types.as_deref();
        let types = given.or(retelling.types)?.get(..count)?;
        self.put_nulls(&mut out, parameters, count);
        out.push(1);
        for kind in types {
            out.extend_from_slice(&kind.to_le_bytes());
            if retelling.with_names {
                put_lenenc_bytes(&mut out, b"");
            }
        }
        out.extend_from_slice(self.values_of(parameters, types, retelling.sent_before)?);
        Some(out)
    }

    fn put_nulls(&self, out: &mut Vec<u8>, parameters: &Parameters<'_>, count: usize) {
        let start = out.len();
        out.extend_from_slice(&parameters.nulls[..count.div_ceil(8)]);
        if !count.is_multiple_of(8)
            && let Some(last) = out[start..].last_mut()
        {
            *last &= (1 << (count % 8)) - 1;
        }
    }

    /// The values of the first parameters, of which these are the types.
    fn values_of(
        &self,
        parameters: &Parameters<'_>,
        types: &[u16],
        sent_before: &BTreeSet<u16>,
    ) -> Option<&'a [u8]> {
        if types.len() == self.count {
            return Some(self.values);
        }
        let mut reader = Reader::new(self.values);
        for (at, kind) in types.iter().enumerate() {
            if !parameters.is_null(at) && !sent_before.contains(&(at as u16)) {
                pass_value(&mut reader, *kind)?;
            }
        }
        Some(&self.values[..self.values.len() - reader.rest().len()])
    }
}
