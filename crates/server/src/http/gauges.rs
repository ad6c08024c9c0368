//! Gauges of the broker, read when `/metrics` is asked for: the log's marks, each partition's offsets, each group's lag.

use std::sync::atomic::AtomicU64;

use futures_util::future::join_all;
use millstream_broker::group::{GroupInfo, GroupOp, GroupReply, GroupState};
use millstream_broker::queue::api::{QueueStats, TopicCounts};
use millstream_broker::{Broker, Session};
use millstream_types::Namespace;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge as AnyGauge;
use prometheus_client::registry::Registry;

use super::ApiError;
use super::groups::UNEXPECTED;

/// Groups whose lag is told, in the order of their names: one answer must not hold up the broker.
const GROUPS_MAX: usize = 1_000;
/// Likewise queues.
const QUEUES_MAX: usize = 1_000;

type Gauge = AnyGauge<u64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PartitionEnd {
    topic: String,
    partition: u32,
    end: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GroupPartition {
    group: String,
    topic: String,
    partition: u32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InQueue {
    queue: String,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueueName {
    queue: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Fate {
    fate: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Group {
    group: String,
}

/// The groups to be told of.
pub async fn groups(session: &Session) -> Result<Vec<GroupInfo>, ApiError> {
    let ns = Namespace::DEFAULT;
    let GroupReply::List(list) = session.group(GroupOp::List { ns }).await? else {
        return Err(ApiError::unavailable(UNEXPECTED));
    };
    let mut groups: Vec<String> =
        list.into_iter().filter(|g| g.state != GroupState::Dead).map(|g| g.group).collect();
    groups.sort_unstable();
    groups.truncate(GROUPS_MAX);
    match session.group(GroupOp::Describe { ns, groups }).await? {
        GroupReply::Describe(infos) => Ok(infos.into_iter().flatten().collect()),
        _ => Err(ApiError::unavailable(UNEXPECTED)),
    }
}

/// The queues to be told of, and what is in them.
pub async fn queues(session: &Session) -> Result<Vec<(String, QueueStats)>, ApiError> {
    let mut defs = session.broker().queues(Namespace::DEFAULT);
    defs.truncate(QUEUES_MAX);
    let all = join_all(defs.iter().map(|d| session.queue_stats(d.id, false))).await;
    let mut told = Vec::new();
    for (def, stats) in defs.iter().zip(all) {
        if let Some(stats) = stats? {
            told.push((def.name.clone(), stats));
        }
    }
    Ok(told)
}

fn contents(r: &mut Registry, broker: &Broker, queues: &[(String, QueueStats)]) {
    let (messages, bytes) = (Family::<InQueue, Gauge>::default(), Family::<InQueue, Gauge>::default());
    let consumers = Family::<QueueName, Gauge>::default();
    let topic = Family::<Vec<(&str, String)>, Gauge>::default();
    for (queue, s) in queues {
        let states = [("ready", s.ready), ("leased", s.leased), ("scheduled", s.scheduled), ("held", s.held)];
        for (state, tally) in states.into_iter().chain([("parked", s.parked)]) {
            let labels = InQueue { queue: queue.clone(), state };
            messages.get_or_create(&labels).set(tally.n);
            bytes.get_or_create(&labels).set(tally.bytes);
        }
        consumers.get_or_create(&QueueName { queue: queue.clone() }).set(u64::from(s.consumers));
        let TopicCounts { lost, skipped, unreadable } = s.topic;
        for (why, n) in [("retention", lost), ("skipped", skipped), ("unreadable", unreadable)] {
            if n > 0 {
                topic.get_or_create(&vec![("queue", queue.clone()), ("why", why.to_owned())]).set(n);
            }
        }
    }
    r.register("queue_messages", "Messages in a queue, by state", messages);
    r.register("queue_payload_bytes", "Payload bytes in a queue, by state", bytes);
    r.register("queue_consumers", "Consumers of a queue", consumers);
    r.register(
        "queue_topic_records",
        "Records of its topic that a subscription did not hand out, by why",
        topic,
    );
    let dead = broker.dead_letters();
    let counts = Family::<Fate, Gauge>::default();
    for (fate, n) in [("settled", dead.settled), ("untargeted", dead.untargeted), ("cycled", dead.cycled)] {
        counts.get_or_create(&Fate { fate }).set(n);
    }
    r.register("dead_letters", "Dead messages since the broker was opened, by what became of them", counts);
}

/// Puts everything in, as it is now.
pub fn register(r: &mut Registry, broker: &Broker, groups: &[GroupInfo], queues: &[(String, QueueStats)]) {
    let mut one = |name: &str, help: &str, value: u64| {
        let gauge = Gauge::default();
        gauge.set(value);
        r.register(name, help, gauge);
    };
    let marks = broker.marks();
    one("log_sequenced_lsn", "Last commit record put in order", marks.sequenced.0);
    one("log_durable_lsn", "Last commit record that survives a crash", marks.durable.0);
    one("log_epoch", "Openings of this data directory", broker.epoch().0);
    let log = broker.log_stats();
    one("log_merges", "Packs written since the start: what still lived in mostly dead files", log.merges());
    one("log_merged_bytes", "Bytes of packs written since the start", log.merged_bytes());
    one("log_merge_failures", "Merges given up since the start", log.merge_failures());
    one("log_merge_budget_bytes", "Bytes that merges may write now", log.merge_budget_bytes());
    one("log_freed_files", "Files of the log freed since the start", log.freed_files());
    one("log_live_bytes", "What lives in files with an index and in packs", log.live_bytes());
    one("log_dead_bytes", "What does not live in them, frames and indexes included", log.dead_bytes());
    one("log_spared_bytes", "Of that, in files that would soon be dead by themselves", log.spared_bytes());
    one("log_unindexed_bytes", "Segment files in use, or full and without an index", log.unindexed_bytes());
    one("log_leaving_bytes", "Files without an index in which nothing lives", log.leaving_bytes());
    let room = broker.room();
    one("message_ids", "Ids of messages that are remembered", broker.ids_remembered() as u64);
    one("transient_bytes", "Memory that messages of transient queues take", broker.transient_bytes());
    one("disk_full", "1 while publishing is held for want of room", u64::from(broker.is_full()));
    one("disk_free_bytes", "Free on the file system of the data directory", room.free_bytes);
    one("disk_reserve_bytes", "Publishing is held below so many free bytes", room.reserve_bytes);
    one("disk_needed_bytes", "To come free before publishing goes on; 0 = it does", room.needed_bytes);
    one("log_ready_files", "Segment files prepared ahead", room.ready_files);
    one("log_free_files", "Segment files kept to be written again", room.free_files);
    let refused = Counter::<u64>::default();
    refused.inc_by(broker.refused_for_room());
    let catalogue = broker.catalogue();
    one("topics", "Topics", catalogue.by_uuid.len() as u64);
    one("partitions", "Partitions", catalogue.by_log.len() as u64);
    one("groups", "Consumer groups", groups.len() as u64);
    one("queues", "Queues", broker.queues(Namespace::DEFAULT).len() as u64);
    r.register("refused_full_disk", "Operations refused for want of room", refused);
    partitions(r, broker);
    contents(r, broker, queues);
    lags(r, broker, groups);
}

fn partitions(r: &mut Registry, broker: &Broker) {
    let (offsets, bytes) = (Family::<PartitionEnd, Gauge>::default(), Family::<_, Gauge>::default());
    for topic in broker.catalogue().by_name.values() {
        for (partition, part) in (0..).zip(&topic.partitions) {
            let name = &topic.def.name;
            for (end, value) in [("start", part.start()), ("visible", part.visible_end())] {
                offsets.get_or_create(&PartitionEnd { topic: name.clone(), partition, end }).set(value);
            }
            let held = broker.streams().bytes(part);
            bytes
                .get_or_create(&vec![("topic", name.clone()), ("partition", partition.to_string())])
                .set(held);
        }
    }
    r.register("partition_offset", "First retained offset, and one past the last visible", offsets);
    r.register("partition_held_bytes", "Bytes held", bytes);
}

fn lags(r: &mut Registry, broker: &Broker, groups: &[GroupInfo]) {
    let (lag, members) = (Family::<GroupPartition, Gauge>::default(), Family::<Group, Gauge>::default());
    let catalogue = broker.catalogue();
    for info in groups {
        let group = info.summary.group.clone();
        for (log, committed) in &info.offsets {
            let Some((topic, partition)) = catalogue.by_log.get(log) else { continue };
            let Some(part) = topic.partitions.get(*partition as usize) else { continue };
            let behind = part.visible_end().saturating_sub(committed.offset);
            let (topic, partition) = (topic.def.name.clone(), *partition);
            lag.get_or_create(&GroupPartition { group: group.clone(), topic, partition }).set(behind);
        }
        members.get_or_create(&Group { group }).set(info.members.len() as u64);
    }
    r.register("group_lag", "Records between a group's committed offset and the end", lag);
    r.register("group_members", "Members of a group", members);
}
