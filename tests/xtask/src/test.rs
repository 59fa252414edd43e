//! All tests, in the order in which a failure is cheapest.

use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::{Result, claim};
use crate::machine;

/// Seconds of each load in CI, and of each in full.
const LOAD_SECONDS: [&str; 2] = ["3", "10"];

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
        step(
            "units, properties, simulation, fuzz corpora",
            &mut cargo(&units),
        ),
        step("lab", &mut cargo(&serial("tcpcopy-lab"))),
    ];
    match machine::programs() {
        Ok(programs) => steps.push(step(
            "end to end",
            cargo(&["test", "--package", "tcpcopy-e2e", "--no-fail-fast", "--"])
                .args(["--test-threads=1"])
                .env("LOAD_SECONDS", LOAD_SECONDS[usize::from(full)])
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

/// The cargo that runs this task.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    command
}
