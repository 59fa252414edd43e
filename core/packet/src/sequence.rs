//! Sequence numbers and timestamps: 32-bit counters with modular order.
//!
//! Each sequence space has a type of its own, so that a number of the captured client can't be
//! compared with a number of the mirror. Order is only defined between numbers less than 2^31
//! apart (RFC 9293 section 3.4, RFC 7323 section 5.2 for timestamps), so there is no `Ord`: the
//! comparisons have names.

use std::ops::{Add, AddAssign};

/// What the sequence-number types have in common, for code that works on any of the spaces.
///
/// Order is that of the types themselves: defined between numbers less than 2^31 apart.
pub trait SequenceNumber:
    Copy + Eq + std::fmt::Debug + Add<u32, Output = Self> + AddAssign<u32>
{
    /// Wraps the number as it stands in a header, in host byte order.
    fn new(value: u32) -> Self;

    /// The number as it stands in a header, in host byte order.
    fn value(self) -> u32;

    /// How far `self` lies after `earlier`; negative when it lies before it.
    fn since(self, earlier: Self) -> i32;
}

macro_rules! sequence_numbers {
    ($($name:ident)+) => {
        $(impl SequenceNumber for $name {
            fn new(value: u32) -> Self {
                Self::new(value)
            }

            fn value(self) -> u32 {
                self.value()
            }

            fn since(self, earlier: Self) -> i32 {
                self.since(earlier)
            }
        })+
    };
}

macro_rules! modular_number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(u32);

        impl $name {
            /// Wraps the number as it stands in a header, in host byte order.
            #[must_use]
            pub const fn new(value: u32) -> Self {
                Self(value)
            }

            /// The number as it stands in a header, in host byte order.
            #[must_use]
            pub const fn value(self) -> u32 {
                self.0
            }

            /// How far `self` lies after `earlier`; negative when it lies before it.
            #[must_use]
            pub const fn since(self, earlier: Self) -> i32 {
                self.0.wrapping_sub(earlier.0).cast_signed()
            }

            /// Whether `self` lies strictly before `other`.
            #[must_use]
            pub const fn before(self, other: Self) -> bool {
                self.since(other) < 0
            }

            /// Whether `self` lies strictly after `other`.
            #[must_use]
            pub const fn after(self, other: Self) -> bool {
                self.since(other) > 0
            }

            /// Whether `self` equals `other` or lies before it.
            #[must_use]
            pub const fn at_or_before(self, other: Self) -> bool {
                !self.after(other)
            }

            /// Whether `self` equals `other` or lies after it.
            #[must_use]
            pub const fn at_or_after(self, other: Self) -> bool {
                !self.before(other)
            }

            /// The later of the two.
            #[must_use]
            pub const fn max(self, other: Self) -> Self {
                if self.after(other) { self } else { other }
            }

            /// The earlier of the two.
            #[must_use]
            pub const fn min(self, other: Self) -> Self {
                if self.before(other) { self } else { other }
            }
        }

        impl Add<u32> for $name {
            type Output = Self;

            fn add(self, count: u32) -> Self {
                Self(self.0.wrapping_add(count))
            }
        }

        impl AddAssign<u32> for $name {
            fn add_assign(&mut self, count: u32) {
                *self = *self + count;
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

modular_number! {
    /// A sequence number of the captured client, towards the origin.
    ClientSeq
}
modular_number! {
    /// A sequence number of the origin, towards the captured client.
    OriginSeq
}
modular_number! {
    /// A sequence number of the mirror TCP, towards the target.
    MirrorSeq
}
modular_number! {
    /// A sequence number of the target, towards the mirror TCP.
    TargetSeq
}
modular_number! {
    /// A value of the TCP timestamps option (RFC 7323 section 3).
    TcpTimestamp
}

sequence_numbers!(ClientSeq OriginSeq MirrorSeq TargetSeq);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let before = ClientSeq::new(u32::MAX - 9);
        let after = before + 20;
        assert_eq!(after.value(), 10);
        assert!(before.before(after) && after.after(before));
        assert_eq!(after.since(before), 20);
        assert_eq!(before.since(after), -20);
        assert_eq!(before.max(after), after);
        assert_eq!(before.min(after), before);
        assert!(before.at_or_before(before) && before.at_or_after(before));
    }
}
