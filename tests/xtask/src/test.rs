//! All tests, in the order in which a failure is cheapest.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::{Result, claim};
use crate::machine;
use crate::plugins;
use crate::run::cargo;
use crate::wasm_std;

/// Seconds of each load in CI, and of each in full.
const LOAD_SECONDS: [&str; 2] = ["3", "10"];

/// Tells tests where the built plugins are.
const PLUGINS: &str = "TCPCOPY_PLUGINS";

/// One step and how it went.
struct Step {
    name: &'static str,
    passed: bool,
    took: Duration,
}

/// Runs every step, also after a failure, and tells at the end how each one went.
pub(crate) fn run(full: bool) -> Result<()> {
    let start = Instant::now();
    machine::prepare()?;
    let lint = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    // The lab's own tests make many namespaces and the e2e tests need both cores for themselves.
    let units = [
        "test",
        "--workspace",
        "--exclude",
        "tcpcopy-e2e",
        "--exclude",
        "tcpcopy-lab",
    ];
    let serial = |package| ["test", "--package", package, "--", "--test-threads=1"];
    let mut steps = vec![
        step("fmt", &mut cargo(&["fmt", "--all", "--check"])),
        step("clippy", &mut cargo(&lint)),
    ];
    let plugins = plugins(&mut steps);
    steps.push(step(
        "units, properties, simulation, fuzz corpora",
        cargo(&units).env(PLUGINS, &plugins),
    ));
    steps.push(step("lab", &mut cargo(&serial("tcpcopy-lab"))));
    match machine::programs() {
        Ok(programs) => steps.push(step(
            "end to end",
            cargo(&["test", "--package", "tcpcopy-e2e", "--no-fail-fast", "--"])
                .args(["--test-threads=1"])
                .env("LOAD_SECONDS", LOAD_SECONDS[usize::from(full)])
                .env(PLUGINS, &plugins)
                .env("TCPCOPY_BIN", programs.tcpcopy)
                .env("INTERCEPT_BIN", programs.intercept),
        )),
        Err(error) => {
            println!("{error}");
            steps.push(Step {
                name: "release build",
                passed: false,
                took: Duration::ZERO,
            });
        }
    }
    summarize(&steps, start.elapsed())
}

/// Builds the plugins both ways, and looks at what only a WASM build compiles; the answer is where
/// they are.
fn plugins(steps: &mut Vec<Step>) -> PathBuf {
    println!("\n==== plugins, native and WASM");
    let start = Instant::now();
    let built = plugins::build(&[]);
    if let Err(error) = &built {
        println!("{error}");
    }
    steps.push(Step {
        name: "plugins, native and WASM",
        passed: built.is_ok(),
        took: start.elapsed(),
    });
    // In release, so that nothing is built for it that the plugins have not needed already.
    let target = ["--target", wasm_std::TARGET];
    let mut lint = cargo(&["clippy", "--release", "--package", "tcpcopy-plugin-api"]);
    lint.args(target).args(["--", "-D", "warnings"]);
    steps.push(step("clippy of what only WASM has", &mut lint));
    built.unwrap_or_default()
}

/// Runs one step and lets it print what it prints.
fn step(name: &'static str, command: &mut Command) -> Step {
    println!("\n==== {name}");
    let start = Instant::now();
    let passed = match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            println!("{name} could not be started: {error}");
            false
        }
    };
    Step {
        name,
        passed,
        took: start.elapsed(),
    }
}

/// Prints one line a step and the sum, in the words of `cargo test`.
fn summarize(steps: &[Step], took: Duration) -> Result<()> {
    println!();
    let word = |passed| if passed { "ok" } else { "FAILED" };
    for Step { name, passed, took } in steps {
        println!(
            "test {name} ... {} ({:.0} s)",
            word(*passed),
            took.as_secs_f64()
        );
    }
    let failed = steps.iter().filter(|step| !step.passed).count();
    println!(
        "\ntest result: {}. {} passed; {failed} failed; finished in {:.0} s",
        word(failed == 0),
        steps.len() - failed,
        took.as_secs_f64()
    );
    claim(failed == 0, || "see above".to_owned())
}
