//! Dead letters on their way back to where they came from.

use super::*;

async fn dead_letters(s: &Session, q: &QueueDef, dead: &QueueDef, payloads: &[&str]) {
    for p in payloads {
        publish(s, text("q", p)).await;
    }
    settle(s, &get(s, q).await, Verb::Reject).await;
    until_ready(s, dead, payloads.len() as u64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_takes_dead_letters_back_in_order_as_they_were_with_their_counts_at_zero() {
    let place = Place::new(31);
    let broker = place.open();
    let s = session(&broker);
    let dead = queue(&s, "dead").await;
    fanout(&s, "dlx", &[(TargetKind::Queue, "dead")]).await;
    let q = s.declare_queue(dying("q", "dlx", None)).await.unwrap().def;
    dead_letters(&s, &q, &dead, &["a", "b", "c", "d"]).await;
    let all = Redrive { from: dead.id, to: None, max: Some(3), per_second: Some(1_000) };
    let done = broker.redrive(Namespace::DEFAULT, all.clone()).unwrap().await.unwrap();
    assert_eq!(done, Redriven { moved: 3, ..Redriven::default() });
    assert_eq!((ready(&s, &q).await, ready(&s, &dead).await), (3, 1));
    let got = get(&s, &q).await;
    assert_eq!(bodies(&broker, &got).await, ["a", "b", "c"]);
    assert!(got.iter().all(|d| (d.deliveries, d.attempts, d.redelivered) == (1, 0, false)));
    let read = broker.read_bodies(&got).await.remove(0).unwrap();
    assert_eq!((&*read.message.exchange, &*read.message.routing_key), ("", "q"));
    assert_eq!(read.message.deaths.len(), 1);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_leaves_what_has_no_queue_to_go_to_in_its_place_and_takes_the_rest() {
    let place = Place::new(32);
    let broker = place.open();
    let s = session(&broker);
    let dead = queue(&s, "dead").await;
    fanout(&s, "dlx", &[(TargetKind::Queue, "dead")]).await;
    let q = s.declare_queue(dying("q", "dlx", None)).await.unwrap().def;
    publish(&s, text("dead", "straight")).await;
    publish(&s, text("q", "a")).await;
    settle(&s, &get(&s, &q).await, Verb::Reject).await;
    until_ready(&s, &dead, 2).await;
    let all =
        |to: Option<&str>| Redrive { from: dead.id, to: to.map(str::to_owned), max: None, per_second: None };
    let done = broker.redrive(Namespace::DEFAULT, all(None)).unwrap().await.unwrap();
    assert_eq!(done, Redriven { moved: 1, homeless: 1, ..Redriven::default() });
    assert_eq!((ready(&s, &q).await, ready(&s, &dead).await), (1, 1));
    let full = QueuePolicy { messages_max: Some(0), overflow: Overflow::Reject, ..QueuePolicy::default() };
    s.declare_queue(NewQueue { policy: full, ..NewQueue::named("full") }).await.unwrap();
    let done = broker.redrive(Namespace::DEFAULT, all(Some("full"))).unwrap().await.unwrap();
    assert_eq!(done, Redriven { refused: 1, ..Redriven::default() });
    let done = broker.redrive(Namespace::DEFAULT, all(Some("q"))).unwrap().await.unwrap();
    assert_eq!(done, Redriven { moved: 1, ..Redriven::default() });
    assert_eq!(bodies(&broker, &get(&s, &q).await).await, ["a", "straight"]);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_redrive_held_when_the_broker_died_is_back_in_its_place() {
    let place = Place::new(33);
    let broker = place.open();
    let s = session(&broker);
    let dead = queue(&s, "dead").await;
    for p in ["a", "b", "c"] {
        publish(&s, text("dead", p)).await;
    }
    let permit = s.admit(Class::Settle, 4_096).await.unwrap();
    let held = s.submit(Some(permit), Op::Queue(QueueOp::Hold { queue: dead.id, max: 2 })).await;
    assert!(matches!(held, Reply::Queue(QueueReply::Held(Some(h))) if h.len() == 2));
    drop(s);
    close(broker).await;
    let broker = place.open();
    let s = session(&broker);
    until_ready(&s, &dead, 3).await;
    assert_eq!(bodies(&broker, &get(&s, &dead).await).await, ["a", "b", "c"]);
    close(broker).await;
}
