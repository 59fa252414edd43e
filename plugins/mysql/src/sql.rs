//! What the text of a statement says, as far as a replay must know it: what it is called in
//! reports, whether it writes, and whether it is one of the few that mean another thing at the
//! target.

mod digest;
mod escapes;
mod meaning;
mod prepared;
mod token;

pub(crate) use digest::digest;
pub(crate) use escapes::Escapes;
pub(crate) use meaning::{ByName, Change, Meaning, Means};
