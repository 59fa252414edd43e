//! Writes the seeds of every target into its corpus; other files there are left alone.

#![forbid(unsafe_code)]

use std::{fs, io};

use tcpcopy_fuzz::TARGETS;

fn main() -> io::Result<()> {
    for target in TARGETS {
        let corpus = target.corpus();
        fs::create_dir_all(&corpus)?;
        for (name, bytes) in (target.seeds)() {
            fs::write(corpus.join(name), bytes)?;
        }
    }
    Ok(())
}
