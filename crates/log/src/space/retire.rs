//! Retiring: an operation names many positions of one log, often scattered over one chunk; each set and each extent is read and
//! written once for all of them. Start at [`Account::retire`].

use millstream_types::LogId;

use super::account::Account;
use crate::api::StoreError;
use crate::bugs::Bug;
use crate::format::retired::{CHUNK_POSITIONS, Retired};
use crate::format::rows::{ExtentRow, extent_key, extents};

/// Positions `[first, end)`.
type Run = (u64, u64);

/// The runs of an operation at and above `start`, ascending, none touching the next.
fn ordered(runs: &[(u64, u32)], start: u64) -> Vec<Run> {
    let clipped = runs.iter().map(|(first, n)| (start.max(*first), first.saturating_add(u64::from(*n))));
    let mut all: Vec<Run> = clipped.filter(|(first, end)| first < end).collect();
    if !all.is_sorted() {
        all.sort_unstable();
    }
    all.dedup_by(|next, run| {
        let joins = next.0 <= run.1;
        if joins {
            run.1 = run.1.max(next.1);
        }
        joins
    });
    all
}

impl Account {
    /// Positions are never read again. Those that are retired already, trimmed, or not there, change nothing.
    pub(super) fn retire(&mut self, log: LogId, runs: &[(u64, u32)]) -> Result<(), StoreError> {
        let runs = ordered(runs, self.log(log)?.start);
        let (Some((first, _)), Some((_, end))) = (runs.first().copied(), runs.last().copied()) else {
            return Ok(());
        };
        let (mut left, mut from) = (runs.as_slice(), first);
        while let Some((first, end)) = left.first().copied() {
            from = from.max(first);
            let Some(x) = self.extent_reaching(log, from, end)? else {
                left = left.get(1..).unwrap_or_default();
                continue;
            };
            let newly = self.add_retired(log, left, (x.first, x.end))?;
            self.retire_in(log, x, newly)?;
            from = x.end;
            left = left.get(left.partition_point(|run| run.1 <= from)..).unwrap_or_default();
        }
        let mut open = std::mem::take(&mut self.open);
        let mut done = Ok(());
        for f in &mut open {
            let mut gone = 0;
            for s in f.overlapping(log, first, end) {
                match self.add_retired(log, &runs, (s.first, s.end)) {
                    // While replaying only the sets count; the rest is computed from them at the end.
                    Ok(newly) if !self.replaying && !s.dead => {
                        s.retired += newly;
                        gone += newly;
                        s.dead = s.retired == s.end - s.first;
                    }
                    Ok(_) => {}
                    Err(e) => done = Err(e),
                }
            }
            f.live -= gone;
        }
        self.open = open;
        done
    }

    /// So many more positions of an extent are retired.
    fn retire_in(&mut self, log: LogId, mut x: ExtentRow, newly: u64) -> Result<(), StoreError> {
        if newly == 0 {
            return Ok(());
        }
        let before = x;
        x.retired += newly;
        self.drop_live(&before, Some(&x));
        if x.retired < x.len() {
            self.rows.put(extent_key(log, x.first), x.encode());
            return Ok(());
        }
        self.remove_extent(log, &x)?;
        self.clear_retired(log, x.first, x.end)
    }

    /// The first extent of a log in an adopted file that reaches into `[first, end)`.
    fn extent_reaching(&self, log: LogId, first: u64, end: u64) -> Result<Option<ExtentRow>, StoreError> {
        let prefix = extents(log);
        if let Some((key, value)) = self.rows.at_or_below(&prefix, &extent_key(log, first))? {
            let x = ExtentRow::decode(&key, &value)?;
            if x.end > first {
                return Ok(Some(x));
            }
        }
        let Some(after) = first.checked_add(1).filter(|after| *after < end) else { return Ok(None) };
        let next = self.rows.scan(&prefix, &extent_key(log, after), 1)?;
        let next = next.first().map(|(key, value)| ExtentRow::decode(key, value)).transpose()?;
        Ok(next.filter(|x| x.first < end))
    }

    /// Adds what of the runs lies in `[first, end)` to the retired sets; gives how many positions were not in them.
    fn add_retired(&mut self, log: LogId, runs: &[Run], (first, end): Run) -> Result<u64, StoreError> {
        let from = runs.partition_point(|run| run.1 <= first);
        let within = runs.iter().skip(from).take_while(|run| run.0 < end);
        let (mut newly, mut open): (u64, Option<(u64, Retired, u64)>) = (0, None);
        for (chunk, from, to) in within.flat_map(|run| chunks(run.0.max(first), run.1.min(end))) {
            let (_, set, added) = match &mut open {
                Some(same) if same.0 == chunk => same,
                other => {
                    let before = other.take();
                    newly += self.put_added(log, before);
                    other.insert((chunk, self.retired_set(log, chunk)?, 0))
                }
            };
            let n = set.add(from, to);
            *added += if self.bugs.has(Bug::CountsRetireTwice) { to - from } else { n };
        }
        Ok(newly + self.put_added(log, open))
    }

    fn put_added(&mut self, log: LogId, open: Option<(u64, Retired, u64)>) -> u64 {
        let Some((chunk, set, added)) = open else { return 0 };
        if added > 0 {
            self.put_set(log, chunk, &set);
        }
        added
    }
}

/// `[first, end)` cut at chunk bounds: chunk, and the range within it.
fn chunks(first: u64, end: u64) -> impl Iterator<Item = (u64, u64, u64)> {
    let mut at = first;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let (chunk, from) = (at / CHUNK_POSITIONS, at % CHUNK_POSITIONS);
            let to = (from + (end - at)).min(CHUNK_POSITIONS);
            at += to - from;
            (chunk, from, to)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_put_in_order_joined_and_cut_at_the_start() {
        assert_eq!(ordered(&[(9, 1), (2, 3), (4, 2), (0, 1), (20, 5)], 3), [(3, 6), (9, 10), (20, 25)]);
        assert_eq!(ordered(&[(u64::MAX, 7)], 0), []);
        assert_eq!(ordered(&[(1, 2), (3, 1)], 0), [(1, 4)]);
    }

    #[test]
    fn a_run_is_cut_at_chunk_bounds() {
        let all: Vec<_> = chunks(4090, 8200).collect();
        assert_eq!(all, [(0, 4090, 4096), (1, 0, 4096), (2, 0, 8)]);
    }
}
