//! The client that uploads in every way HTTP/1.1 knows, each followed by a pipeline of questions.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use crate::noise::Noise;
use crate::store::hash_body;

/// How many questions follow an upload without waiting.
const PIPELINED: u64 = 4;

/// The largest chunk, in bytes.
const CHUNK_BYTES: u64 = 20_000;

/// How a body is told from what follows it.
#[derive(Clone, Copy, Debug)]
enum Framing {
    /// By its length, which is known before.
    Length,
    /// In chunks.
    Chunks,
    /// In chunks with extensions, and with trailers behind.
    Trailers,
    /// By its length, after the server has said that it wants it.
    Expected,
    /// In chunks, after the server has said that it wants them.
    ExpectedChunks,
}

impl Framing {
    const ALL: [Self; 5] = [
        Self::Length,
        Self::Chunks,
        Self::Trailers,
        Self::Expected,
        Self::ExpectedChunks,
    ];

    fn is_expected(self) -> bool {
        matches!(self, Self::Expected | Self::ExpectedChunks)
    }

    fn headers(self, bytes: usize) -> String {
        let framing = match self {
            Self::Length | Self::Expected => format!("Content-Length: {bytes}\r\n"),
            Self::Chunks | Self::ExpectedChunks => "transfer-encoding:chunked\r\n".to_owned(),
            Self::Trailers => "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        };
        let expect = if self.is_expected() {
            "Expect: 100-continue\r\n"
        } else {
            ""
        };
        framing + expect
    }

    /// The body as it is sent.
    fn encode(self, body: &[u8], noise: &mut Noise) -> Vec<u8> {
        let (extension, trailer) = match self {
            Self::Length | Self::Expected => return body.to_vec(),
            Self::Chunks | Self::ExpectedChunks => ("", ""),
            Self::Trailers => (";name=\"va\\\"lue; 5\"", "X-Sum: 17\r\n"),
        };
        let mut encoded = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(noise.size(CHUNK_BYTES).min(rest.len()));
            encoded.extend(format!("{:x}{extension}\r\n", chunk.len()).into_bytes());
            encoded.extend(chunk);
            encoded.extend(b"\r\n");
            rest = behind;
        }
        encoded.extend(format!("0{extension}\r\n{trailer}\r\n").into_bytes());
        encoded
    }
}

/// Runs all uploads; an error when one was not received as it was sent.
pub(crate) fn run(
    server: SocketAddr,
    bodies: u64,
    max_bytes: u64,
    connections: u64,
) -> io::Result<()> {
    let upload = |connection: u64| {
        let ids = (connection..bodies).step_by(usize::try_from(connections).unwrap_or(1));
        thread::spawn(move || upload_all(server, ids, max_bytes))
    };
    let workers: Vec<_> = (0..connections).map(upload).collect();
    workers.into_iter().try_for_each(|worker| {
        let panicked = |_| Err(io::Error::other("a connection panicked"));
        worker.join().unwrap_or_else(panicked)
    })
}

fn upload_all(
    server: SocketAddr,
    ids: impl Iterator<Item = u64>,
    max_bytes: u64,
) -> io::Result<()> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    for id in ids {
        let mut noise = Noise::new(id);
        let count = noise.size(max_bytes);
        let body = noise.bytes(count);
        let framing = Framing::ALL[(noise.next() % 5) as usize];
        upload(&mut reader, id, &body, framing, &mut noise)?;
        ask(&mut reader, id)?;
    }
    Ok(())
}

fn upload(
    reader: &mut BufReader<TcpStream>,
    id: u64,
    body: &[u8],
    framing: Framing,
    noise: &mut Noise,
) -> io::Result<()> {
    let headers = framing.headers(body.len());
    let head = format!("PUT /up/{id} HTTP/1.1\r\nHost: lab\r\n{headers}\r\n");
    reader.get_mut().write_all(head.as_bytes())?;
    if framing.is_expected() {
        let (status, _) = read_head(reader)?;
        check(
            status == 100,
            "the server does not say that it wants the body",
        )?;
    }
    reader.get_mut().write_all(&framing.encode(body, noise))?;
    let mut whole = body;
    let sent = hash_body(&mut whole, body.len() as u64)?;
    let answer = read_answer(reader)?;
    check(
        answer == sent.as_bytes(),
        "the origin received another body than was sent",
    )
}

/// Asks several things at once.
fn ask(reader: &mut BufReader<TcpStream>, id: u64) -> io::Result<()> {
    let path = |number| format!("/r/up/{id}/{number}");
    let question = |number| format!("GET {} HTTP/1.1\r\nHost: lab\r\n\r\n", path(number));
    let questions: String = (0..PIPELINED).map(question).collect();
    reader.get_mut().write_all(questions.as_bytes())?;
    for number in 0..PIPELINED {
        let answer = read_answer(reader)?;
        check(
            answer == format!("{}\n", path(number)).as_bytes(),
            "the origin answers another question",
        )?;
    }
    Ok(())
}

fn read_answer(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let (status, bytes) = read_head(reader)?;
    check(status == 200, "the origin refuses")?;
    let mut answer = vec![0; bytes];
    reader.read_exact(&mut answer)?;
    Ok(answer)
}

/// Reads the head of an answer: its status and the length of its body.
fn read_head(reader: &mut impl BufRead) -> io::Result<(u16, usize)> {
    let (mut status, mut bytes) = (None, 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim();
        if status.is_none() {
            status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            bytes = value.parse().map_err(io::Error::other)?;
        }
        if line.is_empty() {
            let status = status.ok_or_else(|| io::Error::other("an answer without a status"))?;
            return Ok((status, bytes));
        }
    }
}

fn check(holds: bool, otherwise: &str) -> io::Result<()> {
    if holds {
        Ok(())
    } else {
        Err(io::Error::other(otherwise))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_have_extensions_and_trailers() {
        let encoded = Framing::Trailers.encode(b"abc", &mut Noise::new(1));
        let text = String::from_utf8(encoded).unwrap();
        assert!(
            text.starts_with("3;name=\"va\\\"lue; 5\"\r\nabc\r\n0;"),
            "{text}"
        );
        assert!(text.ends_with("\r\nX-Sum: 17\r\n\r\n"), "{text}");
        assert_eq!(Framing::Length.encode(b"abc", &mut Noise::new(1)), b"abc");
    }
}
