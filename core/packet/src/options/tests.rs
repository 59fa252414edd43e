use super::*;

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const STAMPS: Timestamps = Timestamps {
    value: 0x0102_0304,
    echo: 0x0506_0708,
};

fn blocks(count: u32) -> SackBlocks {
    let mut blocks = SackBlocks::default();
    for i in 0..count {
        assert!(blocks.push(SackBlock {
            start: 100 * i,
            end: 100 * i + 50
        }));
    }
    blocks
}

/// Checks that the options are written as `area`, and that `area` reads as the options.
#[track_caller]
fn check(options: TcpOptions, flags: TcpFlags, area: &[u8]) {
    assert_eq!(options.encode(flags).as_slice(), area);
    assert_eq!(options.encoded_len(flags), area.len());
    assert_eq!(TcpOptions::parse(area, flags), options);
}

#[test]
fn syn_in_the_order_of_linux() {
    let options = TcpOptions {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(STAMPS),
        sack: SackBlocks::default(),
    };
    #[rustfmt::skip]
    check(options, SYN, &[
        2, 4, 0x05, 0xb4,
        4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8,
        1, 3, 3, 7,
    ]);
    #[rustfmt::skip]
    check(TcpOptions { timestamps: None, ..options }, SYN | ACK, &[
        2, 4, 0x05, 0xb4,
        1, 1, 4, 2,
        1, 3, 3, 7,
    ]);
    #[rustfmt::skip]
    check(TcpOptions { sack_permitted: false, mss: None, ..options }, SYN, &[
        1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8,
        1, 3, 3, 7,
    ]);
    check(TcpOptions::default(), SYN, &[]);
}

#[test]
fn timestamps_and_sack() {
    let stamps = TcpOptions {
        timestamps: Some(STAMPS),
        ..TcpOptions::default()
    };
    check(stamps, ACK, &[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    #[rustfmt::skip]
    check(TcpOptions { sack: blocks(1), ..stamps }, ACK, &[
        1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8,
        1, 1, 5, 10, 0, 0, 0, 0, 0, 0, 0, 50,
    ]);
    check(
        TcpOptions {
            sack: blocks(4),
            ..TcpOptions::default()
        },
        ACK,
        &{
            let mut area = vec![1, 1, 5, 34];
            for block in blocks(4).as_slice() {
                area.extend([block.start.to_be_bytes(), block.end.to_be_bytes()].concat());
            }
            area
        },
    );
}

#[test]
fn only_three_sack_blocks_fit_beside_timestamps() {
    let options = TcpOptions {
        timestamps: Some(STAMPS),
        sack: blocks(4),
        ..TcpOptions::default()
    };
    let encoded = options.encode(ACK);
    assert_eq!(encoded.len(), MAX_OPTIONS_LEN);
    let read = TcpOptions::parse(encoded.as_slice(), ACK);
    assert_eq!(
        read,
        TcpOptions {
            sack: blocks(3),
            ..options
        }
    );
}

#[test]
fn options_count_only_where_they_belong() {
    let syn_only = TcpOptions {
        mss: Some(536),
        window_scale: Some(2),
        sack_permitted: true,
        ..TcpOptions::default()
    };
    assert_eq!(syn_only.encoded_len(ACK), 0);
    let area = syn_only.encode(SYN);
    assert_eq!(
        TcpOptions::parse(area.as_slice(), ACK),
        TcpOptions::default()
    );

    let sack = TcpOptions {
        sack: blocks(2),
        ..TcpOptions::default()
    };
    assert_eq!(sack.encoded_len(SYN), 0);
    let area = sack.encode(ACK);
    assert_eq!(
        TcpOptions::parse(area.as_slice(), SYN),
        TcpOptions::default()
    );
}

#[test]
fn too_large_a_window_scale_is_the_largest() {
    let fourteen = TcpOptions {
        window_scale: Some(14),
        ..TcpOptions::default()
    };
    assert_eq!(TcpOptions::parse(&[1, 3, 3, 15], SYN), fourteen);
    let twenty = TcpOptions {
        window_scale: Some(20),
        ..TcpOptions::default()
    };
    assert_eq!(twenty.encode(SYN).as_slice(), [1, 3, 3, 14]);
}

#[test]
fn unknown_and_odd_options_are_skipped() {
    let mss = TcpOptions {
        mss: Some(1460),
        ..TcpOptions::default()
    };
    // Fast open, then MSS.
    assert_eq!(
        TcpOptions::parse(&[34, 6, 1, 2, 3, 4, 2, 4, 0x05, 0xb4, 0, 0], SYN),
        mss
    );
    // Timestamps of the wrong length, then MSS.
    assert_eq!(TcpOptions::parse(&[8, 4, 0, 0, 2, 4, 0x05, 0xb4], SYN), mss);
    // MSS after the end of the list.
    assert_eq!(
        TcpOptions::parse(&[0, 0, 0, 0, 2, 4, 0x05, 0xb4], SYN),
        TcpOptions::default()
    );
    // SACK with half a block.
    assert_eq!(
        TcpOptions::parse(&[1, 1, 5, 6, 0, 0, 0, 1], ACK),
        TcpOptions::default()
    );
}

#[test]
fn a_bad_length_ends_the_reading() {
    let mss = TcpOptions {
        mss: Some(1460),
        ..TcpOptions::default()
    };
    for tail in [&[8][..], &[8, 0], &[8, 1], &[8, 10, 0, 0], &[255, 255]] {
        let area = [&[2, 4, 0x05, 0xb4], tail, &[]].concat();
        assert_eq!(TcpOptions::parse(&area, SYN), mss, "{tail:?}");
    }
}

#[test]
fn a_second_sack_option_adds_no_more_than_fits() {
    let mut area = vec![5, 26];
    area.extend([1; 24]);
    area.extend([5, 18]);
    area.extend([2; 16]);
    let read = TcpOptions::parse(&area, ACK);
    assert_eq!(read.sack.as_slice().len(), MAX_SACK_BLOCKS);
}
