//! The border from the host's side.

use std::ffi::c_void;
use std::ptr;
use std::time::Duration;

use super::table;
use crate::abi::native::{
    Bytes, Calls, FAILED, Host, Info, Manifest, OK, REFUSED, RawSetting, Sink,
};
use crate::abi::native::{TableError, UNKNOWN};
use crate::abi::{Action, Actions, flatten};
use crate::{Config, Context, Direction, Key, Level, Plugin, Session, SessionInfo};

/// Says what it hears; panics when told to.
struct Echo {
    prefix: String,
}

struct Line;

impl Plugin for Echo {
    type Session = Line;

    fn manifest() -> crate::Manifest {
        crate::Manifest::new("echo", "1.0.0", "says what it hears")
            .key(Key::text("prefix", "goes first").required())
    }

    fn configure(config: &Config) -> Result<Self, String> {
        let prefix = config.text("prefix")?.to_owned();
        assert_ne!(prefix, "panic", "told to");
        Ok(Self { prefix })
    }

    fn open(&mut self, info: &SessionInfo, ctx: &mut Context<'_>) -> Line {
        ctx.send(format!("{}{}", self.prefix, info.copy).as_bytes());
        Line
    }
}

impl Session<Echo> for Line {
    fn on_client(&mut self, _: &mut Echo, bytes: &[u8], ctx: &mut Context<'_>) {
        ctx.send(bytes);
        assert_ne!(bytes, b"panic", "told to");
        let mut random = [0; 8];
        ctx.random(&mut random);
        ctx.send(&random);
        ctx.log(Level::Warn, "heard");
        let set = ctx.share().set(b"k", bytes, Duration::from_secs(1));
        let (got, none) = (ctx.share().get(b"k"), ctx.share().take(b"other"));
        assert!(set && got.as_deref() == Some(bytes) && none.is_none());
    }

    fn on_gap(&mut self, _: &mut Echo, of: Direction, missing: Option<u64>, ctx: &mut Context<'_>) {
        ctx.send(format!("{of} {missing:?}").as_bytes());
    }

    fn on_shared(&mut self, _: &mut Echo, _: &[u8], value: Option<&[u8]>, ctx: &mut Context<'_>) {
        ctx.send(format!("{value:?} at {:?}", ctx.now()).as_bytes());
    }

    fn on_close(&mut self, plugin: &mut Echo) {
        assert_ne!(plugin.prefix, "panic at close", "told to");
    }
}

/// A host with one value and a log.
#[derive(Default)]
struct TestHost {
    value: Vec<u8>,
    log: Vec<(u32, String)>,
}

impl TestHost {
    fn of<'a>(context: *mut c_void) -> &'a mut Self {
        // SAFETY: the host of the test, which lives on while the plugin does.
        unsafe { &mut *context.cast::<Self>() }
    }

    fn raw(&mut self) -> Host {
        unsafe extern "C" fn random(_: *mut c_void) -> u64 {
            0x3837_3635_3433_3231
        }
        unsafe extern "C" fn log(context: *mut c_void, level: u32, message: Bytes) {
            // SAFETY: the plugin's promise.
            let message = unsafe { message.to_text() }.expect("UTF-8");
            TestHost::of(context).log.push((level, message));
        }
        unsafe extern "C" fn get(context: *mut c_void, key: Bytes, value: Sink) -> u32 {
            // SAFETY: the plugin's promise.
            if unsafe { key.as_slice() } != b"k" {
                return 0;
            }
            // SAFETY: the plugin's sink.
            unsafe { (value.write)(value.context, Bytes::new(&TestHost::of(context).value)) };
            1
        }
        unsafe extern "C" fn set(context: *mut c_void, _: Bytes, value: Bytes, expiry: u64) -> u32 {
            // SAFETY: the plugin's promise.
            TestHost::of(context).value = unsafe { value.as_slice() }.to_vec();
            u32::from(expiry == 1_000_000)
        }
        Host {
            context: ptr::from_mut(self).cast(),
            random,
            log,
            share_get: get,
            share_take: get,
            share_set: set,
        }
    }
}

/// Configures the plugin; an error is the status and what the sink has got.
fn configure(host: &Host, config: &Config) -> Result<*mut c_void, (i32, String)> {
    let settings = flatten(config);
    let raw: Vec<_> = settings.iter().map(RawSetting::new).collect();
    let (mut instance, mut error) = (ptr::null_mut(), Vec::new());
    let sink = Sink::into_buffer(&mut error);
    // SAFETY: all of it lives until the call has returned.
    let status = unsafe { (calls().configure)(host, raw.as_ptr(), raw.len(), &mut instance, sink) };
    match status {
        OK => Ok(instance),
        status => Err((status, String::from_utf8(error).expect("UTF-8"))),
    }
}

fn calls() -> Calls {
    Calls::of(&table::<Echo>()).expect("complete")
}

fn open(instance: *mut c_void) -> (i32, *mut c_void, Vec<u8>) {
    let info = Info::from(&SessionInfo {
        copy: 3,
        ..SessionInfo::example()
    });
    let (mut session, mut actions) = (ptr::null_mut(), Vec::new());
    let sink = Sink::into_buffer(&mut actions);
    // SAFETY: an instance, and what lives until the call has returned.
    let status = unsafe { (calls().open)(instance, 0, &info, &mut session, sink) };
    (status, session, actions)
}

fn say(instance: *mut c_void, session: *mut c_void, bytes: &[u8]) -> (i32, Vec<u8>) {
    let mut actions = Vec::new();
    let sink = Sink::into_buffer(&mut actions);
    // SAFETY: an instance with its session, and what lives until the call has returned.
    let status = unsafe { (calls().on_data)(instance, session, 0, 0, Bytes::new(bytes), sink) };
    (status, actions)
}

fn sent(actions: &[u8]) -> Vec<u8> {
    let bytes = |action| match action {
        Ok(Action::Send(bytes)) => bytes.to_vec(),
        other => panic!("{other:?}"),
    };
    Actions::new(actions).flat_map(bytes).collect()
}

#[test]
fn the_manifest_arrives() {
    unsafe extern "C" fn take(context: *mut c_void, manifest: *const Manifest) {
        // SAFETY: the place below, and the plugin's manifest.
        unsafe { *context.cast::<Option<crate::Manifest>>() = (*manifest).to_manifest() };
    }
    let mut taken: Option<crate::Manifest> = None;
    // SAFETY: the place lives until the call has returned.
    let status = unsafe { (calls().manifest)(ptr::from_mut(&mut taken).cast(), take) };
    assert_eq!((status, taken), (OK, Some(Echo::manifest())));
}

#[test]
fn a_whole_life() {
    let mut host = TestHost::default();
    let raw = host.raw();
    let instance = configure(&raw, &Config::new().with("prefix", "no ")).expect("configured");
    let (status, session, actions) = open(instance);
    assert_eq!((status, sent(&actions)), (OK, b"no 3".to_vec()));
    let (status, actions) = say(instance, session, b"hello");
    assert_eq!((status, sent(&actions)), (OK, b"hello12345678".to_vec()));

    let mut actions = Vec::new();
    let sink = Sink::into_buffer(&mut actions);
    let value = Bytes::new(b"v");
    let (key, calls) = (Bytes::new(b"k"), calls());
    // SAFETY: an instance with its session, and what lives until the calls have returned.
    unsafe {
        assert_eq!((calls.on_gap)(instance, session, 0, 1, 9, sink), OK);
        assert_eq!((calls.on_gap)(instance, session, 0, 2, UNKNOWN, sink), OK);
        assert_eq!(
            (calls.on_shared)(instance, session, 5, key, &value, sink),
            OK
        );
        assert_eq!(
            (calls.on_shared)(instance, session, 6, key, ptr::null(), sink),
            OK
        );
        assert_eq!((calls.on_end)(instance, session, 0, 2, sink), OK);
        assert_eq!((calls.on_timer)(instance, session, 0, sink), OK);
        assert_eq!(
            (calls.on_data)(instance, session, 0, 3, value, sink),
            FAILED
        );
        assert_eq!((calls.close)(instance, session), OK);
        assert_eq!((calls.destroy)(instance), OK);
    }
    let sent = String::from_utf8(sent(&actions)).expect("UTF-8");
    assert_eq!(
        sent,
        "origin Some(9)target NoneSome([118]) at 5µsNone at 6µs"
    );
    assert_eq!(host.log, [(1, "heard".to_owned())]);
}

#[test]
fn a_configuration_is_refused_in_words() {
    let mut host = TestHost::default();
    let raw = host.raw();
    let refused = configure(&raw, &Config::new()).expect_err("the prefix is missing");
    let words = "prefix: missing, must be a text: goes first";
    assert_eq!(refused, (REFUSED, words.to_owned()));
}

#[test]
fn a_panic_stays_inside() {
    let mut host = TestHost::default();
    let raw = host.raw();
    let failed = configure(&raw, &Config::new().with("prefix", "panic"));
    assert_eq!(failed.expect_err("told to"), (FAILED, String::new()));

    let instance = configure(&raw, &Config::new().with("prefix", "")).expect("configured");
    let ((_, first, _), (_, second, _)) = (open(instance), open(instance));
    assert_eq!(say(instance, first, b"panic"), (FAILED, vec![]));
    assert_eq!(
        say(instance, second, b"hello"),
        (FAILED, vec![]),
        "nothing more is called"
    );
    assert_eq!(open(instance).0, FAILED);
    // SAFETY: an instance with its sessions, for the last time.
    unsafe {
        assert_eq!((calls().close)(instance, first), OK);
        assert_eq!((calls().close)(instance, second), OK);
        assert_eq!((calls().destroy)(instance), OK);
    }
    let (level, words) = &host.log[1];
    assert_eq!((*level, host.log.len()), (0, 2));
    let place = "plugin-api/src/export/native/tests.rs:";
    assert!(
        words.contains(place) && words.contains("told to"),
        "{words}"
    );
}

#[test]
fn a_panic_at_the_close_stays_inside() {
    let mut host = TestHost::default();
    let raw = host.raw();
    let config = Config::new().with("prefix", "panic at close");
    let instance = configure(&raw, &config).expect("configured");
    let (_, session, _) = open(instance);
    // SAFETY: an instance with its session, for the last time.
    unsafe {
        assert_eq!((calls().close)(instance, session), FAILED);
        assert_eq!((calls().destroy)(instance), OK);
    }
}

#[test]
fn a_table_that_is_not_whole_is_refused() {
    let mut wrong = table::<Echo>();
    wrong.on_gap = None;
    let missing = Calls::of(&wrong).expect_err("a function is missing");
    assert_eq!(missing, TableError::Missing("on_gap"));
    wrong.version = 0x0102_0000;
    let version = Calls::of(&wrong).expect_err("another version");
    assert_eq!(
        version.to_string(),
        "it is made for version 1.2 of the contract"
    );
}
