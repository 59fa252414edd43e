//! How long a fixed load takes over links of every quality, as a table under version control: a
//! change in the mirror's behaviour shows as a difference. `UPDATE_SNAPSHOTS=1` writes it anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::capture::{ClientShape, Disturbance};
use crate::check::{Expected, check};
use crate::conversation::{Ending, Message, Turn};
use crate::events::MILLISECOND_US;
use crate::harness::run;
use crate::link::LinkConfig;
use crate::mix::Mix;
use crate::rng::Rng;
use crate::scenario::{Family, Scenario};

const LOSS_PERMILLE: [u32; 4] = [0, 10, 50, 200];
const REORDER_PERMILLE: [u32; 3] = [0, 20, 200];
const MTU: [u16; 3] = [576, 1500, 9000];
const SEED: u64 = 2;
const CLIENTS: u16 = 4;

#[test]
fn loss_times_reorder_times_mtu() {
    let mut table = String::from(
        "4 clients, each 10 exchanges of 30,000 bytes up and 30,000 down; one way 1 ms.\n\
         seconds: virtual time until the target has every byte.\n\
         again: segments the engine sent again; useless: those that brought the target nothing;\n\
         target again: segments the target sent again.\n\n\
         loss %  reorder %   MTU   seconds    again  useless  target again\n",
    );
    for loss_permille in LOSS_PERMILLE {
        for reorder_permille in REORDER_PERMILLE {
            for mtu in MTU {
                table.push_str(&row(loss_permille, reorder_permille, mtu));
            }
        }
    }
    print!("{table}");
    compare(&table);
}

fn row(loss_permille: u32, reorder_permille: u32, mtu: u16) -> String {
    let mut rng = Rng::new(SEED);
    let mut scenario = Scenario::new("table", SEED, Family::V4);
    let delay_us = MILLISECOND_US;
    scenario.links(LinkConfig {
        delay_us,
        reorder_permille,
        loss_permille,
        ..LinkConfig::default()
    });
    scenario.engine.mtu = mtu;
    scenario.target.mss = mtu - 40;
    for index in 0..CLIENTS {
        let start_us = u64::from(index) * 5 * MILLISECOND_US;
        let mut conversation =
            Mix::default().conversation(Family::V4.client(index), start_us, &mut rng);
        let messages = vec![Message {
            bytes: 30_000,
            answer: 6,
        }];
        conversation.turns = vec![
            Turn {
                messages,
                think_us: 2 * MILLISECOND_US,
                answered_meanwhile: false
            };
            10
        ];
        conversation.ending = Ending::ClientFin;
        let shape = ClientShape {
            mss: mtu - 40,
            ..ClientShape::default()
        };
        scenario.capture(conversation, shape, Disturbance::default(), &mut rng);
    }
    let outcome = run(&scenario);
    check(&scenario, &outcome, Expected::ALL);
    let mut row = String::new();
    writeln!(
        row,
        "{:>6}  {:>9}  {:>4}  {:>8}  {:>7}  {:>7}  {:>12}",
        format!("{}.{}", loss_permille / 10, loss_permille % 10),
        format!("{}.{}", reorder_permille / 10, reorder_permille % 10),
        mtu,
        format!(
            "{}.{:03}",
            outcome.last_delivery_us / 1_000_000,
            outcome.last_delivery_us / 1_000 % 1_000
        ),
        outcome.ledger.upstream.retransmitted_segments,
        outcome.target.useless_segments,
        outcome.target.retransmitted,
    )
    .expect("a string takes everything");
    row
}

fn compare(table: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/simulation/snapshots/loss_reorder_mtu.txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a file in a directory"))
            .and_then(|()| std::fs::write(&path, table))
            .expect("the snapshot can be written");
        return;
    }
    let known = std::fs::read_to_string(&path).expect("run once with UPDATE_SNAPSHOTS=1");
    assert!(
        known == table,
        "the table differs from {}; if that is meant, run with UPDATE_SNAPSHOTS=1",
        path.display()
    );
}
