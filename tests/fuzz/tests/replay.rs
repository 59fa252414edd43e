//! Replays every committed corpus, and keeps the table of targets and the files about it agreeing.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use tcpcopy_fuzz::TARGETS;

#[test]
fn no_input_of_a_corpus_panics() {
    let mut panicked = Vec::new();
    for target in TARGETS {
        let inputs = files_in(&target.corpus());
        assert!(!inputs.is_empty(), "the corpus of {} is empty", target.name);
        for name in inputs {
            let input = fs::read(target.corpus().join(&name)).unwrap();
            if catch_unwind(|| (target.run)(&input)).is_err() {
                panicked.push(format!("{}/{name}", target.name));
            }
        }
    }
    assert!(panicked.is_empty(), "these inputs panic: {panicked:?}");
}

#[test]
fn corpora_hold_the_seeds_as_they_are_made() {
    for target in TARGETS {
        for (name, bytes) in (target.seeds)() {
            let file = target.corpus().join(name);
            let committed = fs::read(&file).unwrap_or_default();
            assert!(
                committed == bytes,
                "{} differs from its seed; run: cargo run -p tcpcopy-fuzz --bin seed_corpora",
                file.display()
            );
        }
    }
}

#[test]
fn every_target_has_a_corpus_and_a_binary_and_there_are_no_others() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names: BTreeSet<String> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    assert_eq!(names.len(), TARGETS.len(), "two targets of one name");
    assert_eq!(files_in(&package.join("corpora")), names);

    let sources = names.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(files_in(&package.join("libfuzzer/fuzz_targets")), sources);
    let manifest = fs::read_to_string(package.join("libfuzzer/Cargo.toml")).unwrap();
    for name in &names {
        assert!(
            manifest.contains(&format!(
                "name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\""
            )),
            "libfuzzer/Cargo.toml has no binary for {name}"
        );
    }
}

fn files_in(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("a directory entry").file_name())
        .map(|name| name.into_string().expect("a file name in UTF-8"))
        .collect()
}
