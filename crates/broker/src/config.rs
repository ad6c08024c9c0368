//! The broker's settings; the server reads them from its configuration file.

use millstream_log::LogConfig;

/// Settings of a broker. `Default` is what `millstream serve` uses.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `topics.auto_create`: a topic that is named by a producer or asked for by a consumer is made. Default on.
    pub topics_auto_create: bool,
    /// `topics.partitions`: partitions of a topic made without saying how many. Default 1.
    pub topic_partitions: u32,
    /// `topics.retention_ms`: default of the topic setting `retention.ms`; -1 = for ever. Default 7 days.
    pub retention_ms: i64,
    /// `topics.retention_bytes`: default of the topic setting `retention.bytes`, per partition; -1 = no limit. Default -1.
    pub retention_bytes: i64,
    /// `topics.message_bytes_max`: default of the topic setting `max.message.bytes` (one batch as sent). Default 1,048,588, as Kafka.
    pub message_bytes_max: u32,
    /// `topics.retention_check_ms`: how often retention is looked at. Default 5 minutes.
    pub retention_check_ms: u64,
    /// `groups.offsets_retention_ms`: committed offsets go so long after the group became empty. Default 7 days.
    pub offsets_retention_ms: u64,
    /// `groups.initial_rebalance_delay_ms`: how long an empty group waits for more members before its first generation. Default 0.
    pub group_initial_rebalance_delay_ms: u64,
    /// `producers.expiry_ms`: what is known of an idle producer's sequence goes after so long. Default 24 hours.
    pub producer_expiry_ms: u64,
    /// `queues.transient_bytes_max`: bytes of memory for messages of transient queues, all together. Default 256 MiB.
    pub transient_bytes_max: u64,
    /// The log's settings.
    pub log: LogConfig,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        const DAY_MS: u64 = 86_400_000;
        Self {
            topics_auto_create: true,
            topic_partitions: 1,
            retention_ms: 7 * 86_400_000,
            retention_bytes: -1,
            message_bytes_max: 1_048_588,
            retention_check_ms: 300_000,
            offsets_retention_ms: 7 * DAY_MS,
            group_initial_rebalance_delay_ms: 0,
            producer_expiry_ms: DAY_MS,
            transient_bytes_max: 256 << 20,
            log: LogConfig::default(),
        }
    }
}
