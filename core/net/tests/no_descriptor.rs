//! A process that has no file descriptor left: one of its own, since the limit is the process's.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::fs::File;
use std::net::TcpListener;

use common::client::Client;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tcpcopy_net::descriptors::raise_limit;
use tcpcopy_net::sockets::SocketFailure;

#[test]
fn no_descriptor_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    let mut client = Client::new();
    client.connect(0, target);
    let hard = getrlimit(Resource::Nofile).maximum;
    let few = Rlimit {
        current: Some(64),
        maximum: hard,
    };
    setrlimit(Resource::Nofile, few).unwrap();
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    assert_eq!(client.failure_of(1, target), SocketFailure::NoDescriptor);
    // Nothing else has changed, and with room there is a connection again.
    client.until(0, |account| account.story.contains(&"connected"));
    files.pop();
    client.connect(1, target);
    let limit = raise_limit().unwrap();
    assert_eq!((limit.before, limit.now), (64, hard.unwrap_or(u64::MAX)));
    assert_eq!(getrlimit(Resource::Nofile).current, hard);
    client.connect(2, target);
}
