//! Sessions that are gone, and whose leases end: where there are very many, in turns, so that nobody waits long for one that goes.
//!
//! Start at [`Queues::end_session`].

use millstream_types::ConnId;

use super::queues::{Cx, Queues};

/// Leases of one session that end in one turn, about.
const LEAVING_MAX: usize = 65_536;

impl Queues {
    /// A session that has no consumers and waits for nothing any more goes: its leases end, now or in turns that follow.
    pub(super) fn end_session(&mut self, cx: &Cx<'_>, session: ConnId) {
        if !self.end_owned(cx, session) {
            self.leaving.push_back(session);
        }
    }

    /// A turn of those that are leaving.
    pub(super) fn go_on_leaving(&mut self, cx: &Cx<'_>) {
        if let Some(session) = self.leaving.front().copied()
            && self.end_owned(cx, session)
        {
            self.leaving.pop_front();
        }
    }

    /// Ends leases of a session, the oldest of each queue first. Whether that were all: then the session is forgotten.
    fn end_owned(&mut self, cx: &Cx<'_>, session: ConnId) -> bool {
        let mut ended = 0;
        while let Some((id, lane, places)) = self.sessions.get_mut(&session).and_then(|s| s.leases.pop()) {
            let (mut turn, live) = self.turn(&cx.state.queues);
            let Some(queue) = live.get_mut(id) else { continue };
            for pos in places {
                if let Some(lease) = queue.end_lease(&mut turn, lane, pos) {
                    queue.failed(&mut turn, lane, lease, None);
                    ended += 1;
                }
            }
            self.mark_runnable(id);
            if ended >= LEAVING_MAX {
                return false;
            }
        }
        self.sessions.remove(&session);
        true
    }
}
