//! Which client bytes have reached the target, where a plugin stands between: they count as
//! delivered when the output that followed them does.

use std::collections::VecDeque;

/// The account of one session's client bytes. Outputs are offsets in what is sent to the target.
#[derive(Debug, Default)]
pub(super) struct Intake {
    taken: u64,
    delivered: u64,
    /// Bytes that no output has followed yet.
    unfollowed: u64,
    marks: VecDeque<Mark>,
}

/// So many client bytes are delivered when the target has everything before this offset.
#[derive(Clone, Copy, Debug)]
struct Mark {
    output: u64,
    bytes: u64,
}

impl Intake {
    /// Client bytes taken in.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Those that are delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Those that are not.
    pub(super) fn pending(&self) -> u64 {
        self.taken - self.delivered
    }

    /// So many bytes come from the client.
    pub(super) fn take(&mut self, bytes: u64) {
        self.taken += bytes;
        self.unfollowed += bytes;
    }

    /// The output ends here now.
    pub(super) fn follow(&mut self, output: u64) {
        let bytes = std::mem::take(&mut self.unfollowed);
        match self.marks.back_mut() {
            _ if bytes == 0 => {}
            Some(last) if last.output == output => last.bytes += bytes,
            _ => self.marks.push_back(Mark { output, bytes }),
        }
    }

    /// The target has everything before this offset. Returns how many client bytes are newly
    /// delivered.
    pub(super) fn deliver(&mut self, output: u64) -> u64 {
        let mut newly = 0;
        while let Some(first) = self.marks.front()
            && first.output <= output
        {
            newly += first.bytes;
            self.marks.pop_front();
        }
        if self.marks.is_empty() && self.marks.capacity() > 0 {
            self.marks = VecDeque::new();
        }
        self.delivered += newly;
        newly
    }

    /// So many bytes of output were put in at `from`.
    pub(super) fn shift(&mut self, from: u64, bytes: u64) {
        let later = self.marks.iter_mut().rev();
        later
            .take_while(|mark| mark.output > from)
            .for_each(|mark| mark.output += bytes);
    }

    /// The output from `from` on is no more. Takes out the client bytes that it would have
    /// delivered, and those that nothing has followed; returns how many.
    pub(super) fn take_back(&mut self, from: u64) -> u64 {
        let mut bytes = std::mem::take(&mut self.unfollowed);
        while let Some(last) = self.marks.back()
            && last.output > from
        {
            bytes += last.bytes;
            self.marks.pop_back();
        }
        self.taken -= bytes;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_delivered_with_the_output_that_followed_them() {
        let mut intake = Intake::default();
        intake.take(10);
        intake.take(5);
        assert_eq!(intake.deliver(100), 0, "nothing followed");
        intake.follow(4);
        intake.take(1);
        intake.follow(4);
        intake.take(7);
        intake.follow(8);
        intake.take(2);
        assert_eq!(intake.deliver(3), 0);
        assert_eq!(intake.deliver(4), 16);
        assert_eq!(
            (intake.taken(), intake.delivered(), intake.pending()),
            (25, 16, 9)
        );
        intake.shift(4, 3);
        assert_eq!(intake.deliver(8), 0);
        assert_eq!(intake.deliver(11), 7);
        assert_eq!(intake.pending(), 2);
    }

    #[test]
    fn output_taken_back_takes_its_bytes_with_it() {
        let mut intake = Intake::default();
        for output in [10, 20, 30] {
            intake.take(3);
            intake.follow(output);
        }
        intake.take(1);
        assert_eq!(intake.take_back(10), 7);
        assert_eq!((intake.taken(), intake.pending()), (3, 3));
        assert_eq!(intake.deliver(10), 3);
    }
}
