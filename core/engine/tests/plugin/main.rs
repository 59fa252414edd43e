//! Conversations between the engine and a plugin, call by call, over kernel sockets.

#![forbid(unsafe_code)]

mod dialogue;
mod exchanges;
mod life;
mod streams;
