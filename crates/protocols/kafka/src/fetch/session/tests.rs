#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::fetch_request::{FetchTopic, ForgottenTopic};
use kafka_protocol::protocol::StrBytes;

use super::*;

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str("t"))
}

fn request(session: i32, epoch: i32, partitions: impl IntoIterator<Item = i32>) -> FetchRequest {
    let partitions: Vec<_> = partitions
        .into_iter()
        .map(|p| FetchPartition::default().with_partition(p).with_fetch_offset(7))
        .collect();
    let topics = if partitions.is_empty() {
        Vec::new()
    } else {
        vec![FetchTopic::default().with_topic(name()).with_partitions(partitions)]
    };
    FetchRequest::default().with_session_id(session).with_session_epoch(epoch).with_topics(topics)
}

fn sessions(most: usize, partitions_max: usize) -> Arc<Sessions> {
    Arc::new(Sessions::new(most, partitions_max))
}

/// A new session of these partitions; its id.
fn opened(s: &Arc<Sessions>, partitions: impl IntoIterator<Item = i32>) -> i32 {
    s.begin(&request(0, 0, partitions), false).map_err(|e| e.code()).unwrap().keep(s)
}

fn code(s: &Arc<Sessions>, r: &FetchRequest, by_id: bool) -> i16 {
    s.begin(r, by_id).map_or_else(|e| e.code(), |f| if f.len() == 0 { -2 } else { 0 })
}

fn nothing(high_watermark: i64) -> PartRead {
    PartRead { high_watermark, log_start: 0, ..PartRead::default() }
}

fn chosen(f: &mut Fetching, reads: &[PartRead]) -> Vec<i32> {
    f.choose(reads).into_iter().map(|(_, key)| key.partition).collect()
}

#[test]
fn epochs_follow_each_other_and_a_wrong_one_or_an_unknown_session_is_an_error() {
    let s = sessions(10, 100);
    let id = opened(&s, 0..3);
    assert!(id > 0);
    assert_eq!(code(&s, &request(id, 2, []), false), 71);
    assert_eq!(code(&s, &request(id, 1, []), false), 0);
    assert_eq!(code(&s, &request(id, 1, []), false), 71);
    assert_eq!(code(&s, &request(id, 2, []), false), 0);
    assert_eq!(code(&s, &request(id ^ 1, 1, []), false), 70);
    assert_eq!(code(&s, &request(id, 3, []), true), 106);
    assert_eq!(code(&s, &request(id, 3, []), false), 0);
}

#[test]
fn the_epoch_after_the_last_is_1() {
    assert_eq!((next_epoch(0), next_epoch(5), next_epoch(i32::MAX)), (1, 6, 1));
}

#[test]
fn a_full_request_ends_the_session_it_names() {
    let s = sessions(10, 100);
    for epoch in [EPOCH_INITIAL, EPOCH_FINAL] {
        let id = opened(&s, 0..3);
        let again = s.begin(&request(id, epoch, 0..3), false).map_err(|e| e.code()).unwrap().keep(&s);
        assert_eq!(again == NO_SESSION, epoch == EPOCH_FINAL);
        assert_eq!(code(&s, &request(id, 1, []), false), 70);
    }
}

#[test]
fn within_a_session_only_news_is_answered() {
    let s = sessions(10, 100);
    let mut first = s.begin(&request(0, 0, 0..3), false).map_err(|e| e.code()).unwrap();
    assert_eq!(chosen(&mut first, &[nothing(5), nothing(5), nothing(5)]), [0, 1, 2]);
    let id = first.keep(&s);
    let next = |epoch, reads: &[PartRead]| {
        let mut f = s.begin(&request(id, epoch, []), false).map_err(|e| e.code()).unwrap();
        chosen(&mut f, reads)
    };
    assert_eq!(next(1, &[nothing(5), nothing(5), nothing(5)]), Vec::<i32>::new());
    assert_eq!(next(2, &[nothing(5), nothing(6), nothing(5)]), [1]);
    let failed = PartRead { error: 1, ..PartRead::default() };
    assert_eq!(next(3, &[failed, nothing(6), nothing(5)]), [0]);
    // After an error the state is told again, then no more.
    assert_eq!(next(4, &[nothing(5), nothing(6), nothing(5)]), [0]);
    assert_eq!(next(5, &[nothing(5), nothing(6), nothing(5)]), Vec::<i32>::new());
}

#[test]
fn the_next_pass_begins_behind_the_last_part_that_gave_something() {
    let s = sessions(10, 100);
    let id = opened(&s, 0..4);
    let gave = || PartRead { bytes: 1, ..nothing(5) };
    {
        let mut f = s.begin(&request(id, 1, []), false).map_err(|e| e.code()).unwrap();
        assert_eq!(f.turn().collect::<Vec<_>>(), [0, 1, 2, 3]);
        f.choose(&[nothing(5), gave(), nothing(5), nothing(5)]);
    }
    let f = s.begin(&request(id, 2, []), false).map_err(|e| e.code()).unwrap();
    assert_eq!(f.turn().collect::<Vec<_>>(), [2, 3, 0, 1]);
}

#[test]
fn partitions_are_added_moved_and_forgotten_and_a_session_without_any_ends() {
    let s = sessions(10, 100);
    let id = opened(&s, 0..2);
    let forget =
        |partitions: Vec<i32>| vec![ForgottenTopic::default().with_topic(name()).with_partitions(partitions)];
    let f = s.begin(&request(id, 1, [1, 2]).with_forgotten_topics_data(forget(vec![0])), false);
    let f = f.map_err(|e| e.code()).unwrap();
    let mut there: Vec<_> = f.parts().map(|p| p.key.partition).collect();
    there.sort_unstable();
    assert_eq!(there, [1, 2]);
    drop(f);
    assert_eq!(s.lock().partitions, 2);
    let empty = s.begin(&request(id, 2, []).with_forgotten_topics_data(forget(vec![1, 2])), false);
    assert_eq!(empty.map_err(|e| e.code()).unwrap().keep(&s), NO_SESSION);
    assert_eq!(code(&s, &request(id, 3, []), false), 70);
    assert_eq!(s.lock().partitions, 0);
}

#[test]
fn a_fetch_that_is_dropped_halfway_gives_its_parts_back() {
    let s = sessions(10, 100);
    let id = opened(&s, 0..3);
    let working = s.begin(&request(id, 1, []), false).map_err(|e| e.code()).unwrap();
    // Another request meanwhile finds the session busy.
    assert_eq!(code(&s, &request(id, 2, []), false), 71);
    drop(working);
    assert_eq!(s.begin(&request(id, 2, []), false).map_err(|e| e.code()).unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn without_room_no_session_is_given_until_one_has_been_idle_for_long() {
    for (s, size) in [(sessions(2, 1_000), 10), (sessions(100, 20), 10)] {
        let first = opened(&s, 0..size);
        tokio::time::advance(Duration::from_secs(1)).await;
        opened(&s, 0..size);
        assert_eq!(opened(&s, 0..size), NO_SESSION);
        tokio::time::advance(EVICT_IDLE_MIN).await;
        let third = opened(&s, 0..size);
        assert!(third > 0);
        assert_eq!(code(&s, &request(first, 1, []), false), 70);
        assert_eq!(code(&s, &request(third, 1, []), false), 0);
    }
}

#[test]
fn a_session_cannot_grow_beyond_the_limit_of_all() {
    let s = sessions(10, 5);
    let id = opened(&s, 0..3);
    assert_eq!(code(&s, &request(id, 1, 3..6), false), 70);
    assert_eq!(s.lock().partitions, 0);
}

#[test]
fn ids_are_positive_and_differ() {
    let mut inner = Inner::default();
    let ids: std::collections::HashSet<i32> = (0..10_000).map(|_| inner.new_id()).collect();
    assert_eq!(ids.len(), 10_000);
    assert!(ids.iter().all(|id| *id > 0));
}
