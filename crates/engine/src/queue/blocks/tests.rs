use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::queue::rows::set::CHUNK;

/// Places that lie close together, in a few blocks.
fn places() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..70_u64, 2 => 4_000..4_096_u64, 1 => 0..4_096_u64]
}

fn off(at: u64) -> u16 {
    u16::try_from(at).unwrap()
}

proptest! {
    #[test]
    fn blocks_are_as_a_map_has_them(steps in vec((places(), any::<u32>(), 0..3_u8), 0..300)) {
        let (mut blocks, mut chunk, mut map) = (Blocks::default(), ChunkBlocks::default(), BTreeMap::new());
        for (at, value, what) in steps {
            let place = off(at);
            if what > 0 {
                let before = map.insert(at, value);
                prop_assert_eq!(blocks.insert(at, value), before);
                prop_assert_eq!(chunk.insert(place, value), before);
            } else {
                let before = map.remove(&at);
                prop_assert_eq!(blocks.remove(at), before);
                prop_assert_eq!(chunk.remove(place), before);
            }
            prop_assert_eq!((blocks.iter().count(), chunk.len()), (map.len(), map.len()));
            prop_assert_eq!((blocks.is_empty(), chunk.is_empty()), (map.is_empty(), map.is_empty()));
            for at in [at, at + 1] {
                prop_assert_eq!((blocks.get(at), blocks.has(at)), (map.get(&at), map.contains_key(&at)));
                prop_assert_eq!(chunk.get(off(at % CHUNK)), map.get(&(at % CHUNK)));
            }
            prop_assert_eq!(blocks.first(), map.first_key_value().map(|(k, v)| (*k, v)));
            prop_assert_eq!(blocks.last(), map.last_key_value().map(|(k, v)| (*k, v)));
            prop_assert_eq!(chunk.last().map(u64::from), map.last_key_value().map(|(k, _)| *k));
        }
        prop_assert!(blocks.iter().eq(map.iter().map(|(k, v)| (*k, v))));
        prop_assert!(chunk.iter().eq(map.iter().map(|(k, v)| (off(*k), v))));
        for from in [0, 1, 63, 64, 65, 4_000, 4_095, 5_000] {
            prop_assert!(blocks.from(from).eq(map.range(from..).map(|(k, v)| (*k, v))));
        }
        for block in blocks.all.values() {
            let (len, room) = (block.values.len(), block.values.capacity());
            prop_assert!(len > 0 && room <= (2 * len).max(ROOM_MIN));
        }
    }
    #[test]
    fn a_run_goes_as_it_would_one_by_one(
        all in vec(places(), 0..200), runs in vec((0..4_096_u16, 0..300_u16), 1..9),
    ) {
        let mut one_by_one = ChunkBlocks::default();
        for at in all {
            one_by_one.insert(off(at), at);
        }
        let mut at_once = one_by_one.clone();
        for (first, n) in runs {
            let last = (first + n).min(4_095);
            at_once.remove_run(first, last);
            for at in first..=last {
                one_by_one.remove(at);
            }
            prop_assert_eq!(&at_once, &one_by_one);
        }
    }
    #[test]
    fn a_number_in_six_bytes_is_itself_or_the_largest(n: u64, small in 0..1_u64 << 48) {
        prop_assert_eq!(U48::of(small).get(), small);
        prop_assert_eq!(U48::of(n).get(), n.min(U48_MAX));
        prop_assert_eq!(U48::of(u64::MAX).get_or_max(), u64::MAX);
    }
}
