//! Figures that a test measures and does not judge.

use std::io::{self, Write};

/// Prints a line that is seen also when the test passes.
pub fn tell(figures: &str) {
    // Not `println!`: the test harness would keep it to itself.
    let _ = writeln!(io::stderr(), "FIGURES {figures}");
}
