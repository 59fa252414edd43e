//! What is sent to the target when a client says this and servers say that.

mod answers;
mod framing;
mod headers;
mod hostile;
mod kept;
mod play;
mod readme;
mod selection;
mod values;
