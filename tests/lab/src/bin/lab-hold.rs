//! Makes a lab with running servers and holds it until it is told how to end: the test subject
//! of the promise that a lab leaves nothing behind.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, BufRead, Write};

use tcpcopy_lab::{Lab, Nginx, NginxConfig, PacketWatch};

fn main() -> Result<(), Box<dyn Error>> {
    let lab = Lab::new()?;
    let mut nginx = Nginx::start(lab.host("origin"), &NginxConfig::default())?;
    let _watch = PacketWatch::from_sender(lab.host("client"), lab.host("target"))?;
    let mut sleeper = lab.host("target").command("sleep").arg("1000").spawn()?;
    let mut stdout = io::stdout().lock();
    // A process that has an id has entered its host's namespace.
    let processes = (nginx.process().pid()?, sleeper.pid()?);
    writeln!(stdout, "{} {processes:?}", lab.init_pid())?;
    stdout.flush()?;
    let mut order = String::new();
    io::stdin().lock().read_line(&mut order)?;
    match order.trim() {
        "panic" => panic!("told to"),
        // Skips every destructor, as an abort would.
        "exit" => std::process::exit(0),
        _ => drop(sleeper),
    }
    Ok(())
}
