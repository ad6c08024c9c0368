use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

/// A time, or an epoch.
fn number() -> impl Strategy<Value = u64> {
    0..1_u64 << 48
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::Ready),
        number().prop_map(State::Timed),
        number().prop_map(State::Bound),
        number().prop_map(State::Resting),
        any::<u8>().prop_map(State::Held),
        any::<u8>().prop_map(State::Parked),
    ]
}

proptest! {
    #[test]
    fn a_chunk_comes_back_as_it_was_written(
        purge_no: u32, lease_no: u32,
        exceptions in btree_map(0..4_096_u16, (state(), any::<u32>(), any::<(u16, u16, u32, Option<u64>)>(), number()), 0..20),
        settled in vec((0..4_000_u16, 0..90_u16), 0..9),
    ) {
        let mut chunk = Chunk { purge_no, lease_no, ..Chunk::default() };
        for (first, n) in settled {
            chunk.settled.add(first, first + n);
        }
        for (off, (state, no, (deliveries, attempts, bytes, key_hash), first_ms)) in exceptions {
            chunk.exceptions.set(&Exception { off, state, no, deliveries, attempts, bytes, key_hash, first_ms });
        }
        let mut bytes = Vec::new();
        chunk.put(&mut bytes);
        prop_assert_eq!(Chunk::take(&bytes).unwrap(), chunk);
    }
    #[test]
    fn keys_come_back_and_keep_their_order(a: (u64, u16, u64), b: (u64, u16, u64)) {
        let key = |(queue, lane, chunk)| ChunkKey { queue: ObjectId(queue), lane, chunk };
        let (a, b) = (key(a), key(b));
        prop_assert_eq!(ChunkKey::decode(&a.encode()).unwrap(), a);
        prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
    }
    #[test]
    fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
        let _ = (Chunk::take(&bytes), ChunkKey::decode(&bytes), apply_items(&mut None, Dec::new(&bytes)));
    }
}

fn key() -> ChunkKey {
    ChunkKey { queue: ObjectId(5), lane: 1, chunk: 2 }
}

fn apply(t: &mut Table<ChunkKey, Chunk>, lsn: u64, purge_no: u32, f: impl FnOnce(&mut Vec<u8>)) {
    use crate::table::Dirty;
    let mut bytes = Vec::new();
    begin(&mut bytes, purge_no);
    f(&mut bytes);
    t.apply_effect(Lsn(lsn), &key().encode(), &bytes).unwrap();
    t.record_end(Lsn(lsn));
}

const LEASED: Known = Known { state: State::Bound(3), deliveries: 1, attempts: 0 };
const READY: Known = Known { state: State::Ready, deliveries: 1, attempts: 1 };

#[test]
fn a_run_is_leased_with_one_number_and_settled_in_part() {
    let mut t = Table::default();
    apply(&mut t, 1, 0, |b| put_lease(b, 10, LEASED, None, [7, 7, 9].into_iter()));
    apply(&mut t, 2, 0, |b| {
        put_settle(b, 11, 1, 1);
        put_put(b, 12, 1, READY);
    });
    apply(&mut t, 3, 0, |b| put_lease(b, 12, LEASED, None, [9].into_iter()));
    let chunk = t.get(&key()).unwrap();
    assert_eq!(chunk.lease_no, 2);
    assert!(chunk.settled.has(11) && chunk.settled.len() == 1);
    let all: Vec<_> = chunk.exceptions.iter().map(|e| (e.off, e.no, e.bytes)).collect();
    assert_eq!(all, [(10, 1, 7), (12, 2, 9)]);
}

#[test]
fn a_purge_empties_a_chunk_but_keeps_the_last_number() {
    let mut t = Table::default();
    apply(&mut t, 1, 0, |b| put_lease(b, 0, LEASED, None, [1, 1].into_iter()));
    apply(&mut t, 2, 1, |b| put_lease(b, 9, LEASED, None, [1].into_iter()));
    let chunk = t.get(&key()).unwrap();
    assert_eq!((chunk.purge_no, chunk.lease_no, chunk.exceptions.len()), (1, 2, 1));
    apply(&mut t, 3, 1, put_gone);
    assert_eq!(t.get(&key()), None);
}

#[test]
fn a_lease_keeps_its_key_until_the_message_is_settled() {
    let mut t = Table::default();
    apply(&mut t, 1, 0, |b| put_lease(b, 10, LEASED, Some(77), [7, 7].into_iter()));
    apply(&mut t, 2, 0, |b| put_put(b, 10, 2, READY));
    let keys = |t: &Table<ChunkKey, Chunk>| {
        t.get(&key()).unwrap().exceptions.iter().map(|e| e.key_hash).collect::<Vec<_>>()
    };
    assert_eq!(keys(&t), [Some(77), Some(77)]);
    apply(&mut t, 3, 0, |b| put_settle(b, 10, 1, 1));
    assert_eq!(keys(&t), [Some(77)]);
}

#[test]
fn the_first_time_of_handing_out_stays_until_that_is_taken_back() {
    let mut t = Table::default();
    let handed = |ms: u64, deliveries: u16| {
        move |b: &mut Vec<u8>| {
            put_handed_out(b, ms);
            put_lease(b, 10, Known { deliveries, ..LEASED }, None, [7].into_iter());
        }
    };
    let first = |t: &Table<ChunkKey, Chunk>| t.get(&key()).unwrap().exception(10).unwrap().first_ms;
    apply(&mut t, 1, 0, handed(50, 1));
    apply(&mut t, 2, 0, |b| put_put(b, 10, 1, READY));
    apply(&mut t, 3, 0, handed(60, 2));
    assert_eq!(first(&t), 50);
    let held = Known { state: State::Held(4), deliveries: 2, attempts: 2 };
    apply(&mut t, 4, 0, |b| put_put(b, 10, 1, READY));
    apply(&mut t, 5, 0, |b| put_lease(b, 10, held, None, [7].into_iter()));
    assert_eq!(first(&t), 50, "the mover is nobody to whom it is handed out");
    apply(&mut t, 6, 0, |b| put_put(b, 10, 1, Known { deliveries: 0, ..READY }));
    assert_eq!(first(&t), 0);
    apply(&mut t, 7, 0, handed(70, 1));
    assert_eq!(first(&t), 70);
}

#[test]
fn a_message_held_before_anybody_had_it_was_never_handed_out() {
    let mut t = Table::default();
    let held = Known { state: State::Held(3), deliveries: 0, attempts: 0 };
    apply(&mut t, 1, 0, |b| put_lease(b, 3, held, None, [7].into_iter()));
    assert_eq!(t.get(&key()).unwrap().exception(3).unwrap().first_ms, 0);
}

/// A chunk with one exception, and the bytes of its row up to what is known of that beside its counts.
fn with_one(key_hash: Option<u64>, first_ms: u64) -> (Chunk, Vec<u8>) {
    let mut chunk = Chunk { purge_no: 3, lease_no: 9, ..Chunk::default() };
    chunk.settled.add(4, 6);
    let (state, no, deliveries, attempts) = (State::Bound(5), 2, 1, 0);
    chunk.exceptions.set(&Exception {
        off: 7,
        state,
        no,
        deliveries,
        attempts,
        bytes: 8,
        key_hash,
        first_ms,
    });
    let mut golden = vec![3, 3, 0, 0, 0, 9, 0, 0, 0];
    chunk.settled.put(&mut golden);
    golden.extend([1, 0, 0, 0, 7, 0, 2, 5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0]);
    (chunk, golden)
}

#[test]
fn a_row_has_the_bytes_of_version_3() {
    let (chunk, mut golden) = with_one(Some(6), 9);
    golden.extend([3, 6, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    let mut bytes = Vec::new();
    chunk.put(&mut bytes);
    assert_eq!(bytes, golden);
    assert_eq!(Chunk::take(&golden).unwrap(), chunk);
}

#[test]
fn a_row_of_version_2_is_read_as_one_that_does_not_know_when() {
    let (chunk, mut golden) = with_one(Some(6), 0);
    golden[0] = 2;
    golden.extend([1, 6, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Chunk::take(&golden).unwrap(), chunk);
    let known = golden.len() - 9;
    golden[known] = 3;
    assert!(Chunk::take(&golden).is_err(), "version 2 had no such time");
}

#[test]
fn a_row_of_version_1_is_read_as_one_without_keys() {
    let (chunk, mut golden) = with_one(None, 0);
    golden[0] = 1;
    assert_eq!(Chunk::take(&golden).unwrap(), chunk);
}
