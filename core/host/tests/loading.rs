//! Files that are no plugins are told apart before anything of them runs, and each error says what
//! to do.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tcpcopy_host::{Form, Library, Limits, LoadError, LoadProblem};

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("tcpcopy-host-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    /// Loads a file of these bytes.
    fn load(&self, name: &str, bytes: &[u8]) -> Result<Library, LoadError> {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file");
        Library::load(&path, &Limits::default())
    }

    fn problem(&self, name: &str, bytes: &[u8]) -> LoadProblem {
        let error = self.load(name, bytes).expect_err("it is no plugin");
        let shown = error.to_string();
        assert!(
            shown.contains(name) && shown.contains("\n\nhint: "),
            "{shown}"
        );
        error.into_problem()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it, and a panic here would hide the test's own.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bytes_of(file: &str) -> Vec<u8> {
    fs::read(common::path(file)).expect("it was built")
}

/// Replaces every `from`, which is as long as `to`.
fn patched(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let (mut patched, mut at, mut found) = (bytes.to_vec(), 0, 0);
    while at + from.len() <= patched.len() {
        if patched[at..].starts_with(from.as_bytes()) {
            patched[at..at + to.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
        at += 1;
    }
    assert!(found > 0, "there is no {from}");
    patched
}

#[test]
fn a_form_is_told_by_its_content() {
    let scratch = Scratch::new("content");
    let native = scratch.load("native.wasm", &bytes_of("upper.so"));
    assert_eq!(native.expect("a plugin").form(), Form::Native);
    let wasm = scratch.load("wasm.so", &bytes_of("upper.wasm"));
    assert_eq!(wasm.expect("a plugin").form(), Form::Wasm);
}

#[test]
fn what_is_no_plugin_at_all_is_named() {
    let scratch = Scratch::new("garbage");
    assert!(matches!(scratch.problem("empty", b""), LoadProblem::Empty));
    let script = scratch.problem("script", b"#!/bin/sh\nexit 0\n");
    let LoadProblem::Foreign { beginning } = script else {
        panic!("{script}");
    };
    assert_eq!(beginning, r##""#!/bin/s""##);
    let noise: Vec<u8> = (0..5000_u32).map(|at| ((at * 7919) >> 3) as u8).collect();
    for magic in [
        &b"\x7fELF"[..],
        b"\x7fELF\x02\x01\x01",
        b"\0asm\x01\0\0\0",
        b"\0asm\x0d\0\x01\0",
    ] {
        let problem = scratch.problem("noise", &[magic, &noise].concat());
        let is_named = matches!(
            problem,
            LoadProblem::Damaged(_) | LoadProblem::Machine { .. } | LoadProblem::NoPlugin { .. }
        );
        assert!(is_named, "{problem}");
    }
    let error = Library::load(Path::new("/nowhere/x.so"), &Limits::default());
    let error = error.expect_err("it is not there");
    assert!(
        error
            .to_string()
            .starts_with("/nowhere/x.so: the plugin can't be read"),
        "{error}"
    );
    assert!(error.remedy().contains("check the path"), "{error}");
    let directory = Library::load(&scratch.0, &Limits::default()).expect_err("a directory");
    assert!(matches!(directory.problem(), LoadProblem::Unreadable(_)));
}

#[test]
fn what_may_not_be_read_is_named() {
    let scratch = Scratch::new("unreadable");
    let path = scratch.0.join("closed.so");
    fs::write(&path, b"x").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("its mode");
    let error = Library::load(&path, &Limits::default()).expect_err("no plugin either way");
    // The superuser reads everything, and finds that it is none.
    let is_named = match error.problem() {
        LoadProblem::Unreadable(_) => error.remedy().contains("let the user"),
        problem => matches!(problem, LoadProblem::Foreign { .. }),
    };
    assert!(is_named, "{error}");
}

#[test]
fn a_library_that_is_cut_off_never_gets_to_the_loader() {
    let scratch = Scratch::new("cut-so");
    let whole = bytes_of("upper.so");
    let cuts = (1..20).map(|part| whole.len() * part / 20);
    for cut in cuts.chain([5, 63, 64, 200, 4096, whole.len() - 1]) {
        let problem = scratch.problem("cut.so", &whole[..cut]);
        assert!(
            matches!(problem, LoadProblem::Damaged(_)),
            "{cut}: {problem}"
        );
    }
}

#[test]
fn a_module_that_is_cut_off_is_damaged() {
    let scratch = Scratch::new("cut-wasm");
    let whole = bytes_of("upper.wasm");
    let cuts = (1..20).map(|part| whole.len() * part / 20);
    for cut in cuts.chain([8, 9, 100, whole.len() - 1]) {
        let problem = scratch.problem("cut.wasm", &whole[..cut]);
        // Cut between two sections, a module is whole but says nothing of the contract.
        let is_named = matches!(
            problem,
            LoadProblem::Damaged(_) | LoadProblem::NoPlugin { .. }
        );
        assert!(is_named, "{cut}: {problem}");
    }
}

#[test]
fn other_versions_of_the_contract_are_named() {
    let scratch = Scratch::new("version");
    let native = patched(
        &bytes_of("upper.so"),
        "tcpcopy_plugin_v0_1",
        "tcpcopy_plugin_v9_2",
    );
    let problem = scratch.problem("other.so", &native);
    assert!(
        matches!(&problem, LoadProblem::Version { found } if found == "9.2"),
        "{problem}"
    );
    assert!(
        problem
            .to_string()
            .contains("this tcpcopy knows version 0.1.0"),
        "{problem}"
    );
    let wasm = patched(&bytes_of("upper.wasm"), "@0.1.0", "@0.9.2");
    let problem = scratch.problem("other.wasm", &wasm);
    assert!(
        matches!(&problem, LoadProblem::Version { found } if found == "0.9.2"),
        "{problem}"
    );
}

#[test]
fn what_does_not_export_the_contract_is_named() {
    let scratch = Scratch::new("exports");
    // This test is a program of this machine, and no plugin.
    let program = std::env::current_exe().expect("it runs");
    let problem = scratch.problem("program", &fs::read(program).expect("it is there"));
    assert!(matches!(problem, LoadProblem::NoPlugin { .. }), "{problem}");
    let bare = scratch.problem("bare.wasm", b"\0asm\x01\0\0\0");
    assert!(
        bare.to_string().contains("tcpcopy:plugin/guest@0.1.0"),
        "{bare}"
    );
    let component = scratch.problem("bare.wasm", b"\0asm\x0d\0\x01\0");
    assert!(
        component.to_string().contains("tcpcopy:plugin/guest@0.1.0"),
        "{component}"
    );
    let lacking = patched(&bytes_of("upper.wasm"), "#on-gap", "#on-gop");
    let problem = scratch.problem("lacking.wasm", &lacking);
    assert!(
        matches!(&problem, LoadProblem::Incomplete(name) if name == "on-gap"),
        "{problem}"
    );
}

#[test]
fn nothing_but_the_contract_is_linked() {
    let scratch = Scratch::new("imports");
    // The import section comes before the section of types, which has the name as well.
    let (module, ours) = (bytes_of("upper.wasm"), b"tcpcopy:plugin/host@0.1.0");
    let at = module.windows(ours.len()).position(|window| window == ours);
    let at = at.expect("it imports the host");
    let mut foreign = module.clone();
    foreign[at..at + ours.len()].copy_from_slice(b"wasi_snapshot_preview1:zz");
    let problem = scratch.problem("wasi.wasm", &foreign);
    let LoadProblem::Imports(names) = &problem else {
        panic!("{problem}");
    };
    assert!(
        names[0].starts_with("wasi_snapshot_preview1:zz."),
        "{problem}"
    );
}
