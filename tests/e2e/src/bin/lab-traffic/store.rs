//! The HTTP server: `PUT /up/ID` and `GET /down/ID/BYTES`, with keep-alive.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use sha2::{Digest, Sha256};

use crate::journal::Journal;
use crate::listen::listen_on;
use crate::noise::Noise;

/// How much of a body is read at once, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

pub(crate) fn serve(port: u16, journal: &Path) -> io::Result<()> {
    let journal = Arc::new(Journal::open(journal)?);
    let listener = listen_on(port)?;
    loop {
        let (stream, _) = listener.accept()?;
        let journal = Arc::clone(&journal);
        thread::spawn(move || {
            // A client that goes away in the middle shows as a missing line.
            let _ = serve_connection(stream, &journal);
        });
    }
}

fn serve_connection(stream: TcpStream, journal: &Journal) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, stream);
    while let Some((path, bytes)) = read_head(&mut reader)? {
        let mut words = path.trim_start_matches('/').split('/');
        match (words.next(), words.next(), words.next()) {
            (Some("up"), Some(id), None) => {
                let hash = hash_body(&mut reader, bytes)?;
                journal.line(&format!("up {id} {bytes} {hash}"))?;
                reader.get_mut().write_all(&head("200 OK", hash.len()))?;
                reader.get_mut().write_all(hash.as_bytes())?;
            }
            (Some("down"), Some(id), Some(count)) => {
                let (id, count) = (number(id)?, number(count)?);
                let body = Noise::new(id).bytes(usize::try_from(count).map_err(io::Error::other)?);
                reader.get_mut().write_all(&head("200 OK", body.len()))?;
                reader.get_mut().write_all(&body)?;
                journal.line(&format!("down {id} {count}"))?;
            }
            _ => reader.get_mut().write_all(&head("404 Not Found", 0))?,
        }
    }
    Ok(())
}

/// Reads a request up to its body and returns its path and the length of the body, or nothing
/// when the client has no more requests.
pub(crate) fn read_head(reader: &mut impl BufRead) -> io::Result<Option<(String, u64)>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut bytes = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let header = line.trim();
        if header.is_empty() {
            return Ok(Some((path, bytes)));
        }
        if let Some(value) = header.strip_prefix("Content-Length: ") {
            bytes = number(value)?;
        }
    }
}

pub(crate) fn hash_body(reader: &mut impl Read, bytes: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut body = reader.take(bytes);
    loop {
        match body.read(&mut chunk)? {
            0 if body.limit() > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&chunk[..count]),
        }
    }
}

pub(crate) fn head(status: &str, bytes: usize) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {bytes}\r\n\r\n").into_bytes()
}

fn number(text: &str) -> io::Result<u64> {
    text.trim()
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, text.to_owned()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}
