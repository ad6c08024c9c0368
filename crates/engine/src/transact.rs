//! Transactions: one step across partitions, queues, groups and a task, decided whole, one record.
//!
//! Start at [`Engine::transact`]. First everything is looked at; only then anything changes.

use millstream_log::Permit;
use millstream_types::ConnId;

use crate::ctx::Asker;
use crate::decide::{append, task};
use crate::effect::RowEffect;
use crate::engine::Engine;
use crate::group::CommitPlan;
use crate::op::{Commits, Effects, Reply, Tolerance, Transact, TransactError, Transacted};

/// What was looked at and can be done.
struct Prepared {
    appends: append::Plan,
    offsets: CommitPlan,
    step: Option<RowEffect>,
}

impl Engine {
    pub(crate) fn transact(
        &mut self,
        asker: Asker,
        tx: &Transact,
        permit: Option<Permit>,
        log: &mut dyn Commits,
        out: &mut Effects,
    ) {
        let reply = match self.prepare(asker.session, tx, log, out) {
            Err(conflict) => Err(conflict),
            Ok(prepared) => Ok(self.perform(asker, tx, prepared, permit, log, out)),
        };
        self.answer(asker, out, Reply::Transact(reply));
    }

    /// Changes nothing.
    fn prepare(
        &mut self,
        session: ConnId,
        tx: &Transact,
        log: &mut dyn Commits,
        out: &mut Effects,
    ) -> Result<Prepared, TransactError> {
        let step = tx.task.as_ref().map(|s| task::step(&self.state, self.now.wall_ms, s)).transpose()?;
        let appends = append::decide(self.facts(), &tx.appends);
        if tx.tolerance != Tolerance::Copies {
            for (index, result) in appends.results.iter().enumerate() {
                if let Err(error) = result {
                    return Err(TransactError::Append { index, error: error.clone() });
                }
            }
        }
        if let Some(conflict) = self.with_queues(log, out, |queues, cx| queues.conflict(cx, session, tx)) {
            return Err(conflict);
        }
        let exists = |log| self.live.snapshot.by_log.contains_key(&log);
        let offsets = self
            .state
            .groups
            .decide_commits(self.now, &self.state.ids, &tx.commits, &exists)
            .map_err(|(index, error)| TransactError::Commit { index, error })?;
        Ok(Prepared { appends, offsets, step })
    }

    fn perform(
        &mut self,
        asker: Asker,
        tx: &Transact,
        prepared: Prepared,
        permit: Option<Permit>,
        log: &mut dyn Commits,
        out: &mut Effects,
    ) -> Transacted {
        let Prepared { appends, offsets, step } = prepared;
        let mut ops = Vec::new();
        if appends.writes() {
            appends.ops(&tx.appends, &mut ops);
        }
        ops.extend(step.iter().chain(&offsets.effects).map(RowEffect::op));
        let (published, lsn) =
            self.with_queues(log, out, |queues, cx| queues.transact(cx, asker, tx, permit, &ops));
        drop(ops);
        if let Some(lsn) = lsn {
            self.appended(lsn, &appends);
        }
        let now = self.now;
        self.with_groups(log, out, |groups, ctx| groups.committed(now, &tx.commits, &offsets, ctx));
        Transacted { appended: appends.results, published }
    }
}
