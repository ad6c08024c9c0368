//! What is recorded of a lane's floor, and forgotten below it.

use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::*;
use millstream_engine::queue::rows::QueueRows;
use millstream_engine::queue::rows::head::HeadKey;

use crate::behaviour::world;
use crate::world::*;

#[test]
fn a_floor_past_a_chunk_is_recorded_before_what_is_below_it_is_forgotten() {
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    w.fill(q, 4_100);
    let all = w.receive_all(2, q, 4_098);
    for d in all.iter().take(4_097) {
        w.settle(d, Verb::Ack).unwrap();
    }
    // Leased only: this record says nothing of the floor, which stands in the next chunk.
    w.receive(2, pull(q, 1));
    w.settle_down();
    w.later(2_000);
    w.settle_down();
    w.flush();
    let rows = QueueRows::load(&w.store.reader()).unwrap();
    let lane = rows.heads.get(&HeadKey(q)).and_then(|h| h.lanes.get(0)).copied();
    assert_eq!(rows.chunks.iter().filter(|(k, _)| k.chunk == 0).count(), 0, "it is forgotten");
    assert_eq!(lane.map(|l| l.floor), Some(4_097));
}
