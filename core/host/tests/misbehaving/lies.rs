//! A plugin that breaks the contract while it runs.

use plugin_api::Config;
use tcpcopy_engine::plugin::Failure;
use tcpcopy_host::{Host, Limits, Step};

use crate::bed::{Bed, FORMS};
use crate::common::load;

fn liar(form: &str, lie: &str) -> Bed {
    let config = Config::new().with("lie", lie);
    Bed::new(&format!("lies/none.{form}"), config, Limits::default())
}

#[test]
fn one_that_tells_no_lie_works() {
    for form in FORMS {
        let mut bed = liar(form, "none");
        bed.open(1).expect("it opens");
        assert_eq!(bed.say(1, "a").as_deref(), Ok("a"), "{form}");
    }
}

/// Lists of actions that are none, and calls that end as no call may. Nothing of such an answer is
/// done, also not what stands before the mistake.
#[test]
fn an_answer_that_nobody_understands_is_a_failure() {
    for form in FORMS {
        for lie in ["cut", "tag", "label", "name", "status", "failed"] {
            let mut bed = liar(form, lie);
            bed.open(1).expect("it opens");
            assert_eq!(bed.say(1, "a"), Err(Failure::Trapped), "{form}: {lie}");
            bed.close(1);
            assert_eq!(bed.figures().failures.trapped, 1, "{form}: {lie}");
            bed.open(2).expect("a new instance");
        }
    }
}

#[test]
fn no_answer_at_all_is_one() {
    for form in FORMS {
        let mut bed = liar(form, "nothing");
        bed.open(1).expect("it opens");
        assert_eq!(bed.say(1, "a").as_deref(), Ok(""), "{form}");
    }
}

/// The reason of a refusal is no text. It is refused all the same, with what words there are.
#[test]
fn a_refusal_in_no_words_is_one() {
    for form in FORMS {
        let step = Step {
            library: load(&format!("lies/none.{form}")),
            port: None,
            config: Config::new().with("lie", "refused"),
        };
        let error = Host::new(vec![step], Limits::default()).expect_err("it refuses");
        let error = error.to_string();
        assert!(
            error.contains("liar") && error.contains("hint: "),
            "{form}: {error}"
        );
    }
}
