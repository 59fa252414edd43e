//! The native form of the contract: the structures of `plugin-api/c/tcpcopy_plugin.h`, which says
//! what each means and how long it lives.
//!
//! A host loads the library, looks [`SYMBOL`](super::SYMBOL) up as an [`Entry`], calls it, and
//! checks the [`Table`] with [`Calls::of`] before it uses any of it.
//!
//! ```
//! use plugin_api::abi::native::{Calls, Table, TableError, VERSION};
//!
//! # let nothing = Table { version: VERSION, reserved: 0, manifest: None, configure: None,
//! #     open: None, on_data: None, on_gap: None, on_end: None, on_timer: None, on_shared: None,
//! #     close: None, destroy: None };
//! // What a library has given, which may be anything:
//! let table: Table = nothing;
//! assert_eq!(Calls::of(&table).unwrap_err(), TableError::Missing("manifest"));
//! ```

mod value;

use std::ffi::c_void;

use thiserror::Error;

use crate::{Direction, Level};

pub use value::{Bytes, Endpoint, Info, Key, Manifest, RawSetting, Sink};

/// The version that a table of this contract carries: 0.1.
pub const VERSION: u32 = 0x0001_0000;

/// The call went well.
pub const OK: i32 = 0;

/// `configure`: the configuration will not do; the sink has got the reason.
pub const REFUSED: i32 = 1;

/// The plugin is broken: it can only be closed and destroyed.
pub const FAILED: i32 = 2;

/// `missing` of `on_gap` when it is not known.
pub const UNKNOWN: u64 = u64::MAX;

/// The function behind [`SYMBOL`](super::SYMBOL).
pub type Entry = unsafe extern "C" fn() -> *const Table;

/// What the host answers at once. The first argument is always `context`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The host's own.
    pub context: *mut c_void,
    /// Random bits.
    pub random: unsafe extern "C" fn(*mut c_void) -> u64,
    /// Writes to the log.
    pub log: unsafe extern "C" fn(*mut c_void, level: u32, message: Bytes),
    /// Looks a shared value up: 1 when the sink has got it.
    pub share_get: unsafe extern "C" fn(*mut c_void, key: Bytes, value: Sink) -> u32,
    /// Takes a shared value out: 1 when the sink has got it.
    pub share_take: unsafe extern "C" fn(*mut c_void, key: Bytes, value: Sink) -> u32,
    /// Sets a shared value for so many microseconds: 1 when it fitted.
    pub share_set: unsafe extern "C" fn(*mut c_void, key: Bytes, value: Bytes, expiry: u64) -> u32,
}

/// Calls `take` once with the manifest.
pub type ManifestFn = unsafe extern "C" fn(
    context: *mut c_void,
    take: unsafe extern "C" fn(*mut c_void, *const Manifest),
) -> i32;

/// Makes an instance.
pub type ConfigureFn = unsafe extern "C" fn(
    host: *const Host,
    settings: *const RawSetting,
    setting_count: usize,
    instance: *mut *mut c_void,
    error: Sink,
) -> i32;

/// Opens a session.
pub type OpenFn = unsafe extern "C" fn(
    instance: *mut c_void,
    now: u64,
    info: *const Info,
    session: *mut *mut c_void,
    actions: Sink,
) -> i32;

/// Brings bytes of a stream.
pub type OnDataFn = unsafe extern "C" fn(
    instance: *mut c_void,
    session: *mut c_void,
    now: u64,
    direction: u32,
    bytes: Bytes,
    actions: Sink,
) -> i32;

/// Tells of a hole in a stream.
pub type OnGapFn = unsafe extern "C" fn(
    instance: *mut c_void,
    session: *mut c_void,
    now: u64,
    direction: u32,
    missing: u64,
    actions: Sink,
) -> i32;

/// Tells of the end of a stream.
pub type OnEndFn = unsafe extern "C" fn(
    instance: *mut c_void,
    session: *mut c_void,
    now: u64,
    direction: u32,
    actions: Sink,
) -> i32;

/// Tells that the timer has gone off.
pub type OnTimerFn = unsafe extern "C" fn(
    instance: *mut c_void,
    session: *mut c_void,
    now: u64,
    actions: Sink,
) -> i32;

/// Brings a shared value, or null.
pub type OnSharedFn = unsafe extern "C" fn(
    instance: *mut c_void,
    session: *mut c_void,
    now: u64,
    key: Bytes,
    value: *const Bytes,
    actions: Sink,
) -> i32;

/// Frees a session.
pub type CloseFn = unsafe extern "C" fn(instance: *mut c_void, session: *mut c_void) -> i32;

/// Frees an instance.
pub type DestroyFn = unsafe extern "C" fn(instance: *mut c_void) -> i32;

/// Makes the table as a plugin gives it, in which anything may be null, and as a host uses it.
macro_rules! table {
    ($($name:ident: $function:ty, $doc:literal;)*) => {
        /// What a plugin exports. Whoever wrote it may have left functions out.
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct Table {
            /// [`VERSION`].
            pub version: u32,
            /// 0.
            pub reserved: u32,
            $(#[doc = $doc] pub $name: Option<$function>,)*
        }

        /// A table that is complete.
        #[derive(Clone, Copy, Debug)]
        pub struct Calls {
            $(#[doc = $doc] pub $name: $function,)*
        }

        impl Calls {
            /// Checks a table.
            ///
            /// # Errors
            /// When it is of another version, or a function is missing.
            pub fn of(table: &Table) -> Result<Self, TableError> {
                if table.version != VERSION {
                    return Err(TableError::Version(table.version));
                }
                Ok(Self {
                    $($name: table.$name.ok_or(TableError::Missing(stringify!($name)))?,)*
                })
            }
        }
    };
}

table! {
    manifest: ManifestFn, "Says who the plugin is.";
    configure: ConfigureFn, "Makes an instance.";
    open: OpenFn, "Opens a session.";
    on_data: OnDataFn, "Brings bytes of a stream.";
    on_gap: OnGapFn, "Tells of a hole in a stream.";
    on_end: OnEndFn, "Tells of the end of a stream.";
    on_timer: OnTimerFn, "Tells that the timer has gone off.";
    on_shared: OnSharedFn, "Brings a shared value.";
    close: CloseFn, "Frees a session.";
    destroy: DestroyFn, "Frees an instance.";
}

/// Why a table is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TableError {
    /// It is of another version.
    #[error("it is made for version {}.{} of the contract", .0 >> 24, .0 >> 16 & 0xff)]
    Version(u32),
    /// A function is missing.
    #[error("its function `{0}` is missing")]
    Missing(&'static str),
}

/// The number of a stream.
#[must_use]
pub fn number_of(direction: Direction) -> u32 {
    match direction {
        Direction::Client => 0,
        Direction::Origin => 1,
        Direction::Target => 2,
    }
}

/// The stream of a number.
///
/// ```
/// use plugin_api::{Direction, abi::native};
/// assert_eq!(native::direction_of(native::number_of(Direction::Target)), Some(Direction::Target));
/// assert_eq!(native::direction_of(3), None);
/// ```
#[must_use]
pub fn direction_of(number: u32) -> Option<Direction> {
    match number {
        0 => Some(Direction::Client),
        1 => Some(Direction::Origin),
        2 => Some(Direction::Target),
        _ => None,
    }
}

/// All levels, in the order of their numbers.
pub const LEVELS: [Level; 5] = [
    Level::Error,
    Level::Warn,
    Level::Info,
    Level::Debug,
    Level::Trace,
];
