//! The table of APIs and versions that this broker serves: that of Apache Kafka 4.3 for these APIs, and what the codec can do.

/// One API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Api {
    /// Its key.
    pub(crate) key: i16,
    /// Its name in the protocol.
    pub(crate) name: &'static str,
    /// Lowest version advertised.
    pub(crate) min: i16,
    /// Lowest version served: only Produce differs (librdkafka decides on features by the advertised minimum).
    pub(crate) served_min: i16,
    /// Highest version.
    pub(crate) max: i16,
    /// First version with compact strings and tagged fields.
    pub(crate) flexible: i16,
    /// Highest version that the codec knows; what is above has the same layout, or is rewritten.
    pub(crate) codec_max: i16,
}

pub(crate) const PRODUCE: i16 = 0;
pub(crate) const FETCH: i16 = 1;
pub(crate) const LIST_OFFSETS: i16 = 2;
pub(crate) const METADATA: i16 = 3;
pub(crate) const OFFSET_COMMIT: i16 = 8;
pub(crate) const OFFSET_FETCH: i16 = 9;
pub(crate) const FIND_COORDINATOR: i16 = 10;
pub(crate) const JOIN_GROUP: i16 = 11;
pub(crate) const HEARTBEAT: i16 = 12;
pub(crate) const LEAVE_GROUP: i16 = 13;
pub(crate) const SYNC_GROUP: i16 = 14;
pub(crate) const DESCRIBE_GROUPS: i16 = 15;
pub(crate) const LIST_GROUPS: i16 = 16;
pub(crate) const API_VERSIONS: i16 = 18;
pub(crate) const CREATE_TOPICS: i16 = 19;
pub(crate) const DELETE_TOPICS: i16 = 20;
pub(crate) const INIT_PRODUCER_ID: i16 = 22;
pub(crate) const OFFSET_FOR_LEADER_EPOCH: i16 = 23;
pub(crate) const DESCRIBE_CONFIGS: i16 = 32;
pub(crate) const ALTER_CONFIGS: i16 = 33;
pub(crate) const CREATE_PARTITIONS: i16 = 37;
pub(crate) const DELETE_GROUPS: i16 = 42;
pub(crate) const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
pub(crate) const DESCRIBE_CLUSTER: i16 = 60;

const fn api(key: i16, name: &'static str, min: i16, max: i16, flexible: i16) -> Api {
    Api { key, name, min, served_min: min, max, flexible, codec_max: max }
}

/// Every API served, by key.
pub(crate) static APIS: &[Api] = &[
    Api { served_min: 3, ..api(PRODUCE, "Produce", 0, 13, 9) },
    api(FETCH, "Fetch", 4, 18, 12),
    // 11 adds a special timestamp (-6), not a field.
    Api { codec_max: 10, ..api(LIST_OFFSETS, "ListOffsets", 1, 11, 6) },
    api(METADATA, "Metadata", 0, 13, 9),
    // 10 has a topic's id in place of its name, which the codec cannot read: see `guard::name_for_id`.
    Api { codec_max: 9, ..api(OFFSET_COMMIT, "OffsetCommit", 2, 10, 8) },
    Api { codec_max: 9, ..api(OFFSET_FETCH, "OffsetFetch", 1, 10, 6) },
    api(FIND_COORDINATOR, "FindCoordinator", 0, 6, 3),
    api(JOIN_GROUP, "JoinGroup", 0, 9, 6),
    api(HEARTBEAT, "Heartbeat", 0, 4, 4),
    api(LEAVE_GROUP, "LeaveGroup", 0, 5, 4),
    api(SYNC_GROUP, "SyncGroup", 0, 5, 4),
    api(DESCRIBE_GROUPS, "DescribeGroups", 0, 6, 5),
    api(LIST_GROUPS, "ListGroups", 0, 5, 3),
    api(API_VERSIONS, "ApiVersions", 0, 4, 3),
    api(CREATE_TOPICS, "CreateTopics", 2, 7, 5),
    api(DELETE_TOPICS, "DeleteTopics", 1, 6, 4),
    api(INIT_PRODUCER_ID, "InitProducerId", 0, 5, 2),
    api(OFFSET_FOR_LEADER_EPOCH, "OffsetForLeaderEpoch", 2, 4, 4),
    api(DESCRIBE_CONFIGS, "DescribeConfigs", 1, 4, 4),
    api(ALTER_CONFIGS, "AlterConfigs", 0, 2, 2),
    api(CREATE_PARTITIONS, "CreatePartitions", 0, 3, 2),
    api(DELETE_GROUPS, "DeleteGroups", 0, 2, 2),
    api(INCREMENTAL_ALTER_CONFIGS, "IncrementalAlterConfigs", 0, 1, 1),
    api(DESCRIBE_CLUSTER, "DescribeCluster", 0, 2, 0),
];

/// The API with this key, if it is served.
pub(crate) fn find(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|a| a.key == key)
}

/// Name of an API in the protocol, for logs and metrics.
#[must_use]
pub fn api_name(key: i16) -> &'static str {
    find(key).map_or("unknown", |a| a.name)
}

impl Api {
    /// Whether this version is answered.
    pub(crate) fn serves(&self, version: i16) -> bool {
        (self.served_min..=self.max).contains(&version)
    }
    /// Whether this version has compact strings and tagged fields.
    pub(crate) fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_each_key_once() {
        assert!(APIS.windows(2).all(|w| w[0].key < w[1].key));
    }

    #[test]
    fn produce_is_advertised_from_0_and_served_from_3() {
        let produce = find(PRODUCE).unwrap();
        assert_eq!((produce.min, produce.serves(2), produce.serves(3)), (0, false, true));
    }
}
