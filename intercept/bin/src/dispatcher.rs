//! From packets to verdicts and reply records: what every packet thread does with a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use intercept_lib::TargetSegment;
use intercept_lib::table::{Judgement, LinkId, Reset, SessionTable, Verdict};
use intercept_lib::tunnel::{Features, ReplyBatch};

use crate::shared::{Link, Shared};

/// Reply records of one batch for one link.
#[derive(Debug)]
struct Outgoing {
    id: LinkId,
    /// `None` when the link is gone.
    link: Option<Arc<Link>>,
    payload: bool,
    records: ReplyBatch,
}

/// One packet thread's way to the shared state.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    shared: Arc<Shared>,
    outgoing: Vec<Outgoing>,
    generation: u64,
    resets: Vec<Reset>,
    verdicts: Vec<Verdict>,
    unreadable: u64,
    passed: u64,
}

impl Dispatcher {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            generation: shared.links.generation(),
            shared,
            outgoing: Vec::new(),
            resets: Vec::new(),
            verdicts: Vec::new(),
            unreadable: 0,
            passed: 0,
        }
    }

    /// Judges a batch of packets, each from its IP header on with its length on the wire. The
    /// verdicts are in the order of the packets; reply records wait for [`Self::deliver`].
    pub(crate) fn judge<'p>(
        &mut self,
        packets: impl Iterator<Item = (&'p [u8], usize)>,
    ) -> &[Verdict] {
        let shared = Arc::clone(&self.shared);
        let generation = shared.links.generation();
        if generation != self.generation {
            self.generation = generation;
            self.outgoing.clear();
        }
        self.verdicts.clear();
        let now = Instant::now();
        let mut table = shared.table();
        for (packet, wire_len) in packets {
            let verdict = self.judge_one(now, &mut table, packet, wire_len);
            self.verdicts.push(verdict);
        }
        &self.verdicts
    }

    /// Sends reply records and resets of the last batch.
    pub(crate) fn deliver(&mut self) {
        let counters = &self.shared.counters;
        let (mut reported, mut unreported) = (0, 0);
        for outgoing in &mut self.outgoing {
            let count = outgoing.records.count();
            if count == 0 {
                continue;
            }
            let dropped = match &outgoing.link {
                None => count,
                Some(link) => {
                    let mut protocol = link.protocol();
                    let dropped = protocol.send_replies(&outgoing.records);
                    // A broken connection is the server's to close: it hears of it too.
                    let _ = link.flush(&mut protocol);
                    dropped
                }
            };
            reported += count - dropped;
            unreported += dropped;
            outgoing.records.clear();
        }
        self.shared.resetter.send(&self.resets);
        self.resets.clear();
        for (counter, count) in [
            (&counters.reported, reported),
            (&counters.unreported, unreported),
            (&counters.unreadable, std::mem::take(&mut self.unreadable)),
            (&counters.passed, std::mem::take(&mut self.passed)),
        ] {
            add(counter, count);
        }
    }

    fn judge_one(
        &mut self,
        now: Instant,
        table: &mut SessionTable,
        packet: &[u8],
        wire_len: usize,
    ) -> Verdict {
        let Ok(segment) = TargetSegment::parse(packet, wire_len) else {
            self.unreadable += 1;
            return Verdict::Accept;
        };
        if self
            .shared
            .passlist
            .contains(&segment.tuple.destination.address)
        {
            self.passed += 1;
            return Verdict::Accept;
        }
        let judgement = table.judge(now, &segment);
        match judgement {
            Judgement::Foreign => {}
            Judgement::Late { reset } => self.resets.extend(reset),
            Judgement::Session { link, session } => {
                let outgoing = self.outgoing(link);
                let TargetSegment {
                    tcp,
                    payload,
                    payload_len,
                    ..
                } = segment;
                if outgoing.payload {
                    outgoing
                        .records
                        .push_with_payload(session, payload_len, tcp, payload);
                } else {
                    outgoing.records.push(session, payload_len, tcp);
                }
            }
        }
        judgement.verdict()
    }

    fn outgoing(&mut self, id: LinkId) -> &mut Outgoing {
        let index = self.outgoing.iter().position(|outgoing| outgoing.id == id);
        let index = index.unwrap_or_else(|| {
            let link = self.shared.links.get(id);
            let payload = link
                .as_ref()
                .is_some_and(|link| link.wants(Features::PAYLOAD));
            self.outgoing.push(Outgoing {
                id,
                link,
                payload,
                records: ReplyBatch::default(),
            });
            self.outgoing.len() - 1
        });
        &mut self.outgoing[index]
    }
}

fn add(counter: &AtomicU64, count: u64) {
    if count > 0 {
        counter.fetch_add(count, Relaxed);
    }
}
