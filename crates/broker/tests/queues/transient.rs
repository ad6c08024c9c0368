//! Queues that do not outlive the broker: in memory only, however slow the disk is, and within a bound.

use millstream_broker::Refused;

use super::*;

fn open(place: &Place, commit: Commit, transient_bytes_max: u64) -> Broker {
    let cfg = BrokerConfig { transient_bytes_max, ..BrokerConfig::default() };
    Broker::open(cfg, place.env.clone(), &place.log.with_commit(commit)).unwrap()
}

async fn transient(s: &Session, name: &str) -> Arc<QueueDef> {
    s.declare_queue(NewQueue { durable: false, ..NewQueue::named(name) }).await.unwrap().def
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_by_transient_queues_is_answered_though_nothing_becomes_durable() {
    let place = Place::new(31);
    // Nothing is ever durable.
    let broker = open(&place, Commit::ByHand, 1 << 20);
    let (client, server) = (session(&broker), session(&broker));
    let (calls, answers) = (transient(&client, "calls").await, transient(&client, "answers").await);
    consume(&server, &calls, 1, BOUND).await;
    consume(&client, &answers, 1, BOUND).await;
    for call in ["a", "b", "c"] {
        assert_eq!(publish(&client, text("calls", call)).await.accepted, 1);
        let got = take(&server, 1).await;
        assert_eq!(bodies(&broker, &got).await, [call]);
        publish(&server, text("answers", call)).await;
        server.settle(vec![settle_item(&got[0], Verb::Ack)]).await.unwrap();
        let answer = take(&client, 1).await;
        assert_eq!(bodies(&broker, &answer).await, [call]);
        client.settle(vec![settle_item(&answer[0], Verb::Ack)]).await.unwrap();
    }
    assert_eq!(broker.marks().sequenced.0, 0, "something was recorded");
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_of_a_transient_queue_are_there_at_once_and_gone_with_it() {
    let place = Place::new(32);
    let broker = place.open();
    let s = session(&broker);
    fanout(&s, "all", &[]).await;
    close(broker).await;
    let broker = open(&place, Commit::ByHand, 1 << 20);
    let s = session(&broker);
    let q = transient(&s, "q").await;
    let target = Target { kind: TargetKind::Queue, name: "q".to_owned() };
    let binding = Binding { source: "all".to_owned(), target, key: String::new(), arguments: Vec::new() };
    assert!(s.bind(&binding).await.unwrap());
    let mut m = text("", "a");
    m.message.exchange = "all".to_owned();
    assert_eq!(publish(&s, m.clone()).await.accepted, 1);
    s.delete_queue(q.id, false, false).await.unwrap();
    let gone = s.publish(vec![m]).await.unwrap().await.unwrap().remove(0).unwrap();
    assert!(!gone.routed);
    assert_eq!((broker.transient_bytes(), broker.marks().sequenced), (0, broker.marks().durable));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_a_transient_queue_is_handed_out_in_order() {
    let place = Place::new(33);
    let broker = open(&place, Commit::AtOnce, 1 << 30);
    let s = session(&broker);
    let q = transient(&s, "q").await;
    // More than windows and tails hold.
    let n = 200_000_u64;
    for from in (0..n).step_by(500) {
        let batch = (from..from + 500).map(|i| text("q", &i.to_string())).collect();
        s.publish(batch).await.unwrap().await.unwrap();
    }
    let mut next = 0;
    while next < n {
        let got = s.receive(now(&q, 5_000)).unwrap().await.unwrap().unwrap();
        for body in bodies(&broker, &got).await {
            assert_eq!(body, next.to_string());
            next += 1;
        }
        settle(&s, &got, Verb::Ack).await;
    }
    assert_eq!((ready(&s, &q).await, broker.transient_bytes()), (0, 0));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_memory_full_publishing_to_transient_queues_is_refused_and_to_others_goes_on() {
    let place = Place::new(34);
    let broker = open(&place, Commit::AtOnce, 10_000);
    let s = session(&broker);
    let (q, kept) = (transient(&s, "t").await, queue(&s, "kept").await);
    let large = "x".repeat(1_000);
    let mut n = 0;
    let refused = loop {
        match s.publish(vec![text("t", &large)]).await {
            Ok(published) => drop(published.await.unwrap()),
            Err(refused) => break refused,
        }
        n += 1;
    };
    assert_eq!((refused.why, refused.batch.len()), (Refused::MemoryFull, 1));
    assert!(n <= 10 && broker.transient_bytes() < 10_000 + 2_000, "{n}");
    assert_eq!(publish(&s, text("kept", &large)).await.accepted, 1);
    assert!(s.send(&q, vec![text("t", "a")]).await.is_err());
    let got = get(&s, &q).await;
    settle(&s, &got[..1], Verb::Ack).await;
    assert_eq!(publish(&s, text("t", "a")).await.accepted, 1);
    assert_eq!(ready(&s, &kept).await, 1);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_wait_in_their_queue_for_memory_that_a_transient_target_lacks() {
    let place = Place::new(35);
    let broker = open(&place, Commit::AtOnce, 4_000);
    let s = session(&broker);
    let dead = transient(&s, "dead").await;
    let mut new = NewQueue::named("q");
    new.dead_letter = Some(DeadLetter {
        exchange: String::new(),
        routing_key: Some("dead".to_owned()),
        at_least_once: false,
        not_expired: false,
        keeps_age: false,
    });
    let q = s.declare_queue(new).await.unwrap().def;
    let large = "x".repeat(1_000);
    let batch = (0..20).map(|_| text("q", &large)).collect();
    s.publish(batch).await.unwrap().await.unwrap();
    for _ in 0..2 {
        let got = get(&s, &q).await;
        settle(&s, &got, Verb::Reject).await;
    }
    // As the target is emptied, the rest comes, and none is lost.
    let mut taken = 0;
    while taken < 20 {
        let got = get(&s, &dead).await;
        assert!(broker.transient_bytes() < 4_000 + 20 * 2_000);
        settle(&s, &got, Verb::Ack).await;
        taken += got.len();
        tokio::task::yield_now().await;
    }
    assert_eq!((taken, s.queue_stats(q.id, false).await.unwrap().unwrap().held.n), (20, 0));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_memory_full_dead_letters_of_a_transient_queue_still_go_to_another() {
    let place = Place::new(36);
    let broker = open(&place, Commit::AtOnce, 4_000);
    let s = session(&broker);
    let dead = transient(&s, "dead").await;
    let mut new = NewQueue { durable: false, ..NewQueue::named("q") };
    new.dead_letter = Some(DeadLetter {
        exchange: String::new(),
        routing_key: Some("dead".to_owned()),
        at_least_once: false,
        not_expired: false,
        keeps_age: false,
    });
    let q = s.declare_queue(new).await.unwrap().def;
    let batch = (0..8).map(|_| text("q", &"x".repeat(1_000))).collect();
    s.publish(batch).await.unwrap().await.unwrap();
    assert!(broker.is_transient_full());
    let got = get(&s, &q).await;
    settle(&s, &got, Verb::Reject).await;
    // Nobody gives memory back: they take the place that they had.
    until_ready(&s, &dead, 8).await;
    close(broker).await;
}
