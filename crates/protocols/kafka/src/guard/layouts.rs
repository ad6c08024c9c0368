//! The requests' layouts by version, as the protocol's message definitions give them. Only sizes matter here.

use super::{Field, Kind, Layout, Tag};
use crate::versions as v;

const MAX: i16 = i16::MAX;
const INT8: Kind = Kind::Fixed(1);
const INT16: Kind = Kind::Fixed(2);
const INT32: Kind = Kind::Fixed(4);
const INT64: Kind = Kind::Fixed(8);
const NO_TAGS: &[Tag] = &[];

const fn f(kind: Kind) -> Field {
    Field { kind, since: 0, until: MAX }
}
const fn since(since: i16, kind: Kind) -> Field {
    Field { kind, since, until: MAX }
}
const fn only(since: i16, until: i16, kind: Kind) -> Field {
    Field { kind, since, until }
}
const fn layout(fields: &'static [Field]) -> Layout {
    Layout { fields, tags: NO_TAGS }
}

static PRODUCE: Layout = layout(&[f(Kind::Text), f(INT16), f(INT32), f(Kind::Each(&PRODUCE_TOPIC))]);
static PRODUCE_TOPIC: Layout =
    layout(&[only(0, 12, Kind::Text), since(13, Kind::Id), f(Kind::Each(&PRODUCE_PARTITION))]);
static PRODUCE_PARTITION: Layout = layout(&[f(INT32), f(Kind::Blob)]);

static FETCH: Layout = Layout {
    fields: &[
        only(0, 14, INT32),
        f(INT32),
        f(INT32),
        f(INT32),
        f(INT8),
        since(7, INT32),
        since(7, INT32),
        f(Kind::Each(&FETCH_TOPIC)),
        since(7, Kind::Each(&FETCH_FORGOTTEN)),
        since(11, Kind::Text),
    ],
    tags: &[
        Tag { number: 0, since: 12, kind: Kind::Text },
        Tag { number: 1, since: 15, kind: Kind::One(&FETCH_REPLICA) },
    ],
};
static FETCH_REPLICA: Layout = layout(&[f(INT32), f(INT64)]);
static FETCH_TOPIC: Layout =
    layout(&[only(0, 12, Kind::Text), since(13, Kind::Id), f(Kind::Each(&FETCH_PARTITION))]);
static FETCH_PARTITION: Layout = Layout {
    fields: &[f(INT32), since(9, INT32), f(INT64), since(12, INT32), since(5, INT64), f(INT32)],
    tags: &[Tag { number: 0, since: 17, kind: Kind::Fixed(16) }, Tag { number: 1, since: 18, kind: INT64 }],
};
static FETCH_FORGOTTEN: Layout =
    layout(&[only(0, 12, Kind::Text), since(13, Kind::Id), f(Kind::List(&INT32))]);

static LIST_OFFSETS: Layout =
    layout(&[f(INT32), since(2, INT8), f(Kind::Each(&LIST_OFFSETS_TOPIC)), since(10, INT32)]);
static LIST_OFFSETS_TOPIC: Layout = layout(&[f(Kind::Text), f(Kind::Each(&LIST_OFFSETS_PARTITION))]);
static LIST_OFFSETS_PARTITION: Layout = layout(&[f(INT32), since(4, INT32), f(INT64)]);

static METADATA: Layout =
    layout(&[f(Kind::Each(&METADATA_TOPIC)), since(4, INT8), only(8, 10, INT8), since(8, INT8)]);
static METADATA_TOPIC: Layout = layout(&[since(10, Kind::Id), f(Kind::Text)]);

static OFFSET_COMMIT: Layout = layout(&[
    f(Kind::Text),
    f(INT32),
    f(Kind::Text),
    since(7, Kind::Text),
    only(2, 4, INT64),
    f(Kind::Each(&OFFSET_COMMIT_TOPIC)),
]);
static OFFSET_COMMIT_TOPIC: Layout =
    layout(&[only(0, 9, Kind::Text), since(10, Kind::Id), f(Kind::Each(&OFFSET_COMMIT_PARTITION))]);
static OFFSET_COMMIT_PARTITION: Layout = layout(&[f(INT32), f(INT64), since(6, INT32), f(Kind::Text)]);

static OFFSET_FETCH: Layout = layout(&[
    only(0, 7, Kind::Text),
    only(0, 7, Kind::Each(&OFFSET_FETCH_TOPIC)),
    since(8, Kind::Each(&OFFSET_FETCH_GROUP)),
    since(7, INT8),
]);
static OFFSET_FETCH_GROUP: Layout =
    layout(&[f(Kind::Text), since(9, Kind::Text), since(9, INT32), f(Kind::Each(&OFFSET_FETCH_TOPIC))]);
static OFFSET_FETCH_TOPIC: Layout =
    layout(&[only(0, 9, Kind::Text), since(10, Kind::Id), f(Kind::List(&INT32))]);

static FIND_COORDINATOR: Layout =
    layout(&[only(0, 3, Kind::Text), since(1, INT8), since(4, Kind::List(&Kind::Text))]);

static JOIN_GROUP: Layout = layout(&[
    f(Kind::Text),
    f(INT32),
    since(1, INT32),
    f(Kind::Text),
    since(5, Kind::Text),
    f(Kind::Text),
    f(Kind::Each(&JOIN_GROUP_PROTOCOL)),
    since(8, Kind::Text),
]);
static JOIN_GROUP_PROTOCOL: Layout = layout(&[f(Kind::Text), f(Kind::Blob)]);

static HEARTBEAT: Layout = layout(&[f(Kind::Text), f(INT32), f(Kind::Text), since(3, Kind::Text)]);

static LEAVE_GROUP: Layout =
    layout(&[f(Kind::Text), only(0, 2, Kind::Text), since(3, Kind::Each(&LEAVE_GROUP_MEMBER))]);
static LEAVE_GROUP_MEMBER: Layout = layout(&[f(Kind::Text), f(Kind::Text), since(5, Kind::Text)]);

static SYNC_GROUP: Layout = layout(&[
    f(Kind::Text),
    f(INT32),
    f(Kind::Text),
    since(3, Kind::Text),
    since(5, Kind::Text),
    since(5, Kind::Text),
    f(Kind::Each(&SYNC_GROUP_ASSIGNMENT)),
]);
static SYNC_GROUP_ASSIGNMENT: Layout = layout(&[f(Kind::Text), f(Kind::Blob)]);

static DESCRIBE_GROUPS: Layout = layout(&[f(Kind::List(&Kind::Text)), since(3, INT8)]);
static LIST_GROUPS: Layout = layout(&[since(4, Kind::List(&Kind::Text)), since(5, Kind::List(&Kind::Text))]);
static API_VERSIONS: Layout = layout(&[since(3, Kind::Text), since(3, Kind::Text)]);

static CREATE_TOPICS: Layout = layout(&[f(Kind::Each(&CREATE_TOPICS_TOPIC)), f(INT32), since(1, INT8)]);
static CREATE_TOPICS_TOPIC: Layout = layout(&[
    f(Kind::Text),
    f(INT32),
    f(INT16),
    f(Kind::Each(&CREATE_TOPICS_ASSIGNMENT)),
    f(Kind::Each(&CREATE_TOPICS_CONFIG)),
]);
static CREATE_TOPICS_ASSIGNMENT: Layout = layout(&[f(INT32), f(Kind::List(&INT32))]);
static CREATE_TOPICS_CONFIG: Layout = layout(&[f(Kind::Text), f(Kind::Text)]);

static DELETE_TOPICS: Layout =
    layout(&[since(6, Kind::Each(&DELETE_TOPICS_TOPIC)), only(0, 5, Kind::List(&Kind::Text)), f(INT32)]);
static DELETE_TOPICS_TOPIC: Layout = layout(&[f(Kind::Text), f(Kind::Id)]);

static INIT_PRODUCER_ID: Layout = layout(&[f(Kind::Text), f(INT32), since(3, INT64), since(3, INT16)]);

static OFFSET_FOR_LEADER_EPOCH: Layout = layout(&[since(3, INT32), f(Kind::Each(&EPOCH_TOPIC))]);
static EPOCH_TOPIC: Layout = layout(&[f(Kind::Text), f(Kind::Each(&EPOCH_PARTITION))]);
static EPOCH_PARTITION: Layout = layout(&[f(INT32), f(INT32), f(INT32)]);

static DESCRIBE_CONFIGS: Layout =
    layout(&[f(Kind::Each(&DESCRIBE_CONFIGS_RESOURCE)), since(1, INT8), since(3, INT8)]);
static DESCRIBE_CONFIGS_RESOURCE: Layout = layout(&[f(INT8), f(Kind::Text), f(Kind::List(&Kind::Text))]);

static ALTER_CONFIGS: Layout = layout(&[f(Kind::Each(&ALTER_CONFIGS_RESOURCE)), f(INT8)]);
static ALTER_CONFIGS_RESOURCE: Layout =
    layout(&[f(INT8), f(Kind::Text), f(Kind::Each(&ALTER_CONFIGS_CONFIG))]);
static ALTER_CONFIGS_CONFIG: Layout = layout(&[f(Kind::Text), f(Kind::Text)]);

static CREATE_PARTITIONS: Layout = layout(&[f(Kind::Each(&CREATE_PARTITIONS_TOPIC)), f(INT32), f(INT8)]);
static CREATE_PARTITIONS_TOPIC: Layout =
    layout(&[f(Kind::Text), f(INT32), f(Kind::Each(&CREATE_PARTITIONS_ASSIGNMENT))]);
static CREATE_PARTITIONS_ASSIGNMENT: Layout = layout(&[f(Kind::List(&INT32))]);

static DELETE_GROUPS: Layout = layout(&[f(Kind::List(&Kind::Text))]);

static INCREMENTAL: Layout = layout(&[f(Kind::Each(&INCREMENTAL_RESOURCE)), f(INT8)]);
static INCREMENTAL_RESOURCE: Layout = layout(&[f(INT8), f(Kind::Text), f(Kind::Each(&INCREMENTAL_CONFIG))]);
static INCREMENTAL_CONFIG: Layout = layout(&[f(Kind::Text), f(INT8), f(Kind::Text)]);

static DESCRIBE_CLUSTER: Layout = layout(&[f(INT8), since(1, INT8), since(2, INT8)]);

/// The layout of an API's requests.
pub(super) fn of(key: i16) -> Option<&'static Layout> {
    Some(match key {
        v::PRODUCE => &PRODUCE,
        v::FETCH => &FETCH,
        v::LIST_OFFSETS => &LIST_OFFSETS,
        v::METADATA => &METADATA,
        v::OFFSET_COMMIT => &OFFSET_COMMIT,
        v::OFFSET_FETCH => &OFFSET_FETCH,
        v::FIND_COORDINATOR => &FIND_COORDINATOR,
        v::JOIN_GROUP => &JOIN_GROUP,
        v::HEARTBEAT => &HEARTBEAT,
        v::LEAVE_GROUP => &LEAVE_GROUP,
        v::SYNC_GROUP => &SYNC_GROUP,
        v::DESCRIBE_GROUPS => &DESCRIBE_GROUPS,
        v::LIST_GROUPS => &LIST_GROUPS,
        v::API_VERSIONS => &API_VERSIONS,
        v::CREATE_TOPICS => &CREATE_TOPICS,
        v::DELETE_TOPICS => &DELETE_TOPICS,
        v::INIT_PRODUCER_ID => &INIT_PRODUCER_ID,
        v::OFFSET_FOR_LEADER_EPOCH => &OFFSET_FOR_LEADER_EPOCH,
        v::DESCRIBE_CONFIGS => &DESCRIBE_CONFIGS,
        v::ALTER_CONFIGS => &ALTER_CONFIGS,
        v::CREATE_PARTITIONS => &CREATE_PARTITIONS,
        v::DELETE_GROUPS => &DELETE_GROUPS,
        v::INCREMENTAL_ALTER_CONFIGS => &INCREMENTAL,
        v::DESCRIBE_CLUSTER => &DESCRIBE_CLUSTER,
        _ => return None,
    })
}
