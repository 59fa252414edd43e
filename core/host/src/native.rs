//! Native plugins: shared libraries with the contract's one symbol.
//!
//! They are trusted, as the rest of this process is: what a library breaks, the host can't mend. It
//! keeps the contract on its side, and takes nothing for granted that can be checked.

#![allow(unsafe_code, reason = "what crosses the border is pointers")]

mod elf;

use std::ffi::c_void;
use std::fmt;
use std::path::Path;
use std::ptr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use plugin_api::abi::native::{
    Bytes, Calls, Entry, FAILED, Host, Info, LEVELS, Manifest as RawManifest, OK, REFUSED,
    RawSetting, Sink, TableError, UNKNOWN, number_of,
};
use plugin_api::abi::{Event, SYMBOL, flatten};
use plugin_api::{Config, Level, Manifest, SessionInfo};
use tcpcopy_engine::plugin::Failure;

use crate::instance::{Broken, Unconfigured};
use crate::limits::Limits;
use crate::load_error::LoadProblem;
use crate::services::Services;

/// How long the reason of a refused configuration may be, in bytes.
const REASON_BYTES: usize = 4096;

/// A library that has been loaded, and stays so for as long as the process runs: what it keeps in
/// its threads' storage may outlive every instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Library {
    calls: Calls,
}

impl Library {
    /// Loads a library whose bytes are these. The path must be absolute.
    pub(crate) fn load(path: &Path, bytes: &[u8]) -> Result<Self, LoadProblem> {
        elf::check(bytes)?;
        // SAFETY: loading runs the library's initialisers. Whoever names a native plugin trusts
        // it, as the README says; the file is whole and made for this machine.
        let loaded = unsafe { libloading::Library::new(path) };
        let loaded = loaded.map_err(|error| LoadProblem::Loader(error.to_string()))?;
        // SAFETY: the contract gives the symbol of this name this type.
        let entry = unsafe { loaded.get::<Entry>(SYMBOL.as_bytes()) };
        let entry = *entry.map_err(|error| LoadProblem::Loader(error.to_string()))?;
        // SAFETY: the contract: the table lives as long as the library, or the pointer is null.
        let table = unsafe { entry().as_ref() };
        let table = table.ok_or_else(|| LoadProblem::Incomplete(SYMBOL.to_owned()))?;
        let calls = Calls::of(table).map_err(|error| match error {
            TableError::Version(version) => LoadProblem::Version {
                found: format!("{}.{}", version >> 24, version >> 16 & 0xff),
            },
            TableError::Missing(function) => LoadProblem::Incomplete(function.to_owned()),
        })?;
        std::mem::forget(loaded);
        Ok(Self { calls })
    }

    /// A plugin of this very program.
    #[cfg(test)]
    pub(crate) fn inside<P: plugin_api::Plugin>() -> Self {
        let calls = Calls::of(&plugin_api::export::native::table::<P>());
        let calls = calls.expect("the macro's table is complete");
        Self { calls }
    }

    /// Asks the plugin who it is.
    pub(crate) fn manifest(&self) -> Result<Manifest, LoadProblem> {
        unsafe extern "C" fn take(context: *mut c_void, manifest: *const RawManifest) {
            // SAFETY: `context` is the place below, which nobody else uses during this call; the
            // manifest is the plugin's, good until we return, or null.
            unsafe {
                *context.cast::<Option<Manifest>>() =
                    manifest.as_ref().and_then(|raw| raw.to_manifest());
            }
        }
        let mut manifest: Option<Manifest> = None;
        let place = ptr::from_mut(&mut manifest).cast();
        // SAFETY: the contract: it calls `take` with `place`, and keeps neither.
        match unsafe { (self.calls.manifest)(place, take) } {
            OK => manifest.ok_or_else(|| {
                LoadProblem::Manifest("it is missing, or has a text that is not UTF-8".to_owned())
            }),
            status => Err(LoadProblem::Silent(words_of(status))),
        }
    }

    /// Makes an instance.
    pub(crate) fn configure(
        &self,
        config: &Config,
        services: Services,
        limits: &Limits,
    ) -> Result<Instance, Unconfigured> {
        let settings = flatten(config);
        let raw: Vec<_> = settings.iter().map(RawSetting::new).collect();
        let services = Box::into_raw(Box::new(services));
        let mut instance = Instance {
            calls: self.calls,
            host: Box::new(host(services)),
            services,
            raw: ptr::null_mut(),
            sessions: HashMap::default(),
            output_bytes: limits.output_bytes,
        };
        let mut reason = Vec::new();
        let mut refusal = Answer::new(&mut reason, REASON_BYTES);
        // SAFETY: the contract: host (until `destroy`), settings, place and sink are good.
        let status = unsafe {
            (self.calls.configure)(
                ptr::from_ref(&*instance.host),
                raw.as_ptr(),
                raw.len(),
                &raw mut instance.raw,
                refusal.sink(),
            )
        };
        match status {
            OK if !instance.raw.is_null() => Ok(instance),
            REFUSED => {
                instance.raw = ptr::null_mut();
                Err(Unconfigured::Refused(
                    String::from_utf8_lossy(&reason).into_owned(),
                ))
            }
            status => {
                instance.raw = ptr::null_mut();
                Err(Unconfigured::Broken(broken(status)))
            }
        }
    }
}

/// An instance of a native plugin with its open sessions.
pub(crate) struct Instance {
    calls: Calls,
    /// The plugin keeps a pointer to it.
    host: Box<Host>,
    /// What `host` leads to: used through this pointer only, by the plugin's calls while one is
    /// under way and by us otherwise.
    services: *mut Services,
    /// The plugin's own; null before it is configured.
    raw: *mut c_void,
    sessions: HashMap<u64, *mut c_void, RandomState>,
    output_bytes: usize,
}

// SAFETY: the contract: an instance and its sessions may be used by any thread, by one at a time,
// which `&mut self` sees to; the services are ours and may be sent.
unsafe impl Send for Instance {}

impl fmt::Debug for Instance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = self.sessions.len();
        let mut fields = formatter.debug_struct("native::Instance");
        fields.field("sessions", &sessions).finish_non_exhaustive()
    }
}

impl Instance {
    pub(crate) fn open(
        &mut self,
        now: u64,
        info: &SessionInfo,
        answer: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        self.services().now = now;
        let (raw, mut session) = (Info::from(info), ptr::null_mut());
        let mut answer = Answer::new(answer, self.output_bytes);
        // SAFETY: the contract: an instance that is not in use, information, place and sink.
        let status =
            unsafe { (self.calls.open)(self.raw, now, &raw, &raw mut session, answer.sink()) };
        if status == OK {
            self.sessions.insert(info.id, session);
        }
        answer.judge(status)
    }

    pub(crate) fn event(
        &mut self,
        now: u64,
        session: u64,
        event: Event<'_>,
        answer: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        self.services().now = now;
        let Some(session) = self.sessions.get(&session).copied() else {
            return Err(Broken::new(Failure::Trapped, "it has no such session"));
        };
        let mut answer = Answer::new(answer, self.output_bytes);
        let (calls, raw, sink) = (&self.calls, self.raw, answer.sink());
        // SAFETY: the contract: an instance and a session that are not in use, bytes that are good
        // during the call, and a sink.
        let status = unsafe {
            match event {
                Event::Data { direction, bytes } => {
                    let direction = number_of(direction);
                    (calls.on_data)(raw, session, now, direction, Bytes::new(bytes), sink)
                }
                Event::Gap { direction, missing } => {
                    let (direction, missing) = (number_of(direction), missing.unwrap_or(UNKNOWN));
                    (calls.on_gap)(raw, session, now, direction, missing, sink)
                }
                Event::End { direction } => {
                    (calls.on_end)(raw, session, now, number_of(direction), sink)
                }
                Event::Timer => (calls.on_timer)(raw, session, now, sink),
                Event::Shared { key, value } => {
                    let value = value.map(Bytes::new);
                    let value = value.as_ref().map_or(ptr::null(), ptr::from_ref);
                    (calls.on_shared)(raw, session, now, Bytes::new(key), value, sink)
                }
            }
        };
        answer.judge(status)
    }

    pub(crate) fn close(&mut self, session: u64) -> Result<(), Broken> {
        let Some(session) = self.sessions.remove(&session) else {
            return Ok(());
        };
        // SAFETY: the contract: an instance and a session that are not in use, the session for the
        // last time.
        match unsafe { (self.calls.close)(self.raw, session) } {
            OK => Ok(()),
            status => Err(broken(status)),
        }
    }

    pub(crate) fn services(&mut self) -> &mut Services {
        // SAFETY: made by `configure` and freed in `drop`; no call of the plugin is under way while
        // we are borrowed, so nobody else uses it.
        unsafe { &mut *self.services }
    }
}

impl Drop for Instance {
    /// Closes what is open, in the order of the sessions' numbers, and frees the instance.
    fn drop(&mut self) {
        if !self.raw.is_null() {
            let mut sessions: Vec<_> = self.sessions.drain().collect();
            sessions.sort_unstable_by_key(|(id, _)| *id);
            for (_, session) in sessions {
                // SAFETY: the contract: also after a failure, each session is closed once. What the
                // call says does not matter any more.
                unsafe { (self.calls.close)(self.raw, session) };
            }
            // SAFETY: the contract: the last call, when no session is left.
            unsafe { (self.calls.destroy)(self.raw) };
        }
        // SAFETY: made by `Box::into_raw`, and nobody is left who has the pointer.
        drop(unsafe { Box::from_raw(self.services) });
    }
}

/// Gathers what a plugin writes into a sink, as far as it may.
struct Answer<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
    is_over: bool,
}

impl<'a> Answer<'a> {
    fn new(bytes: &'a mut Vec<u8>, limit: usize) -> Self {
        bytes.clear();
        Self {
            bytes,
            limit,
            is_over: false,
        }
    }

    fn sink(&mut self) -> Sink {
        unsafe extern "C" fn append(context: *mut c_void, bytes: Bytes) {
            // SAFETY: `context` is the answer below, which nobody else uses during the call that
            // was given the sink; the bytes are good until we return.
            let (answer, bytes) = unsafe { (&mut *context.cast::<Answer<'_>>(), bytes.as_slice()) };
            match answer.bytes.len() + bytes.len() <= answer.limit {
                true => answer.bytes.extend_from_slice(bytes),
                false => answer.is_over = true,
            }
        }
        Sink {
            context: ptr::from_mut(self).cast(),
            write: append,
        }
    }

    /// What became of the call.
    fn judge(&self, status: i32) -> Result<(), Broken> {
        match status {
            OK if self.is_over => Err(Broken::over_output(self.limit)),
            OK => Ok(()),
            status => Err(broken(status)),
        }
    }
}

fn broken(status: i32) -> Broken {
    Broken::new(Failure::Trapped, words_of(status))
}

fn words_of(status: i32) -> String {
    match status {
        OK => "it answered OK without what the call is for".to_owned(),
        FAILED => "it says itself that it has failed; its log may tell why".to_owned(),
        status => format!("it answered {status}, which has no meaning there"),
    }
}

/// The functions that a plugin may call. Each is called by the thread that is in a call of the
/// plugin, and while it lasts nobody else uses the services.
fn host(services: *mut Services) -> Host {
    unsafe extern "C" fn random(context: *mut c_void) -> u64 {
        // SAFETY: see above.
        unsafe { &mut *context.cast::<Services>() }.random()
    }
    unsafe extern "C" fn log(context: *mut c_void, level: u32, message: Bytes) {
        let level = LEVELS.get(level as usize).copied().unwrap_or(Level::Error);
        // SAFETY: see above; the message is good until we return.
        let (services, message) = unsafe { (&mut *context.cast::<Services>(), message.as_slice()) };
        services.log(level, &String::from_utf8_lossy(message));
    }
    unsafe extern "C" fn share_get(context: *mut c_void, key: Bytes, value: Sink) -> u32 {
        // SAFETY: see above; the key is good until we return.
        let (services, key) = unsafe { (&*context.cast::<Services>(), key.as_slice()) };
        // A copy: the plugin's sink must not run while the map is locked.
        let found = services.share_get(key, <[u8]>::to_vec);
        give(found.as_deref(), value)
    }
    unsafe extern "C" fn share_take(context: *mut c_void, key: Bytes, value: Sink) -> u32 {
        // SAFETY: see above; the key is good until we return.
        let (services, key) = unsafe { (&*context.cast::<Services>(), key.as_slice()) };
        give(services.share_take(key).as_deref(), value)
    }
    unsafe extern "C" fn share_set(
        context: *mut c_void,
        key: Bytes,
        value: Bytes,
        expiry: u64,
    ) -> u32 {
        // SAFETY: see above; key and value are good until we return.
        let (services, key, value) = unsafe {
            (
                &*context.cast::<Services>(),
                key.as_slice(),
                value.as_slice(),
            )
        };
        services.share_set(key, value, expiry).into()
    }
    fn give(found: Option<&[u8]>, sink: Sink) -> u32 {
        let Some(value) = found else {
            return 0;
        };
        // SAFETY: the plugin's sink, during the call that was given it.
        unsafe { (sink.write)(sink.context, Bytes::new(value)) };
        1
    }
    Host {
        context: services.cast(),
        random,
        log,
        share_get,
        share_take,
        share_set,
    }
}
