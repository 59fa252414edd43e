//! An HTTP server that says yes to everything and writes down what each connection brought.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use sha2::{Digest, Sha256};

use crate::journal::Journal;
use crate::listen::listen_on;
use crate::store::{hash_body, head, hex, read_head};

pub(crate) fn serve(port: u16, journal: &Path) -> io::Result<()> {
    let journal = Arc::new(Journal::open(journal)?);
    let listener = listen_on(port)?;
    loop {
        let (stream, _) = listener.accept()?;
        let journal = Arc::clone(&journal);
        thread::spawn(move || record(stream, &journal));
    }
}

/// Answers until the client has no more, then writes down the hash and length of all it sent.
fn record(stream: TcpStream, journal: &Journal) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut answers = stream.try_clone()?;
    let mut requests = BufReader::new(Recorded {
        stream,
        hash: Sha256::new(),
        bytes: 0,
    });
    // A client may also end by a reset, or in the middle of a request: what came, came.
    let _ = answer_all(&mut requests, &mut answers);
    let Recorded { hash, bytes, .. } = requests.into_inner();
    journal.line(&format!("{} {bytes}", hex(&hash.finalize())))
}

fn answer_all(requests: &mut impl BufRead, answers: &mut impl Write) -> io::Result<()> {
    while let Some((_, bytes)) = read_head(requests)? {
        hash_body(requests, bytes)?;
        answers.write_all(&head("200 OK", 0))?;
    }
    Ok(())
}

/// A connection, and the hash of what was read from it.
struct Recorded {
    stream: TcpStream,
    hash: Sha256,
    bytes: usize,
}

impl Read for Recorded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bytes += count;
        Ok(count)
    }
}
