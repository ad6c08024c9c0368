//! [`FullDisk`]: one line in the log when publishing stops for want of room, and one when it goes on.

use millstream_broker::Broker;
use millstream_env::Clock;

/// Topics named as those that hold most.
const TOPICS_NAMED_MAX: usize = 3;

/// What was said last.
#[derive(Debug, Default)]
pub struct FullDisk {
    /// When publishing stopped.
    since_ns: Option<u64>,
}

impl FullDisk {
    /// Looks, and says what changed.
    pub fn look(&mut self, broker: &Broker, clock: &dyn Clock) {
        match (broker.is_full(), self.since_ns) {
            (true, None) => {
                self.since_ns = Some(clock.mono_ns());
                let room = broker.room();
                tracing::warn!(
                    free_bytes = room.free_bytes,
                    needed_bytes = room.needed_bytes,
                    largest_topics = %named(&broker.largest_topics(TOPICS_NAMED_MAX)),
                    "the disk is full: publishing is held; reading, commits, retention and deleting go on. It goes on by itself when \
                     so many bytes more are free: delete a topic, shorten its retention, or enlarge the file system"
                );
            }
            (false, Some(since_ns)) => {
                self.since_ns = None;
                let held_s = clock.mono_ns().saturating_sub(since_ns) / 1_000_000_000;
                let room = broker.room();
                tracing::info!(
                    free_bytes = room.free_bytes,
                    held_s,
                    refused = broker.refused_for_room(),
                    "there is room again: publishing goes on"
                );
            }
            _ => {}
        }
    }
}

/// `name (12 MiB), …`
fn named(topics: &[(String, u64)]) -> String {
    let one = |(name, bytes): &(String, u64)| format!("{name} ({} MiB)", bytes >> 20);
    topics.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_named_with_what_they_hold() {
        assert_eq!(named(&[("a".to_owned(), 5 << 20), ("b".to_owned(), 1)]), "a (5 MiB), b (0 MiB)");
        assert_eq!(named(&[]), "");
    }
}
