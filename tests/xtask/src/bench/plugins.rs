//! What plugins cost: each call, and each request of a replay with the HTTP plugin.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tcpcopy_lab::{Lab, Mode, Programs};

use super::{Cost, SHAPES, Shape, measure};
use crate::error::Result;
use crate::http;
use crate::plugins;
use crate::run::{cargo, run as run_command};

/// Prints both tables.
pub(crate) fn run(programs: &Programs, duration: Duration) -> Result<()> {
    println!();
    let directory = plugins::build(&["skeleton", "http"].map(str::to_owned))?;
    println!("\ncost of a call");
    let program = measuring_program(&directory)?;
    run_command(Command::new(program).arg(&directory))?;
    println!("\nprocessor time per request in us, with the HTTP plugin as a multiple of without\n");
    let titles = ["", "none", "native", "WASM", "native", "WASM"];
    print_row("intercept", "load", &titles.map(str::to_owned));
    for (place, mode) in [("target", Mode::Target), ("none", Mode::Socket)] {
        for shape in &SHAPES[..2] {
            of_requests(programs, &directory, (place, mode), shape, duration)?;
        }
    }
    Ok(())
}

/// Builds the program that measures calls, as the programs are built: together with one of them, or
/// what they have in common would be built twice.
fn measuring_program(plugins: &Path) -> Result<PathBuf> {
    let packages = ["--package", "tcpcopy", "--package", "tcpcopy-host"];
    let build = [
        "build",
        "--release",
        "--bin",
        "tcpcopy",
        "--bin",
        "plugin-cost",
    ];
    run_command(cargo(&build).args(packages))?;
    let built = plugins.parent().unwrap_or(plugins);
    Ok(built.join("release/plugin-cost"))
}

/// Measures the same load without the plugin and with it in both forms.
fn of_requests(
    programs: &Programs,
    directory: &Path,
    (place, mode): (&str, Mode),
    shape: &Shape,
    duration: Duration,
) -> Result<()> {
    let measure_with = |form: Option<&str>| -> Result<Cost> {
        let arguments = |lab: &Lab| match form {
            Some(form) => http::marking(lab, &directory.join(format!("http.{form}"))),
            None => Ok(Vec::new()),
        };
        measure(programs, mode, shape, duration, arguments)
    };
    let none = measure_with(None)?;
    let native = measure_with(Some("so"))?;
    let wasm = measure_with(Some("wasm"))?;
    let all = [&none, &native, &wasm];
    let mut rows = vec![("tcpcopy", all.map(|cost| cost.tcpcopy_us))];
    if mode != Mode::Socket {
        rows.push(("intercept", all.map(|cost| cost.intercept_us)));
    }
    for (program, us) in rows {
        let figures = us.map(|us| format!("{us:.1}"));
        let ratios = [us[1] / us[0], us[2] / us[0]].map(|ratio| format!("{ratio:.2}"));
        let row = [&[program.to_owned()], &figures[..], &ratios].concat();
        print_row(place, shape.name, &row);
    }
    Ok(())
}

fn print_row(place: &str, load: &str, columns: &[String]) {
    let mut line = format!("{place:<11}{load:<24}");
    for (number, column) in columns.iter().enumerate() {
        let width = if number == 0 { 10 } else { 8 };
        line += &format!("{column:>width$}");
    }
    println!("{line}");
}
