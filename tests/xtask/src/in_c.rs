//! The plugins in C: the example for authors, and one that breaks the contract.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Result, at};
use crate::run::{output, root, run};

/// The contract's header, and what makes a WASM module of a source that includes it.
const HEADERS: &str = "plugin-api/c";
const WASM: &str = "plugin-api/c/wasm";
const WASM_SOURCES: [&str; 2] = ["adapter.c", "libc.c"];

/// The example, and the name of the results.
const EXAMPLE: (&str, &str) = ("plugin-api/c/examples/upper.c", "upper_c");

/// What the host is tested with, and the names of its lies in their order (`LIE` in the source), with
/// the forms in which they can be told.
const LIAR: &str = "plugins/misbehaving/liar.c";
const LIES: [(&str, Told); 12] = [
    ("none", Told::Both),
    ("other_version", Told::Native),
    ("no_table", Told::Native),
    ("table_version", Told::Native),
    ("hole_in_table", Told::Native),
    ("no_manifest", Told::Native),
    ("bad_name", Told::Both),
    ("not_utf8", Told::Both),
    ("double_key", Told::Both),
    ("manifest_fails", Told::Both),
    ("manifest_loops", Told::Wasm),
    ("imports", Told::Wasm),
];

/// In which form of a plugin.
#[derive(Clone, Copy, PartialEq)]
enum Told {
    Native,
    Wasm,
    Both,
}

/// Warnings are mistakes in all of it.
const STRICT: [&str; 5] = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2"];

/// Builds what is written in C, with the compiler that links everything else here, and for WASM with
/// clang where there is one.
pub(crate) fn build(results: &Path) -> Result<()> {
    let clang = Clang::find()?;
    let (example, name) = EXAMPLE;
    let built = |path: &Path| println!("{} (from C)", path.display());
    let to = results.join(format!("{name}.so"));
    native(example, None, &to)?;
    built(&to);
    if let Some(clang) = &clang {
        let to = results.join(format!("{name}.wasm"));
        clang.build(example, None, &to)?;
        built(&to);
    }
    let lies = results.join("lies");
    fs::create_dir_all(&lies).map_err(at(&lies))?;
    for (lie, (name, told)) in LIES.into_iter().enumerate() {
        if told != Told::Wasm {
            native(LIAR, Some(lie), &lies.join(format!("{name}.so")))?;
        }
        if let Some(clang) = clang.as_ref().filter(|_| told != Told::Native) {
            clang.build(LIAR, Some(lie), &lies.join(format!("{name}.wasm")))?;
        }
    }
    match clang {
        Some(_) => println!("{} (for the tests of the host)", lies.display()),
        None => {
            println!("no WASM modules from C: there is no clang\n\nhint: apt-get install clang")
        }
    }
    Ok(())
}

/// Builds a native library.
fn native(source: &str, lie: Option<usize>, to: &Path) -> Result<()> {
    let mut compiler = Command::new("cc");
    compiler
        .args(STRICT)
        .args(["-shared", "-fPIC", "-I", HEADERS]);
    compile(compiler.arg(source), lie, to)
}

/// A compiler for WASM, and the linker that the Rust toolchain has for it.
struct Clang {
    linker: PathBuf,
}

impl Clang {
    /// Looks for clang, which nothing else here needs.
    fn find() -> Result<Option<Self>> {
        let mut version = Command::new("clang");
        version.arg("--version").stdout(Stdio::null());
        if !version.status().is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let libraries = output(Command::new("rustc").args(["--print", "target-libdir"]))?;
        let linker = Path::new(libraries.trim()).join("../bin/gcc-ld/wasm-ld");
        Ok(Some(Self { linker }))
    }

    /// Builds a WASM module, as `adapter.c` tells authors to.
    fn build(&self, source: &str, lie: Option<usize>, to: &Path) -> Result<()> {
        let mut compiler = Command::new("clang");
        compiler
            .args(STRICT)
            .args(["--target=wasm32", "-mbulk-memory", "-ffreestanding"])
            .args(["-nostdlib", "-Wl,--no-entry"])
            .arg(format!("-fuse-ld={}", self.linker.display()))
            .args(["-I", HEADERS, "-I", WASM])
            .arg(source)
            .args(WASM_SOURCES.map(|source| format!("{WASM}/{source}")));
        compile(&mut compiler, lie, to)
    }
}

/// Compiles, and puts the result in the place of what was there, so that a process that has loaded
/// that keeps it.
fn compile(compiler: &mut Command, lie: Option<usize>, to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    compiler.args(lie.map(|lie| format!("-DLIE={lie}")));
    run(compiler.arg("-o").arg(&new).current_dir(root()))?;
    fs::rename(&new, to).map_err(at(to))
}
