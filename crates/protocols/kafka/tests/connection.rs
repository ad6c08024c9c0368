//! What a connection promises: order, durability before the answer, and nothing left behind.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use millstream_testkit::log::mem::Commit;
use millstream_types::{Lsn, Namespace};
use support::*;
use tokio::io::AsyncWriteExt;

const SLOW: i32 = 600_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_produce_is_answered_and_can_be_fetched_only_once_it_is_durable() {
    let server = Server::start(Commit::ByHand, |_| {}).await;
    server.topic("t").await;
    let before = server.broker.marks().sequenced.0;
    let (mut writer, mut reader) = (server.client().await, server.client().await);
    writer.send(9, &produce("t", -1, b"x")).await;
    server.sequenced(before + 1).await;
    assert_eq!(fetched(&reader.call(12, &fetch("t", 0, 0)).await), (0, 0, 0));
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(50), writer.stream.peek(&mut byte)).await;
    assert!(early.is_err(), "answered before it was durable");
    server.log.commit_to(Lsn(u64::MAX));
    let (_, response) = writer.receive::<ProduceResponse>(9).await;
    assert_eq!(produced(&response), (0, 0));
    assert_eq!(fetched(&reader.call(12, &fetch("t", 0, 0)).await), (0, 1, batch(b"x").len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_commit_is_answered_only_once_it_is_durable() {
    let server = Server::start(Commit::ByHand, |_| {}).await;
    server.topic("t").await;
    let before = server.broker.marks().sequenced.0;
    let mut client = server.client().await;
    client.send(8, &commit("t", 5)).await;
    server.sequenced(before + 1).await;
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(50), client.stream.peek(&mut byte)).await;
    assert!(early.is_err(), "answered before it was durable");
    server.log.commit_to(Lsn(u64::MAX));
    let (_, response) = client.receive::<OffsetCommitResponse>(8).await;
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

fn commit(topic: &'static str, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_topics(vec![topic])
}

#[tokio::test(flavor = "multi_thread")]
async fn many_produces_are_on_their_way_before_the_first_is_answered_and_answers_keep_their_order() {
    let server = Server::start(Commit::ByHand, |_| {}).await;
    server.topic("t").await;
    let before = server.broker.marks().sequenced.0;
    let mut client = server.client().await;
    for n in 0..20_u8 {
        client.send(9, &produce("t", -1, &[n])).await;
    }
    // Behind them something that needs no disk: it must not pass.
    let last = client.send(0, &ApiVersionsRequest::default()).await;
    server.sequenced(before + 20).await;
    server.log.commit_to(Lsn(u64::MAX));
    for n in 0..20 {
        let (correlation, response) = client.receive::<ProduceResponse>(9).await;
        assert_eq!((correlation, produced(&response)), (n + 1, (0, i64::from(n))));
    }
    let (correlation, _) = client.receive::<ApiVersionsResponse>(0).await;
    assert_eq!(correlation, last);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_produce_sent_right_behind_the_making_of_its_topic_finds_it() {
    let server = Server::start(Commit::ByHand, |_| {}).await;
    let mut client = server.client().await;
    let mut both = client.frame(7, &create("t")).to_vec();
    both.extend(client.frame(9, &produce("t", -1, b"x")));
    client.stream.write_all(&both).await.unwrap();
    let (made, stored) = server
        .committing(async {
            (client.receive::<CreateTopicsResponse>(7).await.1, client.receive::<ProduceResponse>(9).await.1)
        })
        .await;
    assert_eq!(made.topics[0].error_code, 0);
    assert_eq!(produced(&stored), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_produce_passes_a_waiting_fetch_of_its_connection_and_wakes_it() {
    let server = Server::start(Commit::AtOnce, |_| {}).await;
    server.topic("t").await;
    let mut client = server.client().await;
    client.send(12, &fetch("t", 0, SLOW)).await;
    client.send(9, &produce("t", -1, b"x")).await;
    let (correlation, response) = client.receive::<FetchResponse>(12).await;
    assert_eq!((correlation, fetched(&response)), (1, (0, 1, batch(b"x").len())));
    assert_eq!(produced(&client.receive::<ProduceResponse>(9).await.1), (0, 0));
}

/// What issue 3 asks of a fetch: "Many partitions in one request cost one wake-up." That it is one is counted in the broker's tests
/// (`a_commit_to_many_partitions_wakes_...`).
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_of_many_partitions_is_answered_with_all_that_one_commit_brought() {
    const PARTITIONS: i32 = 500;
    let server = Server::start(Commit::ByHand, |_| {}).await;
    let mut client = server.client().await;
    let mut wide = create("wide");
    wide.topics[0].num_partitions = PARTITIONS;
    server.committing(client.call(7, &wide)).await;
    let mut all = fetch("wide", 0, SLOW);
    all.topics[0].partitions = (0..PARTITIONS)
        .map(|p| all.topics[0].partitions[0].clone().with_partition(p).with_partition_max_bytes(1 << 10))
        .collect();
    let mut writes = produce("wide", -1, b"x");
    writes.topic_data[0].partition_data =
        (0..PARTITIONS).map(|p| writes.topic_data[0].partition_data[0].clone().with_index(p)).collect();
    let before = server.broker.marks().sequenced.0;
    client.send(12, &all).await;
    client.send(9, &writes).await;
    server.sequenced(before + 1).await;
    server.log.commit_to(Lsn(u64::MAX));
    let (_, response) = client.receive::<FetchResponse>(12).await;
    let parts = &response.responses[0].partitions;
    let given = parts.iter().filter(|p| p.records.as_ref().is_some_and(|r| !r.is_empty())).count();
    assert_eq!(given, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_no_waiting_fetch_or_join_behind() {
    let server = Server::start(Commit::AtOnce, |_| {}).await;
    server.topic("t").await;
    let mut reader = server.client().await;
    reader.send(12, &fetch("t", 0, SLOW)).await;
    // A second member waits for the first to join again, which it never does.
    let mut members = Vec::new();
    for _ in 0..2 {
        let mut member = server.client().await;
        member.send(2, &join()).await;
        members.push(member);
    }
    until(|| server.counts.opened.load(Ordering::SeqCst) == 4).await;
    drop((reader, members));
    until(|| server.counts.closed.load(Ordering::SeqCst) == 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_batch_that_does_not_fit_a_response_no_other_partition_is_read_and_the_next_fetch_goes_on_there()
 {
    let server = Server::start(Commit::AtOnce, |_| {}).await;
    let mut client = server.client().await;
    for (topic, value) in [("a", &b"1"[..]), ("b", &[2; 40]), ("c", b"3")] {
        server.topic(topic).await;
        assert_eq!(produced(&client.call(9, &produce(topic, -1, value)).await), (0, 0));
    }
    let (small, large) = (batch(b"1").len(), batch(&[2; 40]).len());
    let mut all = fetch("a", 0, 0).with_max_bytes((small * 2) as i32).with_session_epoch(0);
    for topic in ["b", "c"] {
        all.topics.extend(fetch(topic, 0, 0).topics);
    }
    let bytes = |r: &FetchResponse| -> Vec<(String, usize)> {
        let of = |p: &fetch_response::PartitionData| p.records.as_ref().map_or(0, |r| r.len());
        r.responses.iter().map(|t| (t.topic.to_string(), of(&t.partitions[0]))).collect()
    };
    let first: FetchResponse = client.call(12, &all).await;
    assert_eq!(bytes(&first), [("a".to_owned(), small), ("b".to_owned(), 0), ("c".to_owned(), 0)]);
    let mut next = fetch("a", 1, 0).with_max_bytes((small * 2) as i32);
    next = next.with_session_id(first.session_id).with_session_epoch(1);
    let second: FetchResponse = client.call(12, &next).await;
    assert_eq!(bytes(&second), [("b".to_owned(), large)]);
}

fn join() -> JoinGroupRequest {
    use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
    let protocol = JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str("range"));
    JoinGroupRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_session_timeout_ms(300_000)
        .with_rebalance_timeout_ms(SLOW)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_the_client_closed_is_still_carried_out() {
    let server = Server::start(Commit::AtOnce, |_| {}).await;
    server.topic("t").await;
    let mut client = server.client().await;
    let mut all = client.frame(12, &fetch("t", 0, SLOW)).to_vec();
    all.extend(client.frame(7, &create("late")));
    all.extend(client.frame(8, &commit("t", 9)));
    client.stream.write_all(&all).await.unwrap();
    drop(client);
    let there = (Namespace::DEFAULT, "late".to_owned());
    until(|| server.broker.catalogue().by_name.contains_key(&there)).await;
    until(|| server.counts.closed.load(Ordering::SeqCst) == 2).await;
    let mut client = server.client().await;
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_topics(None);
    let response = client.call(7, &request).await;
    assert_eq!(response.topics[0].partitions[0].committed_offset, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_0_gets_no_answer_and_its_error_closes_the_connection_after_earlier_answers() {
    let server = Server::start(Commit::AtOnce, |_| {}).await;
    server.topic("t").await;
    let mut client = server.client().await;
    client.send(9, &produce("t", 0, b"a")).await;
    assert_eq!(produced(&client.call(9, &produce("t", 1, b"b")).await), (0, 1));
    let mut both = client.frame(9, &produce("t", 1, b"c")).to_vec();
    both.extend(client.frame(9, &produce("nowhere", 0, b"d")));
    client.stream.write_all(&both).await.unwrap();
    assert_eq!(produced(&client.receive::<ProduceResponse>(9).await.1), (0, 2));
    assert!(client.frame_back().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn if_the_log_is_lost_the_waiting_produce_gets_no_answer_but_a_closed_connection() {
    let server = Server::start(Commit::ByHand, |_| {}).await;
    server.topic("t").await;
    let before = server.broker.marks().sequenced.0;
    let mut client = server.client().await;
    client.send(9, &produce("t", -1, b"x")).await;
    server.sequenced(before + 1).await;
    server.log.lose("the test says so");
    assert!(client.frame_back().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_listener_answers_what_it_has_read() {
    let mut server = Server::start(Commit::ByHand, |_| {}).await;
    server.topic("t").await;
    let before = server.broker.marks().sequenced.0;
    let (mut writer, mut reader) = (server.client().await, server.client().await);
    writer.send(9, &produce("t", -1, b"x")).await;
    reader.send(12, &fetch("t", 0, SLOW)).await;
    server.sequenced(before + 1).await;
    until(|| server.counts.opened.load(Ordering::SeqCst) == 3).await;
    server.stop.take().unwrap().send(()).unwrap();
    let (stored, ()) = tokio::join!(writer.receive::<ProduceResponse>(9), async {
        assert!(reader.frame_back().await.is_none(), "a waiting fetch ends");
        server.log.commit_to(Lsn(u64::MAX));
    });
    assert_eq!(produced(&stored.1), (0, 0));
    (&mut server.serving).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_and_the_others_stay() {
    let server = Server::start(Commit::AtOnce, |c| c.connections_max = 2).await;
    let (mut one, mut two) = (server.client().await, server.client().await);
    one.call(0, &ApiVersionsRequest::default()).await;
    two.call(0, &ApiVersionsRequest::default()).await;
    let mut three = server.client().await;
    assert!(three.frame_back().await.is_none());
    one.call(0, &ApiVersionsRequest::default()).await;
    drop(two);
    until(|| server.counts.closed.load(Ordering::SeqCst) == 1).await;
    assert_eq!(server.counts.refused.load(Ordering::SeqCst), 1);
    server.client().await.call(0, &ApiVersionsRequest::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_nothing_comes_is_closed_unless_it_waits_for_an_answer() {
    let server = Server::start(Commit::AtOnce, |c| c.idle_max = Duration::from_millis(30)).await;
    server.topic("t").await;
    let (mut silent, mut waiting) = (server.client().await, server.client().await);
    waiting.send(12, &fetch("t", 0, 300)).await;
    assert!(silent.frame_back().await.is_none());
    assert_eq!(fetched(&waiting.receive::<FetchResponse>(12).await.1), (0, 0, 0));
    assert!(waiting.frame_back().await.is_none());
}

fn group() -> GroupId {
    GroupId(StrBytes::from_static_str("g"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_sent_behind_a_waiting_join_is_decided_in_its_own_generation_and_answered_behind_the_join() {
    let server = Server::start(Commit::AtOnce, |_| {}).await;
    server.topic("t").await;
    let (mut one, mut two, mut three) = (server.client().await, server.client().await, server.client().await);
    let first = one.call(2, &join()).await;
    let id = first.member_id;
    two.send(2, &join()).await;
    let beat = |generation| {
        let beat = HeartbeatRequest::default().with_group_id(group()).with_member_id(id.clone());
        beat.with_generation_id(generation)
    };
    // Two is in the group once one's generation is over.
    let sync = SyncGroupRequest::default().with_group_id(group()).with_member_id(id.clone());
    one.call(2, &sync.with_generation_id(first.generation_id)).await;
    while one.call(2, &beat(first.generation_id)).await.error_code != 27 {}
    let second = one.call(2, &join().with_member_id(id.clone())).await;
    let joined = two.receive::<JoinGroupResponse>(2).await.1;
    assert_eq!(joined.generation_id, second.generation_id);
    // Three makes both join again; one does, and waits for two.
    three.send(2, &join()).await;
    let mut sent = one.frame(2, &join().with_member_id(id.clone())).to_vec();
    let commit = commit("t", 3).with_member_id(id.clone());
    sent.extend(one.frame(8, &commit.with_generation_id_or_member_epoch(second.generation_id)));
    let mut look = server.client().await;
    while look.call(4, &describe()).await.groups[0].group_state.as_str() != "PreparingRebalance" {}
    one.stream.write_all(&sent).await.unwrap();
    let asked = OffsetFetchRequest::default().with_group_id(group()).with_topics(None);
    while look.call(7, &asked).await.topics.is_empty() {}
    two.send(2, &join().with_member_id(joined.member_id)).await;
    assert_eq!(one.receive::<JoinGroupResponse>(2).await.1.generation_id, second.generation_id + 1);
    assert_eq!(one.receive::<OffsetCommitResponse>(8).await.1.topics[0].partitions[0].error_code, 0);
}

/// What issue 3 asks of groups: "After a restart members go on without a rebalance."
#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_a_member_goes_on_in_its_generation_with_its_offsets() {
    let server = Server::start(Commit::AtOnce, |_| {}).await;
    server.topic("t").await;
    let mut member = server.client().await;
    let joined = member.call(2, &join()).await;
    let (id, generation) = (joined.member_id, joined.generation_id);
    let sync = SyncGroupRequest::default().with_group_id(group()).with_member_id(id.clone());
    member.call(2, &sync.with_generation_id(generation)).await;
    let of_member = |offset| {
        commit("t", offset).with_member_id(id.clone()).with_generation_id_or_member_epoch(generation)
    };
    let code = |r: &OffsetCommitResponse| r.topics[0].partitions[0].error_code;
    assert_eq!(code(&member.call(8, &of_member(5)).await), 0);

    let server = server.restart().await;
    let mut member = server.client().await;
    let described = member.call(4, &describe()).await;
    assert_eq!(described.groups[0].group_state.as_str(), "Stable");
    assert_eq!(described.groups[0].members[0].member_id, id);
    let beat = HeartbeatRequest::default().with_group_id(group()).with_member_id(id.clone());
    assert_eq!(member.call(2, &beat.with_generation_id(generation)).await.error_code, 0);
    let asked = OffsetFetchRequest::default().with_group_id(group()).with_topics(None);
    let found = member.call(7, &asked).await;
    assert_eq!(found.topics[0].partitions[0].committed_offset, 5);
    assert_eq!(code(&member.call(8, &of_member(6)).await), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_epoch_goes_up_with_a_restart_and_the_one_before_keeps_its_end() {
    use kafka_protocol::messages::offset_for_leader_epoch_request::{
        OffsetForLeaderPartition, OffsetForLeaderTopic,
    };
    let mut server = Server::start(Commit::AtOnce, |_| {}).await;
    server.topic("t").await;
    let mut epochs = Vec::new();
    for offset in 0..3 {
        let mut client = server.client().await;
        assert_eq!(produced(&client.call(9, &produce("t", -1, b"x")).await), (0, offset));
        let response = client.call(12, &fetch("t", offset, 0)).await;
        let records = response.responses[0].partitions[0].records.clone().unwrap();
        epochs.push(i32::from_be_bytes(records[12..16].try_into().unwrap()));
        server = server.restart().await;
    }
    assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
    let mut client = server.client().await;
    for (epoch, end) in epochs.iter().zip(1..) {
        let partition = OffsetForLeaderPartition::default().with_leader_epoch(*epoch);
        let topic = OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![partition]);
        let asked = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let told = client.call(4, &asked).await;
        let told = &told.topics[0].partitions[0];
        assert_eq!((told.error_code, told.leader_epoch, told.end_offset), (0, *epoch, end));
    }
}

fn describe() -> DescribeGroupsRequest {
    DescribeGroupsRequest::default().with_groups(vec![group()])
}
