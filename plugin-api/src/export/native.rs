//! The native export: the functions of the table, for any plugin.

#![allow(unsafe_code, reason = "what crosses the border is pointers")]

use std::ffi::c_void;
use std::time::Duration;

use super::panics;
use crate::abi::native::{
    self, Bytes, FAILED, Info, Key, LEVELS, Manifest, OK, REFUSED, RawSetting, Sink, Table, UNKNOWN,
};
use crate::abi::{Event, Setting, assemble};
use crate::context::Host;
use crate::instance::Instance;
use crate::{Level, Plugin, Session, SessionInfo};

/// The table of a plugin.
#[must_use]
pub const fn table<P: Plugin>() -> Table {
    Table {
        version: native::VERSION,
        reserved: 0,
        manifest: Some(manifest::<P>),
        configure: Some(configure::<P>),
        open: Some(open::<P>),
        on_data: Some(on_data::<P>),
        on_gap: Some(on_gap::<P>),
        on_end: Some(on_end::<P>),
        on_timer: Some(on_timer::<P>),
        on_shared: Some(on_shared::<P>),
        close: Some(close::<P>),
        destroy: Some(destroy::<P>),
    }
}

/// What the host holds as an instance.
struct Exported<P> {
    instance: Instance<P>,
    host: NativeHost,
    /// After a panic, nothing of the plugin is called any more but what frees it.
    has_panicked: bool,
}

impl<P: Plugin> Exported<P> {
    /// Makes a call and hands over what it asks for.
    fn call<R>(
        &mut self,
        actions: Sink,
        call: impl FnOnce(&mut Instance<P>, &mut NativeHost) -> R,
    ) -> Option<R> {
        if self.has_panicked {
            return None;
        }
        let (instance, host) = (&mut self.instance, &mut self.host);
        match panics::catch(|| call(instance, host)) {
            Ok(result) => {
                let bytes = Bytes::new(self.instance.actions().bytes());
                // SAFETY: the host's sink, during the call that was given it.
                unsafe { (actions.write)(actions.context, bytes) };
                Some(result)
            }
            Err(words) => {
                self.has_panicked = true;
                self.host.log(Level::Error, &words);
                None
            }
        }
    }
}

unsafe extern "C" fn manifest<P: Plugin>(
    context: *mut c_void,
    take: unsafe extern "C" fn(*mut c_void, *const Manifest),
) -> i32 {
    let Ok(manifest) = panics::catch(P::manifest) else {
        return FAILED;
    };
    let keys: Vec<_> = manifest.keys.iter().map(Key::new).collect();
    // SAFETY: the host's function; manifest and keys live until it returns.
    unsafe { take(context, &Manifest::new(&manifest, &keys)) };
    OK
}

unsafe extern "C" fn configure<P: Plugin>(
    host: *const native::Host,
    settings: *const RawSetting,
    setting_count: usize,
    instance: *mut *mut c_void,
    error: Sink,
) -> i32 {
    // SAFETY: the contract: the host and so many settings, good during this call.
    let (host, settings) = unsafe { (*host, read_settings(settings, setting_count)) };
    let mut host = NativeHost(host);
    let configured = match settings.ok_or_else(|| "a setting of no kind".to_owned()) {
        Ok(settings) => panics::catch(|| {
            let config = assemble(settings).map_err(|error| error.to_string())?;
            Instance::<P>::configure(&config)
        }),
        Err(words) => Ok(Err(words)),
    };
    match configured {
        Ok(Ok(configured)) => {
            let exported = Box::new(Exported {
                instance: configured,
                host,
                has_panicked: false,
            });
            // SAFETY: the contract: a place for the instance.
            unsafe { *instance = Box::into_raw(exported).cast() };
            OK
        }
        Ok(Err(words)) => {
            // SAFETY: the host's sink, during the call that was given it.
            unsafe { (error.write)(error.context, Bytes::new(words.as_bytes())) };
            REFUSED
        }
        Err(words) => {
            host.log(Level::Error, &words);
            FAILED
        }
    }
}

unsafe extern "C" fn open<P: Plugin>(
    instance: *mut c_void,
    now: u64,
    info: *const Info,
    session: *mut *mut c_void,
    actions: Sink,
) -> i32 {
    // SAFETY: the contract: an instance that nobody else uses, and information.
    let (exported, info) = unsafe { (&mut *instance.cast::<Exported<P>>(), &*info) };
    let info = SessionInfo::from(info);
    let now = Duration::from_micros(now);
    let call = |instance: &mut Instance<P>, host: &mut NativeHost| {
        instance.call(now, host, |plugin, ctx| plugin.open(&info, ctx))
    };
    match exported.call(actions, call) {
        Some(opened) => {
            // SAFETY: the contract: a place for the session.
            unsafe { *session = Box::into_raw(Box::new(opened)).cast() };
            OK
        }
        None => FAILED,
    }
}

/// Tells an open session what happens.
///
/// # Safety
/// Both pointers must be what `configure` and `open` of the same plugin have given, and not be in
/// use.
unsafe fn event<P: Plugin>(
    instance: *mut c_void,
    session: *mut c_void,
    now: u64,
    event: Event<'_>,
    actions: Sink,
) -> i32 {
    // SAFETY: the caller's promise; a session is no part of its instance.
    let (exported, session) = unsafe {
        (
            &mut *instance.cast::<Exported<P>>(),
            &mut *session.cast::<P::Session>(),
        )
    };
    let now = Duration::from_micros(now);
    match exported.call(actions, |instance, host| {
        instance.event(now, host, session, event);
    }) {
        Some(()) => OK,
        None => FAILED,
    }
}

unsafe extern "C" fn on_data<P: Plugin>(
    instance: *mut c_void,
    session: *mut c_void,
    now: u64,
    direction: u32,
    bytes: Bytes,
    actions: Sink,
) -> i32 {
    // SAFETY: the contract: bytes that are good during this call.
    let bytes = unsafe { bytes.as_slice() };
    let Some(direction) = native::direction_of(direction) else {
        return FAILED;
    };
    let data = Event::Data { direction, bytes };
    // SAFETY: the contract.
    unsafe { event::<P>(instance, session, now, data, actions) }
}

unsafe extern "C" fn on_gap<P: Plugin>(
    instance: *mut c_void,
    session: *mut c_void,
    now: u64,
    direction: u32,
    missing: u64,
    actions: Sink,
) -> i32 {
    let Some(direction) = native::direction_of(direction) else {
        return FAILED;
    };
    let missing = (missing != UNKNOWN).then_some(missing);
    let gap = Event::Gap { direction, missing };
    // SAFETY: the contract.
    unsafe { event::<P>(instance, session, now, gap, actions) }
}

unsafe extern "C" fn on_end<P: Plugin>(
    instance: *mut c_void,
    session: *mut c_void,
    now: u64,
    direction: u32,
    actions: Sink,
) -> i32 {
    let Some(direction) = native::direction_of(direction) else {
        return FAILED;
    };
    // SAFETY: the contract.
    unsafe { event::<P>(instance, session, now, Event::End { direction }, actions) }
}

unsafe extern "C" fn on_timer<P: Plugin>(
    instance: *mut c_void,
    session: *mut c_void,
    now: u64,
    actions: Sink,
) -> i32 {
    // SAFETY: the contract.
    unsafe { event::<P>(instance, session, now, Event::Timer, actions) }
}

unsafe extern "C" fn on_shared<P: Plugin>(
    instance: *mut c_void,
    session: *mut c_void,
    now: u64,
    key: Bytes,
    value: *const Bytes,
    actions: Sink,
) -> i32 {
    // SAFETY: the contract: key and value are good during this call, a value may be null.
    let (key, value) = unsafe { (key.as_slice(), value.as_ref().map(|value| value.as_slice())) };
    // SAFETY: the contract.
    unsafe {
        event::<P>(
            instance,
            session,
            now,
            Event::Shared { key, value },
            actions,
        )
    }
}

unsafe extern "C" fn close<P: Plugin>(instance: *mut c_void, session: *mut c_void) -> i32 {
    // SAFETY: the contract: the pointers of `configure` and `open`, this one for the last time.
    let (exported, mut session) = unsafe {
        (
            &mut *instance.cast::<Exported<P>>(),
            Box::from_raw(session.cast::<P::Session>()),
        )
    };
    let has_panicked = exported.has_panicked;
    let plugin = exported.instance.plugin();
    let closed = panics::catch(move || {
        if !has_panicked {
            session.on_close(plugin);
        }
        drop(session);
    });
    match closed {
        Ok(()) => OK,
        Err(words) => {
            exported.has_panicked = true;
            exported.host.log(Level::Error, &words);
            FAILED
        }
    }
}

unsafe extern "C" fn destroy<P: Plugin>(instance: *mut c_void) -> i32 {
    // SAFETY: the contract: the pointer of `configure`, for the last time.
    let exported = unsafe { Box::from_raw(instance.cast::<Exported<P>>()) };
    match panics::catch(move || drop(exported)) {
        Ok(()) => OK,
        Err(_) => FAILED,
    }
}

/// Reads settings; `None` when one is of no kind.
///
/// # Safety
/// `settings` must point to so many settings that are good, unless there are none.
unsafe fn read_settings(settings: *const RawSetting, count: usize) -> Option<Vec<Setting>> {
    let settings = match count {
        0 => &[],
        // SAFETY: the caller's promise.
        count => unsafe { std::slice::from_raw_parts(settings, count) },
    };
    // SAFETY: the caller's promise.
    let settings = settings.iter().map(|raw| unsafe { raw.to_setting() });
    settings.collect()
}

/// The host behind its table of functions.
struct NativeHost(native::Host);

// SAFETY: the contract: an instance may move to another thread with its host, which is used from
// one thread at a time.
unsafe impl Send for NativeHost {}

impl NativeHost {
    fn share(
        &self,
        look: unsafe extern "C" fn(*mut c_void, Bytes, Sink) -> u32,
        key: &[u8],
    ) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        let sink = Sink::into_buffer(&mut value);
        // SAFETY: the contract: the functions live as long as the instance; the buffer outlives
        // the call.
        let found = unsafe { look(self.0.context, Bytes::new(key), sink) };
        (found != 0).then_some(value)
    }
}

impl Host for NativeHost {
    fn random(&mut self) -> u64 {
        // SAFETY: the contract: the functions live as long as the instance.
        unsafe { (self.0.random)(self.0.context) }
    }

    fn log(&mut self, level: Level, message: &str) {
        let place = LEVELS.iter().position(|known| *known == level);
        let (level, message) = (place.map_or(0, |place| place as u32), message.as_bytes());
        // SAFETY: the contract: the functions live as long as the instance.
        unsafe { (self.0.log)(self.0.context, level, Bytes::new(message)) }
    }

    fn share_get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.share(self.0.share_get, key)
    }

    fn share_take(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.share(self.0.share_take, key)
    }

    fn share_set(&mut self, key: &[u8], value: &[u8], expiry: Duration) -> bool {
        let expiry = u64::try_from(expiry.as_micros()).unwrap_or(u64::MAX);
        let (key, value) = (Bytes::new(key), Bytes::new(value));
        // SAFETY: the contract: the functions live as long as the instance.
        unsafe { (self.0.share_set)(self.0.context, key, value, expiry) != 0 }
    }
}

#[cfg(test)]
mod tests;
