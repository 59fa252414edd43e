//! A plugin's file, loaded and checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plugin_api::abi::{NAME_BYTES, VERSION};
use plugin_api::{Config, Manifest};
use wasmparser::Parser;

use crate::instance::{Instance, Unconfigured};
use crate::limits::Limits;
use crate::load_error::{LoadError, LoadProblem};
use crate::services::Services;
use crate::share::Share;
use crate::{native, wasm};

/// What a native library begins with.
const ELF: &[u8] = b"\x7fELF";

/// The longest text of a manifest, in bytes.
const TEXT_BYTES: usize = 4096;

/// How many keys a manifest may have.
const KEYS: usize = 256;

/// Which form a plugin has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A shared library, in this process and trusted as this process.
    Native,
    /// A WASM module, with nothing but the contract's imports.
    Wasm,
}

impl std::fmt::Display for Form {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Native => "native",
            Self::Wasm => "WASM",
        })
    }
}

/// A plugin's file that has been loaded and checked: form, version of the contract, functions and
/// manifest. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Library {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// The manifest's name, for logs.
    name: Arc<str>,
    manifest: Manifest,
    code: Code,
}

#[derive(Debug)]
enum Code {
    Native(native::Library),
    Wasm(wasm::Library),
}

impl Library {
    /// Loads a plugin. Which form it has is told by the file's content, whatever its name. Of the
    /// limits, those of memory and output hold already when it is asked for its manifest.
    ///
    /// # Errors
    /// Names the file, what is wrong with it and what to do.
    pub fn load(path: &Path, limits: &Limits) -> Result<Self, LoadError> {
        let loaded = Self::load_code(path, limits);
        let (code, manifest) = loaded.map_err(|problem| LoadError::new(path, problem))?;
        let inner = Inner {
            path: path.to_owned(),
            name: manifest.name.as_str().into(),
            manifest,
            code,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// A plugin of this very program, under another name.
    #[cfg(test)]
    pub(crate) fn inside<P: plugin_api::Plugin>(name: &str) -> Self {
        let code = native::Library::inside::<P>();
        let mut manifest = code.manifest().expect("a plugin of a test");
        manifest.name = name.to_owned();
        Self {
            inner: Arc::new(Inner {
                path: PathBuf::from(name),
                name: name.into(),
                manifest,
                code: Code::Native(code),
            }),
        }
    }

    /// What the plugin says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// Which form it has.
    #[must_use]
    pub fn form(&self) -> Form {
        match self.inner.code {
            Code::Native(_) => Form::Native,
            Code::Wasm(_) => Form::Wasm,
        }
    }

    /// The file, as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The version of the contract that the plugin is made for.
    #[must_use]
    pub fn contract(&self) -> &'static str {
        VERSION
    }

    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.inner.name)
    }

    /// Makes an instance.
    pub(crate) fn configure(
        &self,
        config: &Config,
        services: Services,
        limits: &Limits,
    ) -> Result<Instance, Unconfigured> {
        match &self.inner.code {
            Code::Native(native) => {
                let instance = native.configure(config, services, limits)?;
                Ok(Instance::Native(instance))
            }
            Code::Wasm(wasm) => {
                let instance = wasm.configure(config, services, limits)?;
                Ok(Instance::Wasm(Box::new(instance)))
            }
        }
    }

    fn load_code(path: &Path, limits: &Limits) -> Result<(Code, Manifest), LoadProblem> {
        let bytes = fs::read(path).map_err(LoadProblem::Unreadable)?;
        let is_wasm = Parser::is_component(&bytes) || Parser::is_core_wasm(&bytes);
        let (code, manifest) = if bytes.is_empty() {
            return Err(LoadProblem::Empty);
        } else if bytes.starts_with(ELF) {
            // A path without a slash would be searched for elsewhere.
            let absolute = fs::canonicalize(path).map_err(LoadProblem::Unreadable)?;
            let library = native::Library::load(&absolute, &bytes)?;
            let manifest = library.manifest()?;
            (Code::Native(library), manifest)
        } else if is_wasm {
            let library = wasm::Library::load(&bytes)?;
            let services = Services::new("?".into(), Share::new(limits), None);
            let manifest = library.manifest(services, limits)?;
            (Code::Wasm(library), manifest)
        } else {
            return Err(LoadProblem::Foreign {
                beginning: beginning(&bytes),
            });
        };
        check(&manifest).map_err(LoadProblem::Manifest)?;
        Ok((code, manifest))
    }
}

/// The first bytes of a file, as somebody would recognise them.
fn beginning(bytes: &[u8]) -> String {
    let first = &bytes[..bytes.len().min(8)];
    format!("\"{}\"", first.escape_ascii())
}

/// Whether a manifest can be used: its name stands in tables, options and reports.
fn check(manifest: &Manifest) -> Result<(), String> {
    let of_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    let name = &manifest.name;
    if !(1..=NAME_BYTES).contains(&name.len()) || !name.bytes().all(of_name) {
        return Err(format!(
            "its name must be 1 to {NAME_BYTES} lower case letters, digits and _, and is \"{}\"",
            name.escape_debug()
        ));
    }
    if manifest.keys.len() > KEYS {
        return Err(format!("it has more than {KEYS} keys"));
    }
    for (at, key) in manifest.keys.iter().enumerate() {
        if key.name.is_empty() || key.name.len() > NAME_BYTES {
            return Err(format!("key {at} has a name of {} bytes", key.name.len()));
        }
        if manifest.keys[..at]
            .iter()
            .any(|other| other.name == key.name)
        {
            return Err(format!("the key `{}` comes twice", key.name));
        }
    }
    let docs = manifest.keys.iter().map(|key| &key.doc);
    let mut texts = docs.chain([&manifest.version, &manifest.description]);
    match texts.any(|text| text.len() > TEXT_BYTES) {
        true => Err(format!("it has a text of more than {TEXT_BYTES} bytes")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use plugin_api::Key;

    use super::*;

    #[test]
    fn manifests_are_checked() {
        let problem = |manifest: Manifest| check(&manifest).expect_err("invalid");
        assert_eq!(check(&Manifest::new("a_1", "1.0.0", "")), Ok(()));
        assert!(problem(Manifest::new("", "1.0.0", "")).contains("must be 1 to 64"));
        assert!(problem(Manifest::new("A", "1.0.0", "")).contains("is \"A\""));
        let twice = Manifest::new("a", "1.0.0", "")
            .key(Key::text("k", ""))
            .key(Key::integer("k", ""));
        assert_eq!(problem(twice), "the key `k` comes twice");
        let long = Manifest::new("a", "1.0.0", &"x".repeat(TEXT_BYTES + 1));
        assert!(problem(long).contains("more than 4096 bytes"));
    }

    #[test]
    fn a_beginning_is_told_in_words() {
        assert_eq!(beginning(b"#!/bin/sh\n"), r##""#!/bin/s""##);
        assert_eq!(beginning(b"PK\x03\x04"), r#""PK\x03\x04""#);
    }
}
