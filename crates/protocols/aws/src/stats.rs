//! What an AWS listener counts. Counted by the request, not by the message.

pub use millstream_accept::Count;

use crate::error::Kind;
use crate::sqs::ACTIONS;

/// What requests are counted under whose action is none.
const OTHER: &str = "other";
/// What requests are counted under that were done.
const DONE: &str = "OK";

/// What a listener counts. Those that say *open* or *waiting* are of this moment, the others since the listener began.
#[derive(Debug, Default)]
pub struct AwsStats {
    /// Open connections.
    pub connections: Count,
    /// Connections closed at once, as there were too many.
    pub connections_refused: Count,
    /// Messages taken into queues; those whose deduplication id was known are not among them.
    pub sent: Count,
    /// Messages of FIFO queues not taken, as their deduplication id was known.
    pub duplicates: Count,
    /// Messages given to receivers; those of a receive that was repeated under its attempt id count again.
    pub received: Count,
    /// Messages deleted.
    pub deleted: Count,
    /// Entries of batches that were refused, each on its own.
    pub failed_entries: Count,
    /// Receives that are waiting for a message.
    pub waiting: Count,
    /// By action (the last: none that there is), and by result: done, or the kind of error.
    requests: [Results; ACTIONS.len() + 1],
}

#[derive(Debug, Default)]
struct Results {
    done: Count,
    refused: [Count; Kind::ALL.len()],
}

impl AwsStats {
    /// Notes a request that was answered.
    pub(crate) fn answered(&self, action: &str, result: Result<(), Kind>) {
        let index = ACTIONS.binary_search(&action).unwrap_or(ACTIONS.len());
        let Some(results) = self.requests.get(index) else { return };
        let count = match result {
            Ok(()) => Some(&results.done),
            Err(kind) => results.refused.get(kind as usize),
        };
        if let Some(count) = count {
            count.add(1);
        }
    }

    /// Requests that were answered: (action, result, how many), as far as there were any. An action that there is not is `other`; the result
    /// is `OK`, or the error's code without its prefix.
    #[must_use]
    pub fn requests(&self) -> Vec<(&'static str, &'static str, u64)> {
        let actions = ACTIONS.iter().copied().chain([OTHER]);
        let all = actions.zip(&self.requests).flat_map(|(action, results)| {
            let refused = Kind::ALL.iter().zip(&results.refused).map(|(kind, n)| (kind.name(), n));
            std::iter::once((DONE, &results.done))
                .chain(refused)
                .map(move |(result, n)| (action, result, n.get()))
        });
        all.filter(|(_, _, n)| *n > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_by_action_and_result() {
        let stats = AwsStats::default();
        stats.answered("SendMessage", Ok(()));
        stats.answered("SendMessage", Err(Kind::QueueDoesNotExist));
        stats.answered("SendMessage", Ok(()));
        stats.answered("DoThis", Err(Kind::InvalidAction));
        assert_eq!(
            stats.requests(),
            [
                ("SendMessage", "OK", 2),
                ("SendMessage", "QueueDoesNotExist", 1),
                ("other", "InvalidAction", 1)
            ]
        );
    }

    #[test]
    fn actions_are_in_order_so_that_they_are_found() {
        assert!(ACTIONS.is_sorted());
    }
}
