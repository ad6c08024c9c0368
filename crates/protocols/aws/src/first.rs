//! When messages were first received, as far as it is known: SQS tells of it with later receives. In memory only, and bounded: of a
//! message that is not here, the present receive counts as the first that is known.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use millstream_broker::queue::api::Delivery;

/// Messages remembered; beyond, those noted first go.
const MESSAGES_MAX: usize = 262_144;

type Place = (u64, u16, u64);

#[derive(Debug, Default)]
struct Known {
    first_ms: HashMap<Place, u64>,
    order: VecDeque<Place>,
}

/// When messages were first received.
#[derive(Debug, Default)]
pub(crate) struct FirstReceives(Mutex<Known>);

impl FirstReceives {
    /// Milliseconds since the epoch, for each of these deliveries; those that are the first are noted.
    pub(crate) fn of(&self, deliveries: &[Delivery], now_ms: u64) -> Vec<u64> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        deliveries
            .iter()
            .map(|d| {
                let place = (d.queue.0, d.lane, d.pos);
                if let Some(ms) = known.first_ms.get(&place) {
                    return *ms;
                }
                if known.order.len() >= MESSAGES_MAX
                    && let Some(oldest) = known.order.pop_front()
                {
                    known.first_ms.remove(&oldest);
                }
                known.order.push_back(place);
                known.first_ms.insert(place, now_ms);
                now_ms
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use millstream_broker::queue::api::ConsumerId;
    use millstream_types::{ConnId, Lsn, ObjectId};

    use super::*;

    #[test]
    fn later_receives_tell_of_the_first() {
        let d = |pos| Delivery {
            session: ConnId(1),
            consumer: ConsumerId(0),
            queue: ObjectId(1),
            lane: 0,
            pos,
            delivery_no: 1,
            deliveries: 1,
            attempts: 0,
            redelivered: false,
            bytes: 0,
            wait: Lsn(0),
        };
        let first = FirstReceives::default();
        assert_eq!(first.of(&[d(1)], 5), [5]);
        assert_eq!(first.of(&[d(1), d(2)], 9), [5, 9]);
    }
}
