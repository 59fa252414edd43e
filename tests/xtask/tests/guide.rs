//! The author's guide shows the plugin that there is: every line of it, and nothing else.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Files of the example that the guide need not show to their end.
const SHOWN_IN_PART: [&str; 1] = ["plugins/notes/tests/transcripts.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The text of the blocks of each file that the guide shows, in order.
fn shown() -> BTreeMap<String, String> {
    let guide = read("plugin-api/GUIDE.md");
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut file = None;
    for line in guide.lines() {
        match line.strip_prefix("```") {
            Some(fence) => {
                file = fence.split_once(' ').map(|(_, file)| file.to_owned());
            }
            None => {
                if let Some(file) = &file {
                    let text = files.entry(file.clone()).or_default();
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
    files
}

/// A text without the empty lines between its blocks.
fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.is_empty()).collect()
}

#[test]
fn what_the_guide_shows_is_the_plugin() {
    let shown = shown();
    assert!(shown.len() >= 5, "shown: {:?}", shown.keys());
    for (file, text) in &shown {
        let real = read(file);
        let (real, text) = (lines(&real), lines(text));
        match SHOWN_IN_PART.contains(&&**file) {
            true => assert!(real.starts_with(&text), "{file} begins otherwise"),
            false => assert!(real == text, "{file} is otherwise"),
        }
    }
}

#[test]
fn every_file_of_the_plugin_is_shown() {
    let shown = shown();
    for entry in fs::read_dir(root().join("plugins/notes/src")).unwrap() {
        let name = entry.unwrap().file_name();
        let file = format!("plugins/notes/src/{}", name.to_str().unwrap());
        assert!(shown.contains_key(&file), "{file} is not shown");
    }
}

/// What the guide links to is there.
#[test]
fn links_lead_somewhere() {
    let guide = read("plugin-api/GUIDE.md");
    let targets = guide.split("](").skip(1);
    let targets: Vec<_> = targets.filter_map(|rest| rest.split(')').next()).collect();
    assert!(targets.len() > 10, "{targets:?}");
    for target in targets {
        let place = match target.strip_prefix('#') {
            Some(section) => guide.lines().any(|line| {
                let title = line.trim_start_matches('#').trim().to_lowercase();
                line.starts_with('#') && title.replace(' ', "-").replace(',', "") == section
            }),
            None => root().join("plugin-api").join(target).exists(),
        };
        assert!(place, "{target} is nowhere");
    }
}
