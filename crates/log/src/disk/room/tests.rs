#![allow(clippy::pedantic, clippy::unwrap_used)]

use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// As on a file system of 600 MiB.
const SIZES: Sizes = Sizes {
    segment_bytes: 8 * MIB,
    reserve_bytes: 24 * MIB,
    ready_files: 4,
    inflight_bytes: 16 * MIB,
    record_bytes: 32 * MIB,
    store_least_bytes: 64 * MIB,
};
/// Nothing is missing.
const WELL: Seen = Seen {
    free_bytes: 400 * MIB,
    ballast_bytes: 12 * MIB,
    ready: 5,
    free_files: 0,
    idle_files: 0,
    merge_bytes: 0,
    waiting: false,
    starved: false,
    refused: false,
    full: false,
};

#[test]
fn sizes_follow_the_file_system() {
    for (total, segment, reserve) in [
        (24 * MIB, 8, 4),
        (64 * MIB, 8, 8),
        (600 * MIB, 8, 24),
        (4 * GIB, 8, 128),
        (16 * GIB, 64, 512),
        (8192 * GIB, 64, 512),
    ] {
        assert_eq!(segment_bytes(total), segment * MIB, "{total}");
        assert_eq!(reserve_bytes(total), reserve * MIB, "{total}");
    }
    assert_eq!(reserve_bytes(768 * MIB), 24 * MIB);
    assert!(SIZES.needed_bytes() < 150 * MIB, "600 MiB are enough");
}

#[test]
fn the_pool_is_filled_from_free_files_first_and_then_rests() {
    assert_eq!(SIZES.next(&WELL), Step::Rest);
    let short = Seen { ready: 4, ..WELL };
    assert_eq!(SIZES.next(&short), Step::Create);
    assert_eq!(SIZES.next(&Seen { free_files: 1, ..short }), Step::Recycle);
    assert_eq!(SIZES.next(&Seen { refused: true, ..short }), Step::Rest);
    assert_eq!(SIZES.next(&Seen { free_files: 17, ..WELL }), Step::Unlink);
    assert_eq!(SIZES.next(&Seen { free_files: 16, ..WELL }), Step::Rest);
    assert_eq!(SIZES.next(&Seen { free_files: 16, idle_files: 2, ..WELL }), Step::Rest);
    assert_eq!(SIZES.next(&Seen { free_files: 16, idle_files: 3, ..WELL }), Step::Unlink);
}

#[test]
fn new_files_leave_the_reserve_alone_unless_somebody_waits() {
    let low = Seen { free_bytes: 19 * MIB, ready: 0, ..WELL };
    assert_eq!(SIZES.next(&low), Step::Rest);
    assert_eq!(SIZES.next(&Seen { free_bytes: 20 * MIB, ..low }), Step::Create);
    assert_eq!(SIZES.next(&Seen { waiting: true, ..low }), Step::Create);
    assert_eq!(SIZES.next(&Seen { waiting: true, free_bytes: 7 * MIB, ..low }), Step::Rest);
    // One file is for the opening. With a second who waited has what it waited for, though it has not woken yet.
    assert_eq!(SIZES.next(&Seen { waiting: true, ready: 1, ..low }), Step::Create);
    assert_eq!(SIZES.next(&Seen { waiting: true, ready: 2, ..low }), Step::Rest);
}

#[test]
fn publishing_stops_below_the_reserve_and_before_the_last_files() {
    assert!(!SIZES.is_full(&WELL));
    assert!(SIZES.is_full(&Seen { free_bytes: 12 * MIB - 1, ..WELL }));
    let low = Seen { free_bytes: 13 * MIB, ..WELL };
    assert!(!SIZES.is_full(&Seen { ready: 4, ..low }));
    assert!(SIZES.is_full(&Seen { ready: 3, ..low }));
    assert!(!SIZES.is_full(&Seen { ready: 3, free_files: 1, ..low }));
    assert!(SIZES.is_full(&Seen { ready: 3, refused: true, ..WELL }));
}

#[test]
fn publishing_resumes_only_with_the_ballast_files_and_half_as_much_again_as_the_reserve() {
    let full = Seen { full: true, free_bytes: 24 * MIB, ..WELL };
    assert!(!SIZES.is_full(&full));
    for short in [
        Seen { free_bytes: 24 * MIB - 1, ..full },
        Seen { ready: 4, ..full },
        Seen { ballast_bytes: 0, free_bytes: 100 * MIB, ..full },
    ] {
        assert!(SIZES.is_full(&short), "{short:?}");
    }
}

#[test]
fn on_a_full_disk_free_files_are_shared_out_in_order() {
    // The files of settling and opening, then the ballast, then free bytes, then the files for publishing.
    let mut seen = Seen { full: true, ready: 0, free_files: 20, ballast_bytes: 0, free_bytes: MIB, ..WELL };
    let mut steps = Vec::new();
    loop {
        let step = SIZES.next(&seen);
        match step {
            Step::Recycle => (seen.ready, seen.free_files) = (seen.ready + 1, seen.free_files - 1),
            Step::Create => (seen.ready, seen.free_bytes) = (seen.ready + 1, seen.free_bytes - 8 * MIB),
            Step::Unlink => {
                (seen.free_files, seen.free_bytes) = (seen.free_files - 1, seen.free_bytes + 8 * MIB);
            }
            Step::TakeBallast => {
                (seen.ballast_bytes, seen.free_bytes) = (12 * MIB, seen.free_bytes - 12 * MIB);
            }
            Step::Rest => break,
        }
        steps.push(step);
    }
    let (r, u) = (Step::Recycle, Step::Unlink);
    assert_eq!(steps, [r, r, r, u, u, u, Step::TakeBallast, u, u, r, r]);
    assert!(!SIZES.is_full(&seen));
}

#[test]
fn a_store_that_waits_for_room_gets_free_files_but_not_the_first_two() {
    let starved = Seen { starved: true, ready: 1, free_files: 1, ..WELL };
    assert_eq!(SIZES.next(&starved), Step::Recycle);
    assert_eq!(SIZES.next(&Seen { ready: 2, ..starved }), Step::Unlink);
}

#[test]
fn no_state_makes_the_pool_turn_in_circles() {
    // Whatever is there: with nothing changing from outside, the steps come to an end.
    for n in 0..20_000_u64 {
        let r = |k: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (k * 7 % 50)) as usize;
        let mut seen = Seen {
            idle_files: 0,
            free_bytes: (r(0) % 80) as u64 * MIB,
            ballast_bytes: if r(1) % 2 == 0 { 0 } else { 12 * MIB },
            ready: r(2) % 7,
            free_files: r(3) % 20,
            merge_bytes: (r(8) % 20) as u64 * MIB,
            waiting: r(7) % 3 == 0,
            starved: r(4) % 5 == 0,
            refused: r(5) % 7 == 0,
            full: r(6) % 2 == 0,
        };
        for round in 0.. {
            assert!(round < 60, "{n}: {seen:?}");
            seen.full = SIZES.is_full(&seen);
            match SIZES.next(&seen) {
                Step::Recycle => (seen.ready, seen.free_files) = (seen.ready + 1, seen.free_files - 1),
                Step::Create => (seen.ready, seen.free_bytes) = (seen.ready + 1, seen.free_bytes - 8 * MIB),
                Step::Unlink => {
                    (seen.free_files, seen.free_bytes) = (seen.free_files - 1, seen.free_bytes + 8 * MIB);
                }
                Step::TakeBallast => {
                    (seen.ballast_bytes, seen.free_bytes) = (12 * MIB, seen.free_bytes - 12 * MIB);
                }
                Step::Rest => break,
            }
        }
        assert!(seen.free_files == 0 || seen.ready >= SETTLE_FILES || seen.refused, "{n}: {seen:?}");
    }
}

#[test]
fn what_may_be_in_flight_shrinks_only_near_the_end() {
    assert_eq!(SIZES.room(&WELL).publish_bytes, u64::MAX);
    let last = Seen { free_bytes: 13 * MIB, ready: 5, ..WELL };
    let room = SIZES.room(&last);
    assert_eq!((room.publish_bytes, room.settle_bytes), (8 * MIB, 16 * MIB));
    let room = SIZES.room(&Seen { full: true, ready: 2, ..last });
    assert_eq!((room.publish_bytes, room.settle_bytes, room.settle_record_bytes), (0, 4 * MIB, 8 * MIB));
    // 36 MiB to resume and three files more, less the 25 that are free.
    assert_eq!(room.needed_bytes, (36 + 3 * 8 - 25) * MIB);
}

#[test]
fn a_merge_leaves_the_store_its_room_and_gets_the_ballast_only_where_room_is_short() {
    let at = |free: u64, ballast: u64, hurry| {
        let seen = Seen { free_bytes: free * MIB, ballast_bytes: ballast * MIB, ..WELL };
        SIZES.merge(&seen, 64 * MIB, hurry)
    };
    // The store needs 6 MiB; 24 are the reserve.
    assert_eq!(at(70, 12, true), MergeRoom::Enough);
    assert_eq!(at(69, 12, true), MergeRoom::WithBallast);
    assert_eq!(at(58, 12, true), MergeRoom::WithBallast);
    assert_eq!(at(57, 12, true), MergeRoom::None);
    assert_eq!(at(69, 0, true), MergeRoom::None);
    assert_eq!(at(76, 12, false), MergeRoom::Enough);
    assert_eq!(at(75, 12, false), MergeRoom::None);
    assert_eq!(at(88, 0, false), MergeRoom::Enough);
    assert_eq!(at(87, 0, false), MergeRoom::None);
}
