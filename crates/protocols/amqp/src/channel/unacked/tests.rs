use millstream_broker::queue::api::ConsumerId;
use millstream_types::{ConnId, Lsn};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

pub(in crate::channel) fn delivery(queue: u64, pos: u64, delivery_no: u32) -> Delivery {
    Delivery {
        session: ConnId(1),
        consumer: ConsumerId(1),
        queue: ObjectId(queue),
        lane: 0,
        pos,
        delivery_no,
        deliveries: 1,
        attempts: 0,
        first_ms: 0,
        redelivered: false,
        bytes: 1,
        wait: Lsn(0),
    }
}

fn unacked(n: u64) -> Unacked {
    let mut all = Unacked::default();
    for pos in 0..n {
        let tag = all.next_tag();
        all.add(tag, &delivery(9, pos, 3), None, Instant::now());
    }
    all
}

fn positions(taken: Taken) -> Vec<u64> {
    taken.into_all().map(|(_, out)| out.pos).collect()
}

#[test]
fn multiple_takes_all_up_to_the_tag_and_zero_takes_all() {
    let mut all = unacked(5);
    assert_eq!(positions(all.take(2, false).unwrap()), [1]);
    assert_eq!(positions(all.take(3, true).unwrap()), [0, 2]);
    assert_eq!(positions(all.take(0, true).unwrap()), [3, 4]);
    assert_eq!(positions(all.take(0, true).unwrap()), [0_u64; 0]);
}

#[test]
fn a_tag_that_is_not_outstanding_is_unknown() {
    let mut all = unacked(2);
    all.take(1, false).unwrap();
    for (tag, multiple) in [(1, false), (1, true), (3, true), (0, false), (u64::MAX, true)] {
        let e = all.take(tag, multiple).unwrap_err();
        assert_eq!(e.reply_text(), format!("PRECONDITION_FAILED - unknown delivery tag {tag}"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_that_is_over_is_told_and_what_was_settled_is_not_waited_for() {
    let mut all = Unacked::default();
    let (short, long) = (Duration::from_secs(1), Duration::from_mins(1));
    let (a, b) = (all.next_tag(), all.next_tag());
    all.add(a, &delivery(9, 0, 3), Some(long), Instant::now());
    all.add(b, &delivery(9, 1, 3), Some(short), Instant::now());
    assert_eq!(all.next_look(), Some(Instant::now() + short / 4));
    tokio::time::advance(short).await;
    assert_eq!(all.overdue(), Some(short));
    all.take(b, false).unwrap();
    assert_eq!(all.overdue(), None);
    tokio::time::advance(long).await;
    assert_eq!(all.overdue(), Some(long));
    all.take(a, false).unwrap();
    assert_eq!((all.overdue(), all.next_look()), (None, None));
}

#[test]
fn neighbours_are_kept_together_also_where_others_have_what_lies_between() {
    let mut all = Unacked::default();
    let now = Instant::now();
    for n in 0..640 {
        let tag = all.next_tag();
        all.add(tag, &delivery(9, n * 3, 3), None, now);
    }
    assert_eq!(all.runs.len(), 10);
    for tag in (1..=640).step_by(2) {
        all.take(tag, false).unwrap();
    }
    assert_eq!(all.runs.len(), 10);
    assert_eq!(all.take_all().len(), 320);
}

/// A delivery, and how it is unlike the one before: by its queue, its number, how far its position is, and tags in between.
type Step = (u64, u32, u64, u64);

fn deliveries() -> impl Strategy<Value = Vec<Step>> {
    let rarely = |most: u64| prop_oneof![20 => Just(0), 1 => 0..=most];
    vec(
        (
            rarely(1),
            rarely(1).prop_map(|n| u32::try_from(n).unwrap()),
            prop_oneof![9 => Just(1), 1 => 0..3_u64],
            rarely(2),
        ),
        0..200,
    )
}

proptest! {
    #[test]
    fn tags_mean_what_a_map_says_they_mean(all in deliveries(), takes in vec((0..220_u64, 0..8_u8), 0..80)) {
        let now = Instant::now();
        let (mut unacked, mut map) = (Unacked::default(), BTreeMap::new());
        let mut pos = 50;
        for (queue, no, step, skipped) in all {
            for _ in 0..skipped {
                unacked.next_tag();
            }
            let tag = unacked.next_tag();
            pos += step;
            let d = delivery(queue, pos, no);
            unacked.add(tag, &d, None, now);
            map.insert(tag, Out::of(&d, None, now));
        }
        // What a transaction took, to be out again.
        let mut again: Vec<(u64, Out)> = Vec::new();
        for (tag, what) in takes {
            if what == 0 {
                for (tag, out) in again.drain(..).rev() {
                    unacked.add_again(tag, out);
                    map.insert(tag, out);
                }
                continue;
            }
            let multiple = what == 1;
            let Ok(taken) = unacked.take(tag, multiple) else {
                prop_assert!(!map.contains_key(&tag) && (tag > 0 || !multiple));
                continue;
            };
            let expected: Vec<(u64, Out)> = match (multiple, tag) {
                (true, 0) => std::mem::take(&mut map).into_iter().collect(),
                (true, _) => {
                    let later = map.split_off(&(tag + 1));
                    std::mem::replace(&mut map, later).into_iter().collect()
                }
                (false, _) => map.remove_entry(&tag).into_iter().collect(),
            };
            prop_assert_eq!(taken.len(), expected.len());
            prop_assert!(unacked.runs.values().all(|run| run.tags != 0));
            let taken: Vec<(u64, Out)> = taken.into_all().collect();
            prop_assert_eq!(&taken, &expected);
            if what < 5 {
                again.extend(taken);
            }
        }
        let left: Vec<(u64, Out)> = unacked.take_all().into_all().collect();
        prop_assert_eq!(left, map.into_iter().collect::<Vec<_>>());
    }
}
