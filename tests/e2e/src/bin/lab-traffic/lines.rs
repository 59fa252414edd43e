//! A protocol of lines: every line is a request, and is answered by one line.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use crate::journal::Journal;
use crate::listen::listen_on;
use crate::noise::Noise;

/// The longest request, in bytes: several segments.
const LONGEST_REQUEST: u64 = 6_000;
/// The longest answer, in bytes.
const LONGEST_ANSWER: u64 = 30_000;
/// Most requests that a client sends without waiting.
const PIPELINED: u64 = 5;

/// Answers lines; writes down all lines of each connection that has ended, with `|` for their ends.
pub(crate) fn serve(port: u16, journal: &Path) -> io::Result<()> {
    let listener = listen_on(port)?;
    let journal = Arc::new(Journal::open(journal)?);
    loop {
        let (stream, _) = listener.accept()?;
        let journal = Arc::clone(&journal);
        thread::spawn(move || {
            let mut heard = String::new();
            // What was heard before a connection broke counts as well.
            let end = answer(stream, &mut heard);
            let mark = if end.is_ok() { "" } else { "(broken)" };
            journal.line(&format!("{heard}{mark}"))
        });
    }
}

fn answer(stream: TcpStream, heard: &mut String) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut to_client = stream.try_clone()?;
    let mut line = String::new();
    let mut requests = BufReader::new(stream);
    while requests.read_line(&mut line)? > 0 {
        let request = line.trim_end_matches('\n');
        heard.push_str(request);
        heard.push('|');
        // Of a length that follows from the request, so that origin and target answer alike.
        let seed = request.bytes().map(u64::from).sum::<u64>() + request.len() as u64;
        let length = Noise::new(seed).size(LONGEST_ANSWER);
        let mut answer = "ok ".repeat(length / 3);
        answer.push('\n');
        to_client.write_all(answer.as_bytes())?;
        line.clear();
    }
    Ok(())
}

/// Asks so many lines on each of so many connections at once, some of them without waiting.
pub(crate) fn ask(server: SocketAddr, connections: u64, lines: u64) -> io::Result<()> {
    let clients: Vec<_> = (0..connections)
        .map(|number| thread::spawn(move || ask_on_one(server, number, lines)))
        .collect();
    for client in clients {
        client.join().expect("a client does not panic")?;
    }
    Ok(())
}

fn ask_on_one(server: SocketAddr, number: u64, lines: u64) -> io::Result<()> {
    let mut noise = Noise::new(number);
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let mut asked = 0;
    while asked < lines {
        let at_once = (1 + noise.next() % PIPELINED).min(lines - asked);
        let mut requests = String::new();
        for _ in 0..at_once {
            let length = noise.size(LONGEST_REQUEST);
            requests.push_str(&format!("client {number} line {asked} "));
            requests.push_str(&"abcdefgh".repeat(length / 8));
            requests.push('\n');
            asked += 1;
        }
        stream.write_all(requests.as_bytes())?;
        for _ in 0..at_once {
            let mut answer = String::new();
            if answers.read_line(&mut answer)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}
