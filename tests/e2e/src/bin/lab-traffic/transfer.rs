//! The client that uploads and downloads, several connections at once.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use crate::noise::Noise;
use crate::store::hash_body;

/// Runs all transfers; an error when one of them did not bring what it should.
pub(crate) fn run(
    server: SocketAddr,
    bodies: u64,
    max_bytes: u64,
    connections: u64,
) -> io::Result<()> {
    let workers: Vec<_> = (0..connections)
        .map(|worker| {
            thread::spawn(move || {
                let ids = (worker..bodies).step_by(usize::try_from(connections).unwrap_or(1));
                transfer(server, ids, max_bytes)
            })
        })
        .collect();
    workers.into_iter().try_for_each(|worker| {
        worker
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a connection panicked")))
    })
}

fn transfer(server: SocketAddr, ids: impl Iterator<Item = u64>, max_bytes: u64) -> io::Result<()> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    for id in ids {
        let mut noise = Noise::new(id);
        let body = {
            let count = noise.size(max_bytes);
            noise.bytes(count)
        };
        let sent = hash_body(&mut body.as_slice(), body.len() as u64)?;
        let head = format!(
            "PUT /up/{id} HTTP/1.1\r\nHost: lab\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        reader.get_mut().write_all(head.as_bytes())?;
        reader.get_mut().write_all(&body)?;
        let mut answer = vec![0; read_head(&mut reader)?];
        reader.read_exact(&mut answer)?;
        check(
            answer == sent.as_bytes(),
            "the origin received another body than was sent",
        )?;

        let count = noise.size(max_bytes);
        let head = format!("GET /down/{id}/{count} HTTP/1.1\r\nHost: lab\r\n\r\n");
        reader.get_mut().write_all(head.as_bytes())?;
        let announced = read_head(&mut reader)?;
        check(
            announced == count,
            "the origin announced another length than was asked for",
        )?;
        let mut answer = vec![0; count];
        reader.read_exact(&mut answer)?;
        check(
            answer == Noise::new(id).bytes(count),
            "the client received another body",
        )?;
    }
    Ok(())
}

/// Reads the head of an answer and returns the length of the body.
fn read_head(reader: &mut impl BufRead) -> io::Result<usize> {
    let mut bytes = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(value) = line.trim().strip_prefix("Content-Length: ") {
            bytes = value.parse().ok();
        }
        if line.trim().is_empty() {
            return bytes.ok_or_else(|| io::Error::other("an answer without a length"));
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
