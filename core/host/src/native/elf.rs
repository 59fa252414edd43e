//! What a native library is, read from its file before the system's loader touches it: loading runs
//! code, and a file that is cut off would end the process.

use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Architecture, Endianness, FileKind, Object, ObjectKind, elf};
use plugin_api::abi::SYMBOL;

use crate::load_error::LoadProblem;

/// What the symbols of all versions begin with.
const SYMBOL_STEM: &str = "tcpcopy_plugin_v";

/// Checks that a file is a whole library for this machine with the symbol of our version.
pub(crate) fn check(bytes: &[u8]) -> Result<(), LoadProblem> {
    let damaged = |error: object::Error| LoadProblem::Damaged(error.to_string());
    if FileKind::parse(bytes).map_err(damaged)? != FileKind::Elf64 {
        return Err(machine("32 bits".to_owned()));
    }
    let file = ElfFile64::<Endianness>::parse(bytes).map_err(damaged)?;
    let architecture = file.architecture();
    if Some(architecture) != ours() || file.is_little_endian() != cfg!(target_endian = "little") {
        return Err(machine(format!("{architecture:?}")));
    }
    check_length(&file, bytes.len() as u64).map_err(LoadProblem::Damaged)?;
    if file.kind() != ObjectKind::Dynamic {
        return Err(LoadProblem::NoPlugin {
            form: "native program or object file",
            missing: format!("the symbol `{SYMBOL}` of a shared library"),
        });
    }
    check_symbol(&file)
}

fn check_symbol(file: &ElfFile64<'_, Endianness>) -> Result<(), LoadProblem> {
    let exports = file.exports();
    let exports = exports.map_err(|error| LoadProblem::Damaged(error.to_string()))?;
    let names = exports.iter().map(object::Export::name);
    let stems: Vec<_> = names
        .filter_map(|name| std::str::from_utf8(name).ok())
        .filter(|name| name.starts_with(SYMBOL_STEM))
        .collect();
    match stems.first() {
        _ if stems.contains(&SYMBOL) => Ok(()),
        Some(other) => Err(LoadProblem::Version {
            found: other[SYMBOL_STEM.len()..].replace('_', "."),
        }),
        None => Err(LoadProblem::NoPlugin {
            form: "native library",
            missing: format!("the symbol `{SYMBOL}`"),
        }),
    }
}

/// The loader maps what the program headers name without looking whether it is there.
fn check_length(file: &ElfFile64<'_, Endianness>, length: u64) -> Result<(), String> {
    let endian = file.endian();
    for header in file.elf_program_headers() {
        let end = header
            .p_offset(endian)
            .saturating_add(header.p_filesz(endian));
        if header.p_type(endian) != elf::PT_NULL && end > length {
            return Err(format!("it has {length} bytes and should have {end}"));
        }
    }
    let header = file.elf_header();
    let sections = u64::from(header.e_shnum(endian)) * u64::from(header.e_shentsize(endian));
    let end = header.e_shoff(endian).saturating_add(sections);
    match end > length {
        true => Err(format!("it has {length} bytes and should have {end}")),
        false => Ok(()),
    }
}

fn machine(found: String) -> LoadProblem {
    let ours = std::env::consts::ARCH;
    LoadProblem::Machine { found, ours }
}

/// What libraries for this machine say.
fn ours() -> Option<Architecture> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Architecture::X86_64),
        "aarch64" => Some(Architecture::Aarch64),
        "riscv64" => Some(Architecture::Riscv64),
        "loongarch64" => Some(Architecture::LoongArch64),
        "powerpc64" => Some(Architecture::PowerPc64),
        "s390x" => Some(Architecture::S390x),
        _ => None,
    }
}
