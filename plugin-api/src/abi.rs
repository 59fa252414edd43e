//! The contract between plugins and the host, for hosts and for authors in other languages.
//!
//! One version of the contract has two forms that say the same:
//!
//! - **WASM**: the WIT package [`PACKAGE`] in `plugin-api/wit/v0.1.0/`, as a component or as a core
//!   module with its exports, of which the host makes one. Nothing but the package's own imports is
//!   linked. `plugin-api/c/wasm` makes such a module of a native plugin in C.
//! - **native**: the C header `plugin-api/c/tcpcopy_plugin.h`; a shared library exports one symbol,
//!   [`SYMBOL`], whose name has the version in it.
//!
//! A published version never changes; a new one gets a new folder, a new symbol, and an adapter in
//! the host.
//!
//! Both forms are made for one crossing a call. An event goes in as scalars and at most one string
//! of bytes. What the plugin wants comes out as **one** string of bytes, a list of [`Action`]s
//! written one after the other; a list of typed values would cost an allocation and a crossing for
//! each of them. The host answers at once only what can't wait (`random`, `log`, the shared map).

mod action;
mod event;
pub mod native;
mod setting;

pub use action::{
    Action, ActionBuffer, Actions, LABEL_BYTES, MalformedAction, NAME_BYTES, TAG_BYTES,
};
pub use event::Event;
pub use setting::{DEPTH, Scalar, Setting, SettingError, assemble, flatten};

/// The contract's version.
pub const VERSION: &str = "0.1.0";

/// The WIT package of this version.
pub const PACKAGE: &str = "tcpcopy:plugin@0.1.0";

/// The world of [`PACKAGE`] that a plugin implements.
pub const WORLD: &str = "plugin";

/// The text of [`PACKAGE`].
pub const WIT: &str = include_str!("../wit/v0.1.0/plugin.wit");

/// The symbol of a native plugin of this version: a [`native::Entry`].
pub const SYMBOL: &str = "tcpcopy_plugin_v0_1";
