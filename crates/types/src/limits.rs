//! Limits that more than one layer must agree on. Sizes in bytes, times in milliseconds, unless the name says otherwise.

/// Longest name of a topic, queue, exchange or group, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Most operations in one commit record.
pub const RECORD_OPS_MAX: usize = 1_000_000;
/// Largest commit record.
pub const RECORD_BYTES_MAX: usize = 32 << 20;
/// Largest single operation (an entry is never split).
pub const OP_BYTES_MAX: usize = 17 << 20;
/// Largest `attrs` of an entry.
pub const ATTRS_BYTES_MAX: usize = 4 << 10;
/// Most references of one fan-out operation.
pub const FANOUT_MAX: usize = 256;
/// Largest payload of one message.
pub const PAYLOAD_BYTES_MAX: usize = 15 << 20;
/// Largest key of one message.
pub const KEY_BYTES_MAX: usize = 1 << 20;
/// Most headers of one message.
pub const HEADERS_MAX: usize = 4_096;
/// All headers of one message together.
pub const HEADERS_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of header tables and arrays.
pub const HEADER_DEPTH_MAX: usize = 16;
