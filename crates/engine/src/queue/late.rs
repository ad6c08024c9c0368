//! The late word: a message is done, although its lease ran out, as long as nobody else was given it since.
//!
//! Start at [`Queues::settle_late`].

use millstream_types::ConnId;

use super::api::{Cause, SettleError};
use super::lane::{Ahead, Lane, Slot};
use super::lease::Has;
use super::live::{Queue, Turn};
use super::policy::Ordering;
use super::queues::Queues;
use super::record::Act;
use super::rows::QueueRows;
use super::rows::chunk::State;
use super::settle::Run;

impl Queues {
    /// Ends a run of leases, or takes its messages from where they wait. The error of the first that is not there.
    pub(super) fn settle_late(
        &mut self,
        rows: &QueueRows,
        session: ConnId,
        run: Run,
    ) -> Result<(), SettleError> {
        self.load(rows, run.queue).ok_or(SettleError::Unknown)?;
        let (mut turn, live) = self.turn(rows);
        let queue = live.get_mut(run.queue).ok_or(SettleError::Unknown)?;
        let (positions, all_looked_at) = queue.positions(run)?;
        let mut result = Ok(());
        for pos in positions {
            result = result.and(queue.late_one(&mut turn, session, run, pos));
        }
        result = result.and(all_looked_at);
        self.mark_runnable(run.queue);
        result
    }
}

impl Queue {
    fn late_one(
        &mut self,
        turn: &mut Turn<'_>,
        session: ConnId,
        run: Run,
        pos: u64,
    ) -> Result<(), SettleError> {
        let id = self.id();
        let lane = self.lanes.get_mut(run.lane).ok_or(SettleError::Unknown)?;
        if let Some(lease) = lane.leases.get(pos) {
            match lease.has {
                _ if lease.no != run.no => return Err(SettleError::Stale),
                Has::Mover(_) | Has::Parked(_) => return Err(SettleError::Unknown),
                Has::Consumer if lease.owned && lease.holder.is_none_or(|h| h.0 != session) => {
                    return Err(SettleError::NotHolder);
                }
                Has::Consumer | Has::Exhausted => {}
            }
            let lease = self.end_lease(turn, run.lane, pos).ok_or(SettleError::Unknown)?;
            self.acked += 1;
            turn.record.act(id, run.lane, pos, Act::Settle(Cause::Acked, lease.slot.bytes));
            return Ok(());
        }
        if lane.is_settled(turn.rows, pos) {
            return Err(SettleError::Unknown);
        }
        let key_hash = match turn.rows.exception(id, run.lane, pos, self.purge_no) {
            None => return Err(SettleError::Unknown),
            // A number that the mover had was never a consumer's.
            Some(e) if e.no != run.no || matches!(e.state, State::Held(_)) => return Err(SettleError::Stale),
            Some(e) => e.key_hash,
        };
        let slot = self.take_waiting(run.lane, pos, key_hash).ok_or(SettleError::Unknown)?;
        self.acked += 1;
        turn.record.act_on(id, run.lane, &slot, Act::Settle(Cause::Acked, slot.bytes));
        Ok(())
    }

    /// A message that was given back is taken from where it waits, and counts no more.
    fn take_waiting(&mut self, number: u16, pos: u64, key_hash: Option<u64>) -> Option<Slot> {
        let ordered = self.policy().ordering != Ordering::None;
        if let Some((slot, rested)) = self.lanes.get_mut(number)?.take_waiting(pos) {
            if rested {
                self.scheduled.sub(slot.bytes);
                self.rests(slot.key_hash, false);
            } else {
                self.ready.sub(slot.bytes);
                if let Some(hash) = self.key_of(&slot) {
                    self.keys.popped(hash, number, &slot);
                }
            }
            return Some(slot);
        }
        // One that the mover gave back has a row that does not tell its key.
        let hash = key_hash.or_else(|| self.keys.hash_at(number, pos)).filter(|_| ordered)?;
        let slot = self.keys.take_at(hash, number, pos)?;
        self.ready.sub(slot.bytes);
        Some(slot)
    }
}

impl Lane {
    /// A message that was given back is taken from where it waits, and whether it rested there.
    fn take_waiting(&mut self, pos: u64) -> Option<(Slot, bool)> {
        if let Some(slot) = self.returned.remove(pos) {
            return Some((slot, false));
        }
        if let Some(slot) = self.resting.remove(pos) {
            return Some((slot, true));
        }
        if let Some(ahead) = self.ahead.remove(pos) {
            let Ahead { deliveries, attempts, bytes, key_hash, until_ms } = ahead;
            return Some((
                Slot { pos, key_hash, bytes, deliveries, attempts, ..Slot::default() },
                until_ms > 0,
            ));
        }
        // Those that were delayed stand by their time, which the number does not tell.
        let key = self.delays.eligible.keys().find(|k| k.1 == pos).copied()?;
        self.delays.eligible.remove(&key).map(|slot| (slot, false))
    }
}
