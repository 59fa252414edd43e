//! What the end-to-end tests share: a replay from real clients over a real origin to a real
//! target, and how much of everything a run makes.
//!
//! Each test has a lab of its own. How long a load lasts comes from one place, [`load_time`].

#![forbid(unsafe_code)]

mod clinic;
mod loss;
mod mysql;
mod plugins;
mod recording;
mod replay;
mod scale;
mod tell;
mod trace;

pub use clinic::{Clinic, Verdict};
pub use loss::lose;
pub use mysql::{MysqlReplay, MysqlUser, method, plugin_counter};
pub use plugins::{Form, plug, plugin};
pub use recording::{Recording, Replayed, assert_unprivileged};
pub use replay::{Replay, assert_alike, assert_same_conversations, programs};
pub use scale::{is_full, load_time, scaled};
pub use tell::tell;
pub use trace::{SendTimes, Trace, deviations};
