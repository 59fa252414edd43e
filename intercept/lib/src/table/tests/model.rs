//! Any history of a table against a plain model of it.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// What may happen to a table.
#[derive(Clone, Debug)]
enum Step {
    Register {
        link: u32,
        session: u64,
        client: u16,
    },
    Unregister {
        link: u32,
        session: u64,
        client: u16,
    },
    Packet {
        client: u16,
    },
    OtherSynAck {
        client: u16,
    },
    Pass {
        seconds: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (link, session, client) = (0u32..2, 0u64..3, 0u16..6);
    prop_oneof![
        (link.clone(), session.clone(), client.clone()).prop_map(|(link, session, client)| {
            Step::Register {
                link,
                session,
                client,
            }
        }),
        (link, session, client.clone()).prop_map(|(link, session, client)| Step::Unregister {
            link,
            session,
            client
        }),
        client.clone().prop_map(|client| Step::Packet { client }),
        client.prop_map(|client| Step::OtherSynAck { client }),
        (1u64..60).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

/// What a tuple is in the model.
#[derive(Clone, Copy, Debug)]
enum State {
    Live {
        link: u32,
        session: u64,
    },
    /// Certainly dropped until the first time, certainly accepted from the second on.
    Late {
        until: u64,
        gone_at: u64,
    },
}

proptest! {
    /// Any history of two links and six clients gives the verdicts of the model.
    #[test]
    fn verdicts_follow_the_model(steps in prop::collection::vec(step(), 1..120)) {
        let life = DEFAULT_TOMBSTONE.as_secs();
        let mut bench = Bench::new();
        let links = [bench.up(1), bench.up(2)];
        let mut model: HashMap<u16, State> = HashMap::new();
        let mut clock = 0;
        for step in steps {
            match step {
                Step::Register { link, session, client } => {
                    let registered =
                        bench.table.register(links[link as usize], &entry(session, client));
                    let taken = matches!(model.get(&client),
                        Some(State::Live { link: owner, .. }) if *owner != link);
                    prop_assert_eq!(registered.is_err(), taken);
                    if !taken {
                        model.insert(client, State::Live { link, session });
                    }
                }
                Step::Unregister { link, session, client } => {
                    bench.unregister(links[link as usize], session, client);
                    if matches!(model.get(&client), Some(State::Live { link: l, session: s })
                        if (*l, *s) == (link, session))
                    {
                        let late = State::Late { until: clock + life, gone_at: clock + 2 * life };
                        model.insert(client, late);
                    }
                }
                Step::Packet { client } => {
                    let judgement = bench.packet(client, ACK, 0);
                    match model.get(&client).copied() {
                        None => prop_assert_eq!(judgement, Judgement::Foreign),
                        Some(State::Live { link, session: number }) => {
                            prop_assert_eq!(judgement, session(links[link as usize], number));
                        }
                        Some(State::Late { until, gone_at }) => {
                            let dropped = judgement.verdict() == Verdict::Drop;
                            prop_assert!(dropped || clock >= until);
                            prop_assert!(!dropped || clock < gone_at);
                            if dropped {
                                let late =
                                    State::Late { until: clock + life, gone_at: clock + 2 * life };
                                model.insert(client, late);
                            } else {
                                model.remove(&client);
                            }
                        }
                    }
                }
                Step::OtherSynAck { client } => {
                    let judgement = bench.packet(client, SYN_ACK, 4711);
                    match model.get(&client) {
                        Some(State::Live { .. }) => {
                            prop_assert_eq!(judgement.verdict(), Verdict::Drop);
                        }
                        None | Some(State::Late { .. }) => {
                            prop_assert_eq!(judgement, Judgement::Foreign);
                            model.remove(&client);
                        }
                    }
                }
                Step::Pass { seconds } => {
                    clock += seconds;
                    bench.pass(Duration::from_secs(seconds));
                }
            }
            let live = model.values().filter(|s| matches!(s, State::Live { .. })).count() as u64;
            prop_assert_eq!(bench.table.counts().sessions, live);
        }
    }
}
