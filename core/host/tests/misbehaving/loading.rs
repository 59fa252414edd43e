//! Files that are almost plugins: each is refused with its name, a reason and a remedy.
//! (`../loading.rs` has those that are none at all.)

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use tcpcopy_host::{Library, Limits};

use crate::bed::FORMS;
use crate::common::path;

/// A file that is gone with the test.
struct Made(PathBuf);

impl Made {
    fn new(ending: &str, bytes: &[u8]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tcpcopy-loading-{}-{number}.{ending}", process::id());
        let path = env::temp_dir().join(name);
        fs::write(&path, bytes).expect("written");
        Self(path)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Why a file is refused.
fn refusal_of(path: &Path) -> String {
    let error = match Library::load(path, &Limits::default()) {
        Ok(library) => panic!("{} was loaded as {:?}", path.display(), library.manifest()),
        Err(error) => error.to_string(),
    };
    let (reason, remedy) = error.split_once("\n\nhint: ").expect("a remedy");
    let file = path.to_string_lossy();
    let reason = reason.strip_prefix(&*file).expect("the file");
    assert!(reason.len() > 10 && remedy.len() > 10, "{error}");
    error
}

fn refused(path: &Path, words: &str) {
    let error = refusal_of(path);
    assert!(error.contains(words), "{words:?} is not in: {error}");
}

/// A good plugin's bytes.
fn good(name: &str) -> Vec<u8> {
    fs::read(path(name)).expect("it is built")
}

/// A good plugin with all that is `from` made `to`.
fn changed(name: &str, from: &str, to: &str) -> Vec<u8> {
    replaced(good(name), from, to)
}

fn replaced(mut bytes: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "or nothing is where it was");
    let places = bytes.windows(from.len()).enumerate();
    let places = places.filter(|(_, part)| *part == from.as_bytes());
    let places: Vec<_> = places.map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "{from} is not there");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// A module with bytes changed is refused, or is another module; it never does harm. (With native
/// ones this is not tried: the system's loader runs what it is given.)
#[test]
fn a_module_with_bytes_changed() {
    let whole = good("upper_c.wasm");
    let mut state = 1_u64;
    let mut draw = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    let (mut loaded, mut refused) = (0, 0);
    for _ in 0..200 {
        let mut bytes = whole.clone();
        for _ in 0..=draw(4) {
            let at = draw(bytes.len());
            bytes[at] = draw(256) as u8;
        }
        let made = Made::new("wasm", &bytes);
        match Library::load(&made.0, &Limits::default()) {
            Ok(_) => loaded += 1,
            Err(_) => refused += 1,
        }
    }
    println!("{loaded} loaded, {refused} refused");
    assert!(refused > 20, "{loaded} loaded, {refused} refused");
}

#[test]
fn a_table_that_is_not_what_it_should_be() {
    refused(&path("lies/other_version.so"), "version 9.9");
    refused(&path("lies/table_version.so"), "version");
    refused(&path("lies/hole_in_table.so"), "on_timer");
    refused(&path("lies/no_table.so"), "missing");
}

/// Two functions have changed places, and each its type.
#[test]
fn a_function_is_another() {
    let bytes = changed("upper.wasm", "#on-end", "#on-new");
    let bytes = replaced(bytes, "#on-gap", "#on-end");
    let bytes = replaced(bytes, "#on-new", "#on-gap");
    refused(
        &Made::new("wasm", &bytes).0,
        "is not what the contract says",
    );
}

/// The section with a module's type may say anything: it is not read.
#[test]
fn the_type_that_a_module_tells_does_not_matter() {
    let lies = [
        ("tcpcopy:plugin/types", "tccpopy:plugin/types"),
        ("actions", "actionz"),
    ];
    for (from, to) in lies {
        let made = Made::new("wasm", &changed("upper.wasm", from, to));
        let library = Library::load(&made.0, &Limits::default());
        let library = library.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(library.manifest().name, "upper");
    }
}

#[test]
fn a_module_that_wants_more_than_it_gets() {
    refused(&path("lies/imports.wasm"), "wasi_snapshot_preview1");
}

#[test]
fn what_a_plugin_says_of_itself_cannot_be() {
    for form in FORMS {
        let lie = |name: &str, words: &str| {
            refused(&path(&format!("lies/{name}.{form}")), words);
        };
        lie("bad_name", "No Name");
        lie("not_utf8", "");
        lie("double_key", "comes twice");
        lie("manifest_fails", "manifest");
    }
    refused(&path("lies/no_manifest.so"), "manifest");
}

/// A native one would hang, as anything that is linked.
#[test]
fn a_module_that_never_says_who_it_is() {
    refused(&path("lies/manifest_loops.wasm"), "took more than");
}
