//! The form of the sources: sizes that a reader can hold, documents where they are owed, nothing
//! unfinished.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::Visit;

/// Lines of a file without its tests.
const FILE_LINES: usize = 500;

/// Lines of a file with all that is in it.
const HARD_FILE_LINES: usize = 800;

/// Lines of a function, from its signature to its brace.
const FUNCTION_LINES: usize = 70;

/// Lines of a lib.rs, which is a table of contents.
const CONTENTS_LINES: usize = 150;

/// Functions that are longer than they should be, with the lines that they may have at most. The
/// list may only shrink: a new entry is refused in review, and one that is no longer needed fails.
const LONG_FUNCTIONS: [(&str, &str, usize); 0] = [];

/// Words that stand for work not done.
const UNFINISHED: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];

/// Directories that are left out: what cargo builds, and a workspace of another tool's making.
const LEFT_OUT: [&str; 2] = ["target", "libfuzzer"];

/// The directories that hold this project's own sources.
const SOURCES: [&str; 5] = ["core", "intercept", "plugin-api", "plugins", "tests"];

struct Source {
    /// The path from the root of the workspace.
    name: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.name.contains("/tests/") || self.name.ends_with("/tests.rs")
    }

    /// How many lines come before the test module.
    fn lines_without_tests(&self) -> usize {
        let test_module = |window: &[&str]| {
            window[0] == "#[cfg(test)]" && window[1].starts_with("mod ") && window[1].ends_with('{')
        };
        let lines: Vec<_> = self.text.lines().collect();
        lines
            .windows(2)
            .position(test_module)
            .unwrap_or(lines.len())
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    for directory in SOURCES {
        collect(&root().join(directory), directory, &mut sources);
    }
    assert!(sources.len() > 30, "the sources were not found");
    sources
}

fn collect(directory: &Path, name: &str, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy();
        let name = format!("{name}/{file}");
        if path.is_dir() && !LEFT_OUT.contains(&&*file) {
            collect(&path, &name, sources);
        } else if file.ends_with(".rs") {
            sources.push(Source {
                name,
                text: fs::read_to_string(&path).unwrap(),
            });
        }
    }
}

/// Reports all findings at once.
fn assert_none(findings: Vec<String>, rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n{}", findings.join("\n"));
}

#[test]
fn files_are_short() {
    let long = |source: &Source| {
        let (all, own) = (source.text.lines().count(), source.lines_without_tests());
        let contents = source.name.ends_with("/lib.rs") && own > CONTENTS_LINES;
        let too_long = all > HARD_FILE_LINES || (own > FILE_LINES && !source.is_test());
        (contents || too_long).then(|| format!("{}: {own} lines, {all} with tests", source.name))
    };
    assert_none(
        sources().iter().filter_map(long).collect(),
        "files that are too long",
    );
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    for source in sources() {
        let file = syn::parse_file(&source.text).unwrap();
        let mut functions = Functions::default();
        functions.visit_file(&file);
        for (name, lines) in functions.0 {
            if lines > FUNCTION_LINES {
                long.push((source.name.clone(), name, lines));
            }
        }
    }
    let text = |(file, name, lines): &(String, String, usize)| format!("{file}: {name}, {lines}");
    let tolerated = |file: &str, name: &str, lines: usize| {
        LONG_FUNCTIONS
            .iter()
            .any(|entry| (entry.0, entry.1) == (file, name) && lines <= entry.2)
    };
    let new = long
        .iter()
        .filter(|(file, name, lines)| !tolerated(file, name, *lines));
    assert_none(
        new.map(text).collect(),
        "functions that are too long, with their lines",
    );
    let is_long = |file: &str, name: &str| long.iter().any(|item| item.0 == file && item.1 == name);
    let stale = LONG_FUNCTIONS
        .iter()
        .filter(|entry| !is_long(entry.0, entry.1));
    let stale = stale
        .map(|entry| format!("{}: {}", entry.0, entry.1))
        .collect();
    assert_none(
        stale,
        "functions that are short by now and must leave the list",
    );
}

/// The functions of a file and their lengths in lines.
#[derive(Default)]
struct Functions(Vec<(String, usize)>);

impl Functions {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (start, end) = (signature.span().start().line, block.span().end().line);
        self.0.push((signature.ident.to_string(), end - start + 1));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }
}

#[test]
fn every_file_says_what_it_is() {
    // A tests.rs beside the code tests the module that it belongs to, which says what it is.
    let silent =
        |source: &Source| !source.text.starts_with("//!") && !source.name.ends_with("/tests.rs");
    let silent = sources()
        .into_iter()
        .filter(silent)
        .map(|source| source.name)
        .collect();
    assert_none(silent, "files that do not begin with a `//!` line");
}

#[test]
fn nothing_is_unfinished_or_left_out() {
    let mut findings = Vec::new();
    // This file has to name what it looks for.
    for source in sources()
        .iter()
        .filter(|source| source.name != "tests/xtask/tests/tidy.rs")
    {
        for (at, line) in source.text.lines().enumerate() {
            let unfinished = line
                .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
                .any(|word| UNFINISHED.contains(&word));
            if unfinished || line.contains("#[ignore") {
                findings.push(format!("{}:{}: {}", source.name, at + 1, line.trim()));
            }
        }
    }
    assert_none(findings, "unfinished work and tests that do not run");
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(document))
            .unwrap_or_else(|error| panic!("{document}: {error}"));
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let path = link.split('#').next().unwrap();
            let inside = !path.is_empty() && !path.contains("://");
            if inside && !root().join(path).exists() {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    assert_none(broken, "links that lead nowhere");
}
