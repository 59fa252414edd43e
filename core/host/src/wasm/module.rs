//! What a WASM file is, and a component made of it. Everything that can be told without running it
//! is looked at first, so that the error names it.

use std::borrow::Cow;

use plugin_api::abi::{VERSION, WIT, WORLD};
use wasmparser::{Parser, Payload};
use wasmtime::Module;
use wasmtime::component::Component;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::ticker::engine;
use crate::load_error::LoadProblem;

/// What the names of the contract's interfaces begin with, whatever their version.
const PACKAGE_STEM: &str = "tcpcopy:plugin/";

/// The custom section in which a core module tells which world it is made for.
const TYPE_SECTION: &str = "component-type";

/// The contract's functions.
const FUNCTIONS: [&str; 9] = [
    "manifest",
    "configure",
    "open",
    "on-data",
    "on-gap",
    "on-end",
    "on-timer",
    "on-shared",
    "close",
];

/// Compiles a file, a component or a core module.
pub(super) fn compile(bytes: &[u8]) -> Result<Component, LoadProblem> {
    let component = match Parser::is_component(bytes) {
        true => Cow::Borrowed(bytes),
        false => Cow::Owned(componentise(bytes)?),
    };
    whole(&component)?;
    let component = Component::new(engine(), &component)
        .map_err(|error| LoadProblem::Damaged(format!("{error:#}")))?;
    check_names(&component)?;
    Ok(component)
}

/// The name of an interface of our version.
fn interface(name: &str) -> String {
    format!("{PACKAGE_STEM}{name}@{VERSION}")
}

/// Walks through the sections: a file that is cut off ends in the middle of one.
fn whole(bytes: &[u8]) -> Result<(), LoadProblem> {
    for payload in Parser::new(0).parse_all(bytes) {
        payload.map_err(damaged)?;
    }
    Ok(())
}

fn damaged(error: impl std::fmt::Display) -> LoadProblem {
    LoadProblem::Damaged(error.to_string())
}

/// Makes a component of a core module with the contract's exports. What the module itself says of its
/// type is left out, unread: who decodes such a text can be made to recurse for ever. The contract's
/// own type takes its place, and the module's functions are compared with that.
fn componentise(module: &[u8]) -> Result<Vec<u8>, LoadProblem> {
    let outline = Outline::of(module).map_err(damaged)?;
    Module::validate(engine(), module).map_err(|error| damaged(format!("{error:#}")))?;
    let guest = interface("guest");
    let exports = outline
        .exports
        .iter()
        .filter_map(|name| name.split_once('#'));
    let versions: Vec<_> = exports.filter_map(|(name, _)| version_of(name)).collect();
    if versions.is_empty() {
        return Err(LoadProblem::NoPlugin {
            form: "WASM module",
            missing: format!("the export `{guest}#manifest`"),
        });
    }
    if !versions.iter().any(|version| version == VERSION) {
        let found = versions.into_iter().next().unwrap_or_default();
        return Err(LoadProblem::Version { found });
    }
    let foreign = |name: &&String| !name.starts_with(PACKAGE_STEM);
    let foreign: Vec<_> = outline.imports.iter().filter(foreign).cloned().collect();
    if !foreign.is_empty() {
        return Err(LoadProblem::Imports(foreign));
    }
    for function in FUNCTIONS {
        if !outline.exports.contains(&format!("{guest}#{function}")) {
            return Err(LoadProblem::Incomplete(function.to_owned()));
        }
    }
    let signature = |problem: String| LoadProblem::Signature {
        function: format!("world {WORLD}"),
        problem,
    };
    let encoder = ComponentEncoder::default().validate(true);
    let encoder = encoder.module(&typed(module)?);
    let encoded = encoder.and_then(|mut encoder| encoder.encode());
    encoded.map_err(|error| signature(format!("{error:#}")))
}

/// A core module with the contract's type in place of its own.
fn typed(module: &[u8]) -> Result<Vec<u8>, LoadProblem> {
    let mut typed = Vec::with_capacity(module.len());
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(damaged)?;
        let is_type = matches!(&payload, Payload::CustomSection(section)
            if section.name().starts_with(TYPE_SECTION));
        match payload.as_section() {
            Some((id, content)) if !is_type => {
                typed.push(id);
                push_length(&mut typed, content.len());
                typed.extend_from_slice(&module[content]);
            }
            Some(_) => {}
            None => {
                if let Payload::Version { range, .. } = payload {
                    typed.extend_from_slice(&module[range]);
                }
            }
        }
    }
    let mut contract = Resolve::default();
    let package = contract.push_str("plugin.wit", WIT);
    let world = package.and_then(|package| contract.select_world(&[package], Some(WORLD)));
    let utf8 = StringEncoding::UTF8;
    let embedded =
        world.and_then(|world| embed_component_metadata(&mut typed, &contract, world, utf8));
    embedded.map_err(|error| damaged(format!("{error:#}")))?;
    Ok(typed)
}

/// A section's length, as WASM writes it: 7 bits a byte, the lowest first.
fn push_length(module: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        module.push(0x80 | (length & 0x7f) as u8);
        length >>= 7;
    }
    module.push(length as u8);
}

/// The version in the name of a package or interface of the contract.
fn version_of(name: &str) -> Option<String> {
    let package = PACKAGE_STEM.trim_end_matches('/');
    let rest = name.strip_prefix(package)?;
    let is_ours = rest.is_empty() || rest.starts_with(['/', '@']);
    is_ours.then(|| match rest.split_once('@') {
        Some((_, version)) => version.to_owned(),
        None => "unknown".to_owned(),
    })
}

/// What a core module has on its outside.
#[derive(Default)]
struct Outline {
    /// Modules that it imports from, with the name of the thing.
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Outline {
    fn of(module: &[u8]) -> wasmparser::Result<Self> {
        let mut outline = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        let name = format!("{}.{}", import.module, import.name);
                        outline.imports.push(name);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        outline.exports.push(export?.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }
}

/// Compares what a component imports and exports with the contract.
fn check_names(component: &Component) -> Result<(), LoadProblem> {
    let types = component.component_type();
    let imports = types.imports(engine()).map(|(name, _)| name.to_owned());
    let exports = types.exports(engine()).map(|(name, _)| name.to_owned());
    let (imports, exports): (Vec<_>, Vec<_>) = (imports.collect(), exports.collect());
    let guest = interface("guest");
    for name in imports.iter().chain(&exports) {
        if let Some(found) = version_of(name).filter(|found| found != VERSION) {
            return Err(LoadProblem::Version { found });
        }
    }
    if !exports.contains(&guest) {
        return Err(LoadProblem::NoPlugin {
            form: "WASM component",
            missing: format!("the export `{guest}`"),
        });
    }
    let known = [interface("host"), interface("types")];
    let foreign: Vec<_> = imports
        .into_iter()
        .filter(|name| !known.contains(name))
        .collect();
    match foreign.is_empty() {
        true => Ok(()),
        false => Err(LoadProblem::Imports(foreign)),
    }
}
