//! The scheduler's attributes of a thread.

use std::io;
use std::time::Duration;

use super::check;

/// The kernel's `struct sched_attr` in its first version, which every kernel since 3.14 knows.
#[repr(C)]
#[derive(Default)]
struct SchedulerAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// For an ordinary thread: its slice, in nanoseconds.
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets the slice of the calling thread, and leaves policy and niceness alone.
pub(crate) fn set_slice(slice: Duration) -> io::Result<()> {
    let mut attributes = SchedulerAttributes::default();
    let size = u32::try_from(size_of::<SchedulerAttributes>()).expect("a small structure");
    // SAFETY: the kernel writes at most `size` bytes, the structure's own, and keeps no pointer.
    let read = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    check(read as libc::c_int)?;
    attributes.size = size;
    attributes.runtime = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    // SAFETY: the kernel reads `attributes.size` bytes, the structure's own, and keeps no pointer.
    let written = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    check(written as libc::c_int)?;
    Ok(())
}
