//! Panics of a plugin, caught at the border.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use super::panic_words;

thread_local! {
    /// Whether this thread is in a call of ours: only those panics are ours.
    static IN_CALL: Cell<bool> = const { Cell::new(false) };
    /// The last panic's words and place.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes a call, and gives the words of its panic if it has one. What the call has changed must not
/// be trusted after that.
pub(super) fn catch<R>(call: impl FnOnce() -> R) -> Result<R, String> {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| match IN_CALL.get() {
            true => LAST.set(Some(panic_words(panic))),
            false => before(panic),
        }));
    });
    let was_in_call = IN_CALL.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    IN_CALL.set(was_in_call);
    result.map_err(|payload| {
        forget(payload);
        LAST.take().unwrap_or_else(|| "panicked".to_owned())
    })
}

/// The payload belongs to the plugin, and dropping it may panic once more.
fn forget(payload: Box<dyn Any + Send>) {
    if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}
