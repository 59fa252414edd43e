//! What the server does for one connection: read, apply, answer, close.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use intercept_lib::LogGate;
use intercept_lib::table::LinkId;
use intercept_lib::tunnel::{Hello, RefuseCode, ServerEvent, ServerLink, Unregistration};
use rustix::event::epoll;

use super::{Connection, Server};
use crate::shared::Link;

/// Links at most.
const MAX_LINKS: usize = 256;
/// Reads from a connection before others have their turn.
const READS_PER_TURN: usize = 16;
/// Lines about links that come or go, each kind, in a minute.
const LINK_LINES: u32 = 32;

impl Server {
    /// Reads and writes what a connection is ready for.
    pub(super) fn serve(&mut self, token: u64) {
        let Some(connection) = self.connections.get(&token) else {
            return;
        };
        let link = Arc::clone(&connection.link);
        let mut ended = None;
        let mut emptied = false;
        for _ in 0..READS_PER_TURN {
            let now = Instant::now();
            let len = match (&link.socket).read(&mut self.buffer) {
                Ok(0) => {
                    ended = Some("closed by the peer".to_owned());
                    break;
                }
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    emptied = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    ended = Some(error.to_string());
                    break;
                }
            };
            let mut protocol = link.protocol();
            protocol.receive(now, &self.buffer[..len]);
            while let Some(event) = protocol.poll_event() {
                self.events.push(event);
            }
            self.apply(now, token, &link, &mut protocol);
            if protocol.closed().is_some() {
                break;
            }
        }
        if !emptied && ended.is_none() {
            self.unfinished.insert(token);
        }
        if let Err(error) = link.flush(&mut link.protocol()) {
            ended.get_or_insert(error.to_string());
        }
        self.close_if_over(token, ended);
    }

    /// Does what the peer asked for: table first, then journal, then answers.
    fn apply(&mut self, now: Instant, token: u64, link: &Arc<Link>, protocol: &mut ServerLink) {
        if self.events.is_empty() {
            return;
        }
        let events = std::mem::take(&mut self.events);
        for event in &events {
            if let ServerEvent::Hello(hello) = event {
                self.greet(now, token, link, protocol, hello);
            }
        }
        let id = self
            .connections
            .get(&token)
            .and_then(|connection| connection.id);
        let mut answers = id.map_or_else(Vec::new, |id| self.apply_to_table(now, id, &events));
        if !self.write_journal(now)
            && let Some(id) = id
        {
            // What is confirmed must survive a crash, and these would not.
            self.take_back(now, id, &events);
            answers = vec![(false, answers.iter().map(|(_, count)| count).sum())];
        }
        for (confirmed, count) in answers {
            if confirmed {
                protocol.confirm(count);
            } else {
                protocol.conflict(count);
            }
        }
        self.diagnose(now, token, protocol, &events);
        self.send_resets();
        self.events = events;
        self.events.clear();
    }

    /// Returns, for each run of equal answers to registrations, whether they are confirmed and how
    /// many they are.
    fn apply_to_table(
        &mut self,
        now: Instant,
        id: LinkId,
        events: &[ServerEvent],
    ) -> Vec<(bool, u32)> {
        let mut answers: Vec<(bool, u32)> = Vec::new();
        let mut table = self.shared.table();
        for event in events {
            match event {
                ServerEvent::Hello(_) | ServerEvent::Diagnose(_) => {}
                ServerEvent::Register(entry) => {
                    let confirmed = table.register(id, entry).is_ok();
                    match answers.last_mut() {
                        Some((last, count)) if *last == confirmed => *count += 1,
                        _ => answers.push((confirmed, 1)),
                    }
                }
                ServerEvent::Unregister(entry) => table.unregister(now, id, entry),
                ServerEvent::Bye => table.link_bye(now, id, &mut self.resets),
            }
        }
        table.take_journal(&mut self.records);
        answers
    }

    /// Answers the last question about a probe. A peer asks one at a time; one that does not must
    /// not keep the others waiting.
    fn diagnose(
        &mut self,
        now: Instant,
        token: u64,
        protocol: &mut ServerLink,
        events: &[ServerEvent],
    ) {
        let last = events.iter().rev().find_map(|event| match event {
            ServerEvent::Diagnose(probe) => Some(probe),
            ServerEvent::Hello(_)
            | ServerEvent::Register(_)
            | ServerEvent::Unregister(_)
            | ServerEvent::Bye => None,
        });
        if let Some(probe) = last {
            let diagnosis = self.diagnostician.diagnose(now, token, probe, &self.shared);
            protocol.diagnosis(&diagnosis);
        }
    }

    /// Ends the sessions that were registered, for the peer will not hear of them.
    fn take_back(&self, now: Instant, id: LinkId, events: &[ServerEvent]) {
        let mut table = self.shared.table();
        for event in events {
            if let ServerEvent::Register(entry) = event {
                let entry = Unregistration {
                    session: entry.session,
                    tuple: entry.tuple,
                };
                table.unregister(now, id, &entry);
            }
        }
    }

    fn greet(
        &mut self,
        now: Instant,
        token: u64,
        link: &Arc<Link>,
        protocol: &mut ServerLink,
        hello: &Hello,
    ) {
        let links = self
            .connections
            .values()
            .filter(|connection| connection.id.is_some())
            .count();
        if links >= MAX_LINKS {
            let text = format!("intercept has {MAX_LINKS} links already");
            return protocol.refuse(RefuseCode::TooManyLinks, &text);
        }
        protocol.accept(hello.features);
        link.grant(protocol.features());
        let (id, replaced) = self
            .shared
            .table()
            .link_up(now, hello.instance, hello.shard);
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.id = Some(id);
        }
        self.shared.links.insert(id, Arc::clone(link));
        if let Some(held_back) = self.link_gate("link up", now) {
            tracing::info!(peer = %link.peer, name = hello.name, shard = hello.shard, held_back,
                "link up");
        }
        let old = replaced.and_then(|replaced| {
            self.connections
                .iter()
                .find(|(_, connection)| connection.id == Some(replaced))
        });
        if let Some((&old, _)) = old {
            self.close(old);
        }
    }

    /// Closes a connection if its protocol says so, or for `ended`, and says why.
    pub(super) fn close_if_over(&mut self, token: u64, ended: Option<String>) {
        let Some(connection) = self.connections.get(&token) else {
            return;
        };
        let (link, was_up) = (Arc::clone(&connection.link), connection.id.is_some());
        let closed = link.protocol().closed();
        let (kind, text) = match (closed, ended) {
            (None, None) => return,
            (Some(reason), _) => (reason.kind(), reason.to_string()),
            (None, Some(text)) => ("ended", text),
        };
        self.close(token);
        if was_up {
            if let Some(held_back) = self.link_gate("link down", Instant::now()) {
                tracing::info!(peer = %link.peer, reason = text, held_back, "link down");
            }
        } else {
            self.complain(kind, link.peer, &text);
        }
    }

    pub(super) fn close(&mut self, token: u64) {
        let Some(Connection { link, id }) = self.connections.remove(&token) else {
            return;
        };
        // Packet threads may hold the link for a while, so dropping it does not close it.
        let _ = epoll::delete(&self.epoll, &link.socket);
        let _ = link.socket.shutdown(std::net::Shutdown::Both);
        self.diagnostician.forget(token);
        if let Some(id) = id {
            self.shared.links.remove(id);
            self.shared.table().link_down(Instant::now(), id);
        }
    }

    fn link_gate(&mut self, kind: &'static str, now: Instant) -> Option<u64> {
        let gate = self.gates.entry(kind);
        gate.or_insert_with(|| LogGate::allowing(LINK_LINES))
            .pass(now)
    }
}
