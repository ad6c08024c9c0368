//! Queues that order by key, and their parking place.

use super::*;

fn keyed(to: &str, key: &str, payload: &str) -> NewMessage {
    let mut new = text(to, payload);
    new.message.key = Some(Bytes::copy_from_slice(key.as_bytes()));
    new
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_queue_gives_each_key_to_one_at_a_time_also_after_a_restart() {
    let place = Place::new(41);
    let broker = place.open();
    let s = session(&broker);
    let mut new = NewQueue::named("orders");
    new.policy.ordering = Ordering::ByKey;
    let q = s.declare_queue(new).await.unwrap().def;
    let all = [("a", "a1"), ("b", "b1"), ("a", "a2"), ("a", "a3"), ("b", "b2")];
    for (key, payload) in all {
        assert_eq!(publish(&s, keyed("orders", key, payload)).await.accepted, 1);
    }
    let timed = LeaseKind::Timed { lease_ms: Some(3_600_000), owned: false };
    let what = |max| Receive { max, lease: timed, ride: false, ..now(&q, 10) };
    let first = s.receive(what(2)).unwrap().await.unwrap().unwrap();
    assert_eq!(bodies(&broker, &first).await, ["a1", "a2"]);
    close(broker).await;
    let broker = place.open();
    let s = session(&broker);
    // The hash of a key is the same: what comes in now is of the same key as what was leased before.
    publish(&s, keyed("orders", "a", "a4")).await;
    let others = s.receive(what(10)).unwrap().await.unwrap().unwrap();
    assert_eq!(bodies(&broker, &others).await, ["b1", "b2"]);
    let (one, two) = (&first[..1], &first[1..]);
    settle(&s, one, Verb::Ack).await;
    assert_eq!(s.receive(what(10)).unwrap().await.unwrap().unwrap(), []);
    settle(&s, two, Verb::Release { failed: true, delay_ms: None }).await;
    let rest = s.receive(what(10)).unwrap().await.unwrap().unwrap();
    assert_eq!(bodies(&broker, &rest).await, ["a2", "a3", "a4"]);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_kept_on_the_way_through_a_queue_that_does_not_order() {
    let place = Place::new(42);
    let broker = place.open();
    let s = session(&broker);
    let first = s.declare_queue(dying("jobs", "", Some("orders"))).await.unwrap().def;
    let mut new = NewQueue::named("orders");
    new.policy.ordering = Ordering::ByKey;
    let orders = s.declare_queue(new).await.unwrap().def;
    for payload in ["1", "2"] {
        publish(&s, keyed("jobs", "k", payload)).await;
    }
    let got = get(&s, &first).await;
    settle(&s, &got, Verb::Reject).await;
    until_ready(&s, &orders, 2).await;
    let got = s.receive(Receive { max: 1, ..now(&orders, 10) }).unwrap().await.unwrap().unwrap();
    assert_eq!(bodies(&broker, &got).await, ["1"]);
    assert_eq!(get(&s, &orders).await, []);
    settle(&s, &got, Verb::Ack).await;
    assert_eq!(bodies(&broker, &get(&s, &orders).await).await, ["2"]);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_is_told_and_can_be_given_back() {
    let place = Place::new(43);
    let broker = place.open();
    let s = session(&broker);
    let mut new = NewQueue::named("jobs");
    new.policy.attempts_max = Some(1);
    new.policy.on_exhausted = OnExhausted::Park;
    let q = s.declare_queue(new).await.unwrap().def;
    for payload in ["1", "2"] {
        publish(&s, text("jobs", payload)).await;
    }
    let got = get(&s, &q).await;
    settle(&s, &got, Verb::Release { failed: true, delay_ms: None }).await;
    let parked = s.parked(q.id, (0, 0), 10).await.unwrap().unwrap();
    assert_eq!(parked.iter().map(|p| (p.pos, p.attempts)).collect::<Vec<_>>(), [(0, 1), (1, 1)]);
    assert_eq!(s.queue_stats(q.id, false).await.unwrap().unwrap().parked.n, 2);
    assert_eq!(s.unpark(q.id, &[(0, 0), (0, 7)], true).await.unwrap(), 1);
    assert_eq!(s.unpark(q.id, &[(0, 1)], false).await.unwrap(), 1);
    let again = get(&s, &q).await;
    assert_eq!(bodies(&broker, &again).await, ["1"]);
    assert_eq!(s.parked(q.id, (0, 0), 10).await.unwrap(), Some(Vec::new()));
    close(broker).await;
}
