//! What a WASM file is, and a component made of it. Everything that can be told without running it
//! is looked at first, so that the error names it.

use std::borrow::Cow;

use plugin_api::abi::{PACKAGE, VERSION};
use wasmparser::{Parser, Payload};
use wasmtime::component::Component;
use wit_component::ComponentEncoder;

use super::ticker::engine;
use crate::load_error::LoadProblem;

/// What the names of the contract's interfaces begin with, whatever their version.
const PACKAGE_STEM: &str = "tcpcopy:plugin/";

/// The custom section that tells which world a core module is made for.
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

/// Makes a component of a core module that carries the contract's type section.
fn componentise(module: &[u8]) -> Result<Vec<u8>, LoadProblem> {
    let outline = Outline::of(module).map_err(damaged)?;
    if !outline.has_types {
        return Err(LoadProblem::NoPlugin {
            form: "WASM module",
            missing: format!("the section `{TYPE_SECTION}` with the types of {PACKAGE}"),
        });
    }
    check_package(module)?;
    let foreign = |name: &&String| !name.starts_with(PACKAGE_STEM);
    let foreign: Vec<_> = outline.imports.iter().filter(foreign).cloned().collect();
    if !foreign.is_empty() {
        return Err(LoadProblem::Imports(foreign));
    }
    for function in FUNCTIONS {
        let name = format!("{}#{function}", interface("guest"));
        if !outline.exports.contains(&name) {
            return Err(LoadProblem::Incomplete(function.to_owned()));
        }
    }
    let encoder = ComponentEncoder::default().validate(true).module(module);
    let encoded = encoder.and_then(|mut encoder| encoder.encode());
    encoded.map_err(|error| LoadProblem::Damaged(format!("{error:#}")))
}

/// Compares the version of the package in the type section with ours.
fn check_package(module: &[u8]) -> Result<(), LoadProblem> {
    let decoded = wit_component::metadata::decode(module);
    let (_, bindings) = decoded.map_err(|error| damaged(format!("{error:#}")))?;
    let mut others = Vec::new();
    for (_, package) in &bindings.resolve.packages {
        let name = package.name.to_string();
        if name == PACKAGE {
            return Ok(());
        }
        if let Some(version) = version_of(&name) {
            return Err(LoadProblem::Version { found: version });
        }
        others.push(name);
    }
    Err(LoadProblem::NoPlugin {
        form: "WASM module",
        missing: format!("{PACKAGE} among its packages ({})", others.join(", ")),
    })
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
    has_types: bool,
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
                Payload::CustomSection(section) => {
                    outline.has_types |= section.name().starts_with(TYPE_SECTION);
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
