//! Dead letters on their way back to where they came from.

use millstream_broker::{REDRIVES_OF_QUEUE_MAX, RedriveError, RedriveFailure, RedriveState, RedriveTask};

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

/// So many messages in `dead`, numbered, and an empty queue `back`.
async fn numbered(s: &Session, n: usize) -> (Arc<QueueDef>, Arc<QueueDef>) {
    let (dead, back) = (queue(s, "dead").await, queue(s, "back").await);
    for i in 0..n {
        publish(s, text("dead", &i.to_string())).await;
    }
    (dead, back)
}

fn to_back(dead: &QueueDef, per_second: Option<u32>) -> Redrive {
    Redrive { from: dead.id, to: Some("back".to_owned()), max: None, per_second }
}

async fn until_redrive(s: &Session, name: &str, enough: impl Fn(&RedriveTask) -> bool) -> RedriveTask {
    let found = async {
        loop {
            let task = s.find_redrive(name).await.unwrap();
            if enough(&task) {
                return task;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.expect("the redrive")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_is_a_task_goes_on_after_a_restart_with_its_counts() {
    let place = Place::new(34);
    let broker = place.open();
    let s = session(&broker);
    let (dead, _) = numbered(&s, 600).await;
    let begun = s.start_redrive("r", to_back(&dead, Some(50))).await.unwrap();
    assert_eq!((begun.what.max, begun.done.moved, begun.state), (Some(600), 0, RedriveState::Running));
    assert_eq!(s.start_redrive("other", to_back(&dead, None)).await.unwrap_err(), RedriveError::Running);
    let before = until_redrive(&s, "r", |t| t.done.moved > 0).await;
    drop(s);
    close(broker).await;
    let broker = place.open();
    let s = session(&broker);
    let after = s.find_redrive("r").await.unwrap();
    assert!(after.done.moved >= before.done.moved && after.state == RedriveState::Running, "{after:?}");
    let back = s.queue("back").unwrap();
    until_redrive(&s, "r", |t| t.done.moved > after.done.moved).await;
    let cancelled = s.cancel_redrive("r").await.unwrap();
    assert_eq!(cancelled.state, RedriveState::Cancelled);
    assert_eq!(s.cancel_redrive("r").await.unwrap_err(), RedriveError::Ended);
    until_ready(&s, &dead, 600 - cancelled.done.moved).await;
    s.start_redrive("rest", to_back(&dead, None)).await.unwrap();
    let rest = until_redrive(&s, "rest", |t| t.state != RedriveState::Running).await;
    assert_eq!((rest.done.moved, rest.state), (600 - cancelled.done.moved, RedriveState::Completed));
    assert_eq!(
        s.redrives(dead.id).await.unwrap().iter().map(|t| &*t.name).collect::<Vec<_>>(),
        ["rest", "r"]
    );
    assert_eq!((ready(&s, &back).await, ready(&s, &dead).await), (600, 0));
    let mut got = Vec::new();
    while got.len() < 600 {
        got.extend(bodies(&broker, &get(&s, &back).await).await);
    }
    assert_eq!(got, (0..600).map(|i| i.to_string()).collect::<Vec<_>>());
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_is_a_task_says_what_it_left_and_why() {
    let place = Place::new(35);
    let broker = place.open();
    let s = session(&broker);
    let (dead, _) = numbered(&s, 3).await;
    let homeless = Redrive { to: None, ..to_back(&dead, None) };
    s.start_redrive("a", homeless).await.unwrap();
    let ended = until_redrive(&s, "a", |t| t.state != RedriveState::Running).await;
    assert_eq!((ended.done.moved, ended.state), (0, RedriveState::Failed(RedriveFailure::Homeless)));
    let full = QueuePolicy { messages_max: Some(2), overflow: Overflow::Reject, ..QueuePolicy::default() };
    s.declare_queue(NewQueue { policy: full, ..NewQueue::named("full") }).await.unwrap();
    s.start_redrive("b", Redrive { to: Some("full".to_owned()), ..to_back(&dead, None) }).await.unwrap();
    let ended = until_redrive(&s, "b", |t| t.state != RedriveState::Running).await;
    assert_eq!((ended.done.moved, ended.state), (2, RedriveState::Failed(RedriveFailure::Refused)));
    until_ready(&s, &dead, 1).await;
    assert_eq!(s.find_redrive("c").await.unwrap_err(), RedriveError::NotFound);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_queues_redrives_the_latest_are_remembered() {
    let place = Place::new(36);
    let broker = place.open();
    let s = session(&broker);
    let (dead, _) = numbered(&s, 0).await;
    for n in 0..=REDRIVES_OF_QUEUE_MAX {
        s.start_redrive(&n.to_string(), to_back(&dead, None)).await.unwrap();
        until_redrive(&s, &n.to_string(), |t| t.state == RedriveState::Completed).await;
    }
    let names: Vec<String> = s.redrives(dead.id).await.unwrap().into_iter().map(|t| t.name).collect();
    let latest: Vec<String> = (1..=REDRIVES_OF_QUEUE_MAX).rev().map(|n| n.to_string()).collect();
    assert_eq!(names, latest);
    close(broker).await;
}
