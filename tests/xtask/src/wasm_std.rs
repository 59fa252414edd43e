//! The std for WASM: of rustup, or, where its server can't be reached, built from the sources that
//! Debian has of the same version.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

use crate::error::{Result, TaskError, at, claim};
use crate::run::{output, run};

/// What plugins are built for: nothing but the contract's own imports.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Where Debian may have the sources, the likeliest first.
const SUITES: [&str; 5] = ["trixie-backports", "forky", "sid", "trixie", "experimental"];

/// Signs all of them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A crate that needs nothing, so that only std is built.
const NOTHING: &str = r#"[package]
name = "nothing"
version = "0.0.0"
edition = "2021"

[profile.release]
opt-level = 3
codegen-units = 1
panic = "abort"

[workspace]
"#;

/// Gets the toolchain the std for [`TARGET`], if it lacks it, and tells what it does.
pub(crate) fn ensure() -> Result<()> {
    let libraries = libraries()?;
    if is_there(&libraries) {
        return Ok(());
    }
    println!(
        "the toolchain lacks the std for {TARGET}: {}",
        libraries.display()
    );
    println!("running: rustup target add {TARGET}");
    match run(Command::new("rustup").args(["target", "add", TARGET])) {
        Ok(()) if is_there(&libraries) => return Ok(()),
        Ok(()) => println!("rustup has it, but not where the toolchain in use looks for it"),
        Err(error) => println!("{error}"),
    }
    println!("building it from Debian's sources of the same version instead");
    build(&libraries).map_err(|error| {
        TaskError::Claim(format!(
            "there is no std for {TARGET}: {error}\n\n\
             hint: with a connection to rustup's server, `rustup target add {TARGET}`"
        ))
    })?;
    claim(is_there(&libraries), || "the build left no std".to_owned())
}

/// Where the toolchain in use has, or would have, its libraries for [`TARGET`].
fn libraries() -> Result<PathBuf> {
    let sysroot = output(Command::new(rustc()).args(["--print", "sysroot"]))?;
    let libraries = format!("lib/rustlib/{TARGET}/lib");
    Ok(Path::new(sysroot.trim()).join(libraries))
}

fn rustc() -> PathBuf {
    env::var_os("RUSTC").map_or_else(|| "rustc".into(), PathBuf::from)
}

fn is_there(libraries: &Path) -> bool {
    let Ok(files) = fs::read_dir(libraries) else {
        return false;
    };
    let mut names = files.flatten().map(|file| file.file_name());
    names.any(|name| name.to_string_lossy().starts_with("libstd-"))
}

/// Builds std and puts it where the toolchain looks for it. Everything else it makes goes into a
/// directory that it removes.
fn build(libraries: &Path) -> Result<()> {
    let directory = env::temp_dir().join(format!("tcpcopy-wasm-std-{}", process::id()));
    fs::create_dir_all(&directory).map_err(at(&directory))?;
    let built = build_in(&directory, libraries);
    let removed = fs::remove_dir_all(&directory).map_err(at(&directory));
    built.and(removed)
}

fn build_in(directory: &Path, libraries: &Path) -> Result<()> {
    let version = output(Command::new(rustc()).arg("--version"))?;
    let version = version.split_whitespace().nth(1).unwrap_or_default();
    let apt = Apt::new(directory)?;
    let package = apt.find(version)?;
    println!("fetching rust-src {package}");
    run(apt.get("download").arg(format!("rust-src={package}")))?;
    let sources = directory.join("std");
    unpack(directory, &sources, version)?;

    println!("building std {version} for {TARGET}");
    let nothing = directory.join("nothing");
    let library = nothing.join("src/lib.rs");
    fs::create_dir_all(nothing.join("src")).map_err(at(&nothing))?;
    fs::write(nothing.join("Cargo.toml"), NOTHING).map_err(at(&nothing))?;
    fs::write(&library, "#![no_std]\n").map_err(at(&library))?;
    let target = directory.join("target");
    // Building std is not for a stable toolchain, unless it is told that it is the one that builds
    // itself; that stays within this command.
    run(
        Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--quiet", "--release", "--target", TARGET])
            .arg("-Zbuild-std=core,alloc,std,panic_abort")
            .current_dir(&nothing)
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", "-Cembed-bitcode=yes")
            .env("RUSTC_BOOTSTRAP", "1")
            .env("__CARGO_TESTS_ONLY_SRC_ROOT", sources.join("library"))
            .env("CARGO_TARGET_DIR", &target),
    )?;
    install(&target.join(TARGET).join("release/deps"), libraries)
}

/// Copies what was built, all but the crate that needs nothing.
fn install(built: &Path, libraries: &Path) -> Result<()> {
    fs::create_dir_all(libraries).map_err(at(libraries))?;
    for file in fs::read_dir(built).map_err(at(built))?.flatten() {
        let (path, name) = (file.path(), file.file_name());
        let is_library = path.extension() == Some(OsStr::new("rlib"));
        if is_library && !name.to_string_lossy().starts_with("libnothing-") {
            fs::copy(&path, libraries.join(&name)).map_err(at(&path))?;
        }
    }
    println!("std is now in {}", libraries.display());
    Ok(())
}

/// Unpacks std's part of the package.
fn unpack(directory: &Path, sources: &Path, version: &str) -> Result<()> {
    let package = |path: &PathBuf| path.extension() == Some(OsStr::new("deb"));
    let files = fs::read_dir(directory).map_err(at(directory))?.flatten();
    let package = files.map(|file| file.path()).find(package);
    let package = package.ok_or_else(|| TaskError::Claim("apt-get left no package".to_owned()))?;
    fs::create_dir_all(sources).map_err(at(sources))?;
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(at(Path::new("dpkg-deb")))?;
    let unpacked = archive.stdout.take().map_or(Stdio::null(), Stdio::from);
    let unpacked = run(Command::new("tar")
        .args(["--extract", "--strip-components=4", "--directory"])
        .arg(sources)
        .arg(format!("./usr/src/rustc-{version}/library"))
        .stdin(unpacked));
    let archived = archive.wait().map_err(at(Path::new("dpkg-deb")))?;
    unpacked?;
    claim(archived.success(), || format!("dpkg-deb: {archived}"))
}

/// apt with lists of its own, so that the machine's stay as they are.
struct Apt {
    directory: PathBuf,
    /// Debian's archive, as this machine knows it.
    archive: String,
}

impl Apt {
    fn new(directory: &Path) -> Result<Self> {
        let format = [
            "indextargets",
            "--format",
            "$(REPO_URI) $(SUITE) $(COMPONENT)",
        ];
        let known = output(Command::new("apt-get").args(format))?;
        let archive = known.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let (archive, suite) = (words.next()?, words.next()?);
            let is_main = words.next() == Some("main") && !suite.ends_with("-security");
            is_main.then(|| archive.to_owned())
        });
        let archive = archive.ok_or_else(|| {
            TaskError::Claim("this machine's apt knows no Debian archive".to_owned())
        })?;
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).map_err(at(&part))?;
        }
        let directory = directory.to_owned();
        Ok(Self { directory, archive })
    }

    /// The Debian version of the sources of this version of Rust.
    fn find(&self, version: &str) -> Result<String> {
        let list = self.directory.join("sources.list");
        for suite in SUITES {
            println!("looking for rust-src {version} in Debian {suite}");
            let line = format!("deb [signed-by={KEYRING}] {} {suite} main\n", self.archive);
            fs::write(&list, line).map_err(at(&list))?;
            if let Err(error) = run(&mut self.get("update")) {
                println!("{error}");
                continue;
            }
            let mut madison = self.command("apt-cache");
            let versions = output(madison.args(["madison", "rust-src"]))?;
            let mut versions = versions.lines().filter_map(|line| line.split('|').nth(1));
            let of_version = |found: &&str| found.trim().starts_with(&format!("{version}+"));
            if let Some(found) = versions.find(of_version) {
                return Ok(found.trim().to_owned());
            }
        }
        Err(TaskError::Claim(format!(
            "Debian has no rust-src {version}"
        )))
    }

    fn get(&self, task: &str) -> Command {
        let mut command = self.command("apt-get");
        command.arg("-qq").arg(task);
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let option = |name: &str, value: &Path| format!("{name}={}", value.display());
        let list = self.directory.join("sources.list");
        command
            .current_dir(&self.directory)
            .args(["-o", &option("Dir::Etc::SourceList", &list)])
            .args(["-o", "Dir::Etc::SourceParts=-"])
            .args([
                "-o",
                &option("Dir::State::Lists", &self.directory.join("lists")),
            ])
            .args(["-o", &option("Dir::Cache", &self.directory.join("cache"))])
            .args(["-o", "APT::Sandbox::User=root"])
            .args([
                "-o",
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            ]);
        command
    }
}
