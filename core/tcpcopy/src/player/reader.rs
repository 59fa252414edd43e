//! The reader's thread: from files to IP packets with the time at which each is due.

use std::sync::{Arc, OnceLock};

use tcpcopy_net::file::{FileCounters, FileFrame, MergedFiles, OpenInput};
use tcpcopy_packet::strip_link_header;

use super::queue::{Entry, PacketHead, Queue, ReadCounters};
use super::schedule::{Schedule, TimePoint};
use super::{Choice, link_of};

/// Reads all rounds.
#[derive(Debug)]
pub(super) struct Reader {
    inputs: Vec<OpenInput>,
    /// The round to be read, if it has been opened.
    opened: Option<MergedFiles>,
    schedule: Schedule,
    choice: Choice,
    counters: ReadCounters,
    /// When the first frame of the files was captured, in nanoseconds since the Unix epoch, for all
    /// to know.
    begin_ns: Arc<OnceLock<u64>>,
}

/// The time of one round.
#[derive(Debug, Default)]
struct Clock {
    /// When the first frame of the files was captured.
    begin_ns: Option<u64>,
    /// When the last packet that counts was captured.
    last_ns: Option<u64>,
    /// When it was due.
    due_ns: u64,
}

/// What a frame comes to.
enum Found<'a> {
    /// A packet to hand out.
    Packet(PacketHead, &'a [u8]),
    /// Something counted.
    Nothing,
    /// Nothing more of this round is wanted.
    Over,
}

impl Reader {
    pub(super) fn new(
        inputs: Vec<OpenInput>,
        first: MergedFiles,
        schedule: Schedule,
        choice: Choice,
    ) -> Self {
        Self {
            inputs,
            opened: Some(first),
            schedule,
            choice,
            counters: ReadCounters::default(),
            begin_ns: Arc::default(),
        }
    }

    /// When the first frame of the files was captured, in nanoseconds since the Unix epoch, once it
    /// has been read.
    pub(super) fn begin_ns(&self) -> Arc<OnceLock<u64>> {
        Arc::clone(&self.begin_ns)
    }

    /// Reads everything, as fast as the queue takes it.
    pub(super) fn run(mut self, queue: &Queue) {
        /// Tells the player even if this thread panics.
        struct End<'q>(&'q Queue);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.end();
            }
        }
        let _end = End(queue);
        for _ in 0..self.schedule.rounds {
            if !self.read_round(queue) {
                return;
            }
        }
    }

    /// Reads one round; false when nobody wants more.
    fn read_round(&mut self, queue: &Queue) -> bool {
        let opened = match self.opened.take() {
            Some(first) => Ok(first),
            None => MergedFiles::read(&self.inputs),
        };
        let mut files = match opened {
            Ok(files) => files,
            Err(error) => {
                let entry = Entry::Failed(Box::new(error));
                return queue.push(entry, &[], &self.counters) && self.end_round(queue, None);
            }
        };
        let mut clock = Clock::default();
        let mut position = 0;
        loop {
            let goes_on = match files.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => match self.look_at(&frame, &mut clock, position) {
                    Found::Packet(head, packet) => {
                        queue.push(Entry::Packet(head), packet, &self.counters)
                    }
                    Found::Nothing => true,
                    Found::Over => break,
                },
                Err(error) => {
                    let entry = Entry::Failed(Box::new(error));
                    queue.push(entry, &[], &self.counters)
                }
            };
            if !goes_on {
                return false;
            }
            position = files.position();
        }
        self.end_round(queue, Some(files.counters()))
    }

    fn end_round(&mut self, queue: &Queue, files: Option<FileCounters>) -> bool {
        if let Some(files) = files {
            self.counters.files.add(&files);
        }
        let lengths = self.inputs.iter().filter_map(OpenInput::len_bytes);
        let position = lengths.sum();
        queue.push(Entry::EndOfRound { position }, &[], &self.counters)
    }

    fn look_at<'f>(
        &mut self,
        frame: &FileFrame<'f>,
        clock: &mut Clock,
        position: u64,
    ) -> Found<'f> {
        let begin_ns = *clock.begin_ns.get_or_insert(frame.time_ns);
        self.begin_ns.get_or_init(|| begin_ns);
        let is_before = |point: &Option<TimePoint>| {
            point.is_some_and(|point| frame.time_ns < point.at_ns(begin_ns))
        };
        if is_before(&self.schedule.from) {
            self.counters.before_window += 1;
            return Found::Nothing;
        }
        let until = self.schedule.until;
        if until.is_some_and(|until| frame.time_ns > until.at_ns(begin_ns)) {
            return Found::Over;
        }
        let Some(link) = link_of(frame.link_type) else {
            self.counters.unknown_link += 1;
            self.counters
                .first_unknown_link
                .get_or_insert(frame.link_type);
            return Found::Nothing;
        };
        let Ok(packet) = strip_link_header(link, frame.frame) else {
            self.counters.not_ip += 1;
            return Found::Nothing;
        };
        let filter = self.choice.filter.as_ref();
        if filter.is_some_and(|filter| !filter.matches(packet)) {
            self.counters.filtered_out += 1;
            return Found::Nothing;
        }
        self.counters.idle_cut_ns += clock.advance(frame.time_ns, &self.schedule);
        let is_others = |(map, shard): &(_, u16)| {
            let map: &tcpcopy_net::shard::ShardMap = map;
            map.shard_of_packet(packet) != *shard
        };
        if self.choice.share.as_ref().is_some_and(is_others) {
            self.counters.of_other_shards += 1;
            return Found::Nothing;
        }
        self.counters.packets += 1;
        self.counters.cut_short += u64::from(frame.is_cut_short());
        let length = u32::try_from(packet.len()).expect("a frame is shorter than 4 GiB");
        let head = PacketHead {
            length,
            due_ns: clock.due_ns,
            captured_ns: frame.time_ns - begin_ns,
            position,
        };
        Found::Packet(head, packet)
    }
}

impl Clock {
    /// Goes on to a packet captured at this time; the answer is what was left out of the gap before
    /// it.
    fn advance(&mut self, time_ns: u64, schedule: &Schedule) -> u64 {
        let gap_ns = time_ns - self.last_ns.unwrap_or(time_ns);
        self.last_ns = Some(time_ns);
        let longest = schedule.idle_cut.map_or(u64::MAX, |longest| {
            u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX)
        });
        self.due_ns += gap_ns.min(longest);
        gap_ns.saturating_sub(longest)
    }
}
