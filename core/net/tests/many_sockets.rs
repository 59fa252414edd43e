//! Ten thousand connections at once. A process of its own, since it needs a table of descriptors
//! for each side.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use common::client::Client;
use nix::sched::{CloneFlags, unshare};

const CONNECTIONS: u64 = 10_000;

/// Answers each of the connections once, then waits for their ends.
fn serve(listener: &TcpListener) {
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| listener.accept().unwrap().0)
        .collect();
    for stream in &mut streams {
        let mut token = [0; 8];
        stream.read_exact(&mut token).unwrap();
        stream.write_all(&token).unwrap();
    }
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    }
}

#[test]
fn ten_thousand_at_once() {
    let limit = tcpcopy_net::descriptors::raise_limit().unwrap();
    assert!(limit.before <= limit.now);
    assert!(limit.now > CONNECTIONS + 100, "{limit:?}");
    let (told, target) = mpsc::channel();
    let server = thread::spawn(move || {
        // From here on the two threads count their descriptors apart.
        unshare(CloneFlags::CLONE_FILES).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Room for those that are not accepted yet: the kernel drops the SYNs of more.
        rustix::net::listen(&listener, 4096).unwrap();
        told.send(listener.local_addr().unwrap()).unwrap();
        serve(&listener);
    });
    let target = target.recv().unwrap();
    let mut client = Client::new();
    client.limit = 1000;
    for token in 0..CONNECTIONS {
        client.connect(token, target);
        if token % 64 == 0 {
            client.until(token, |account| account.story.contains(&"connected"));
        }
    }
    client.until_all(|client| {
        client
            .accounts
            .values()
            .all(|account| !account.story.is_empty())
    });
    assert_eq!(client.sockets.len() as u64, CONNECTIONS);
    for token in 0..CONNECTIONS {
        assert_eq!(client.sockets.send(token, &token.to_le_bytes()), 8);
    }
    client.until_all(|client| {
        let mut accounts = client.accounts.values();
        accounts.all(|account| account.received.len() == 8)
    });
    for token in 0..CONNECTIONS {
        let account = client.of(token);
        assert_eq!(account.received, token.to_le_bytes());
        assert_eq!((account.failure, account.ends), (None, 0));
        client.sockets.finish(token);
    }
    client.until_all(|client| client.accounts.values().all(|account| account.ends == 1));
    server.join().unwrap();
    (0..CONNECTIONS).for_each(|token| client.sockets.release(token));
    assert!(client.sockets.is_empty());
}
