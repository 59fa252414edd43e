//! What [`export_plugin!`](crate::export_plugin) needs of this crate. Nothing here is for authors.

#[cfg(not(target_arch = "wasm32"))]
pub mod native;
#[cfg(not(target_arch = "wasm32"))]
mod panics;
#[cfg(target_arch = "wasm32")]
pub mod wasm;

use std::panic::PanicHookInfo;

/// A panic's words and place, for the log.
fn panic_words(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no message");
    match panic.location() {
        Some(place) => format!("panicked at {place}: {text}"),
        None => format!("panicked: {text}"),
    }
}

/// Exports a plugin: as the symbol of a native library, or, built for `wasm32-unknown-unknown`, as
/// a module of the WIT contract. It stands once in a crate, whose `Cargo.toml` says
///
/// ```toml
/// [lib]
/// crate-type = ["cdylib", "rlib"]     # rlib: for tests that use the crate
/// ```
///
/// ```
/// # use plugin_api::{Config, Context, Manifest, Plugin, Session, SessionInfo, export_plugin};
/// # struct MyPlugin;
/// # impl Plugin for MyPlugin {
/// #     type Session = Connection;
/// #     fn manifest() -> Manifest { Manifest::new("mine", "0.1.0", "") }
/// #     fn configure(_: &Config) -> Result<Self, String> { Ok(MyPlugin) }
/// #     fn open(&mut self, _: &SessionInfo, _: &mut Context<'_>) -> Connection { Connection }
/// # }
/// # struct Connection;
/// # impl Session<MyPlugin> for Connection {
/// #     fn on_client(&mut self, _: &mut MyPlugin, _: &[u8], _: &mut Context<'_>) {}
/// # }
/// export_plugin!(MyPlugin);
/// ```
///
/// A panic ends neither tcpcopy nor other plugins: it is caught at the border (native) or traps
/// (WASM), written to the log with its place in the source, and the sessions of that instance end
/// as failed.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            static TABLE: $crate::abi::native::Table = $crate::export::native::table::<$plugin>();

            #[unsafe(no_mangle)]
            extern "C" fn tcpcopy_plugin_v0_1() -> *const $crate::abi::native::Table {
                &raw const TABLE
            }
        };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::export::wasm::Exported<$plugin>;
            $crate::export::wasm::export_component!(
                Exported with_types_in $crate::export::wasm::bindings
            );
        };
    };
}
