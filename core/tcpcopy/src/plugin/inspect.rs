//! `tcpcopy plugin inspect`: what a plugin says of itself.

use std::fmt::Write;

use plugin_api::{Key, Manifest, Needs};
use serde_json::{Value, json};
use tcpcopy_host::{Library, Limits};

use super::PluginError;
use super::command::InspectOptions;

/// Loads the plugin and describes it.
pub(super) fn inspect(options: &InspectOptions) -> Result<String, PluginError> {
    let library = Library::load(&options.file, &Limits::default())?;
    match options.json {
        true => {
            let text = serde_json::to_string_pretty(&as_json(&library)).unwrap_or_default();
            Ok(text + "\n")
        }
        false => Ok(as_text(&library)),
    }
}

fn as_json(library: &Library) -> Value {
    let manifest = library.manifest();
    let key = |key: &Key| {
        json!({
            "name": key.name,
            "kind": key.kind.to_string(),
            "required": key.required,
            "default": key.default,
            "needs": needs_json(key.needs),
            "doc": key.doc,
        })
    };
    json!({
        "file": library.path().display().to_string(),
        "name": manifest.name,
        "version": manifest.version,
        "description": manifest.description,
        "form": library.form().to_string(),
        "contract": library.contract(),
        "needs": needs_json(manifest.needs),
        "keys": manifest.keys.iter().map(key).collect::<Vec<_>>(),
    })
}

fn as_text(library: &Library) -> String {
    let manifest = library.manifest();
    let Manifest {
        name,
        version,
        description,
        ..
    } = manifest;
    let mut text = format!(
        "{name} {version}: {description}\nform      {}\ncontract  {}\nneeds     {}\n",
        library.form(),
        library.contract(),
        needs(manifest.needs),
    );
    if manifest.keys.is_empty() {
        text.push_str("\nIt has no keys of configuration.\n");
        return text;
    }
    let _ = writeln!(
        text,
        "\nKeys of the table [{name}] in --plugin-config, or with --set {name}.KEY=VALUE:"
    );
    for key in &manifest.keys {
        let default = match (&key.default, key.required) {
            (_, true) => "required".to_owned(),
            (Some(default), false) => format!("default: {default}"),
            (None, false) => "optional".to_owned(),
        };
        let _ = writeln!(text, "\n  {} ({}, {default})", key.name, key.kind);
        for line in key.doc.lines() {
            let _ = writeln!(text, "      {line}");
        }
        if key.needs != Needs::NONE {
            let _ = writeln!(text, "      With it the plugin needs {}.", needs(key.needs));
        }
    }
    text
}

fn needs_json(needs: Needs) -> Value {
    json!({ "origin": needs.origin, "target": needs.target })
}

/// What is needed beside the clients' streams, and what that takes.
fn needs(needs: Needs) -> &'static str {
    match (needs.origin, needs.target) {
        (false, false) => "only what clients say",
        (true, false) => "what the origin answers, which is captured as well",
        (false, true) => "what the target answers, which intercept reports with its bytes",
        (true, true) => {
            "what the origin answers, which is captured as well, and what the target answers, which \
             intercept reports with its bytes"
        }
    }
}
