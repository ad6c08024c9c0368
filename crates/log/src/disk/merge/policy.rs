//! Which files are merged next. A pure function of what lives in them: no I/O, no clock.

use crate::disk::events::FileId;

/// Most of a file that may live for it to be merged within the budget, in thousandths.
const LIVE_PERMILLE_MAX: u64 = 250;
/// Most of a file that may live for it to be merged when space is short.
const LIVE_PERMILLE_MAX_SHORT: u64 = 750;
/// Bytes of one pack, unless what lives in a single file has more: one window, so that each of its sources is read over only once.
const PACK_BYTES_MAX: u64 = 32 << 20;
/// Likewise when space is short: what comes free at a time counts more.
const PACK_BYTES_MAX_SHORT: u64 = 2 * PACK_BYTES_MAX;
/// Files merged at once.
const SOURCES_MAX: usize = 32;
/// So many small packs are made one.
const SMALL_PACKS_MIN: usize = 8;

/// A file that could be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub file: (FileId, u64),
    /// Bytes that it takes on the disk.
    pub size: u64,
    /// Bytes of it that live.
    pub live: u64,
    /// Records since the last of which a part lies in it.
    pub age: u64,
    /// It is expected to die soon by itself.
    pub dying: bool,
}

/// What is wanted of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wants {
    /// Bytes that may be written.
    pub budget: u64,
    /// Bytes to be freed at least, so that packs become large.
    pub gain_min: u64,
    /// Packs below this size are small.
    pub small: u64,
    /// There is no room for files: the budget is not asked.
    pub short: bool,
    /// There was none for a pack either: as little as can be is written.
    pub cramped: bool,
}

/// Files to be merged into one pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub files: Vec<(FileId, u64)>,
    /// A file of which more lives when it is looked at closely is left alone.
    pub live_permille_max: u64,
}

impl Candidate {
    fn permille(&self) -> u64 {
        permille(self.live, self.size)
    }

    fn gain(&self) -> u64 {
        self.size.saturating_sub(self.live)
    }

    /// `(1 - u) * age / (1 + u)`: what is freed for what is copied, the longer since it was written the surer.
    fn score(&self) -> u128 {
        u128::from(self.gain()) * u128::from(self.age)
            / u128::from(self.size.saturating_add(self.live).max(1))
    }
}

/// Whether so little of a file lives that it is worth a merge within the budget.
pub(crate) fn is_mostly_dead(live: u64, size: u64) -> bool {
    permille(live, size) <= LIVE_PERMILLE_MAX
}

fn permille(live: u64, size: u64) -> u64 {
    u64::try_from(u128::from(live) * 1000 / u128::from(size.max(1))).unwrap_or(u64::MAX)
}

/// The files to merge, if any.
pub(crate) fn choose(files: &[Candidate], wants: &Wants) -> Option<Choice> {
    if wants.short {
        return most_free(files, wants);
    }
    mostly_dead(files, wants).or_else(|| small_packs(files, wants))
}

/// As many of these, in this order, as one pack may hold.
fn take(files: &[&Candidate], bytes_max: u64, live_permille_max: u64) -> Choice {
    let mut live = 0u64;
    let fits = |c: &&&Candidate| {
        live = live.saturating_add(c.live);
        live <= bytes_max
    };
    let files = files.iter().take(SOURCES_MAX).take_while(fits).map(|c| c.file).collect();
    Choice { files, live_permille_max }
}

fn mostly_dead(files: &[Candidate], wants: &Wants) -> Option<Choice> {
    let mut dead: Vec<&Candidate> =
        files.iter().filter(|c| c.permille() <= LIVE_PERMILLE_MAX && !c.dying).collect();
    dead.sort_by_key(|c| std::cmp::Reverse(c.score()));
    let choice = take(&dead, wants.budget.min(PACK_BYTES_MAX), LIVE_PERMILLE_MAX);
    let gain: u64 = dead.iter().take(choice.files.len()).map(|c| c.gain()).sum();
    (!choice.files.is_empty() && gain >= wants.gain_min).then_some(choice)
}

fn small_packs(files: &[Candidate], wants: &Wants) -> Option<Choice> {
    let mut small: Vec<&Candidate> =
        files.iter().filter(|c| c.file.0.is_pack() && c.size < wants.small && !c.dying).collect();
    small.sort_by_key(|c| c.live);
    let choice = take(&small, wants.budget.min(PACK_BYTES_MAX), 1000);
    (choice.files.len() >= SMALL_PACKS_MIN).then_some(choice)
}

/// Least live first: little is written for what comes free.
fn most_free(files: &[Candidate], wants: &Wants) -> Option<Choice> {
    let mut free: Vec<&Candidate> =
        files.iter().filter(|c| c.permille() <= LIVE_PERMILLE_MAX_SHORT && c.gain() > 0).collect();
    free.sort_by_key(|c| c.permille());
    let first = free.first()?;
    let bytes_max = if wants.cramped { first.live } else { first.size.max(first.live) };
    let bytes_max = bytes_max.min(PACK_BYTES_MAX_SHORT.max(first.live));
    let mut choice = take(&free, bytes_max, LIVE_PERMILLE_MAX_SHORT);
    if wants.cramped {
        choice.files.truncate(1);
    }
    Some(choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn file(id: u64, live: u64, age: u64) -> Candidate {
        Candidate { file: (FileId(id), 1), size: 64 * MIB, live: live * MIB, age, dying: false }
    }

    fn wants(budget: u64) -> Wants {
        Wants { budget: budget * MIB, gain_min: 0, small: 16 * MIB, short: false, cramped: false }
    }

    fn ids(choice: Option<Choice>) -> Vec<u64> {
        choice.map_or(Vec::new(), |c| c.files.iter().map(|(id, _)| id.number()).collect())
    }

    #[test]
    fn within_the_budget_the_oldest_and_emptiest_files_go_first_and_no_file_more_than_a_quarter_full() {
        let files = [file(1, 17, 1000), file(2, 14, 10), file(3, 2, 10), file(4, 16, 90)];
        assert_eq!(ids(choose(&files, &wants(1000))), [4, 3, 2]);
        assert_eq!(ids(choose(&files, &wants(18))), [4, 3]);
        assert_eq!(ids(choose(&files, &wants(15))), [0; 0]);
        let gain = Wants { gain_min: 200 * MIB, ..wants(1000) };
        assert_eq!(ids(choose(&files, &gain)), [0; 0]);
        let dying = files.map(|c| Candidate { dying: true, ..c });
        assert_eq!(choose(&dying, &wants(1000)), None);
    }

    #[test]
    fn when_space_is_short_the_emptiest_goes_first_whatever_the_budget() {
        let files = [file(1, 49, 1000), file(2, 48, 10), file(3, 20, 10), file(4, 21, 90), file(5, 20, 0)];
        let short = Wants { short: true, ..wants(0) };
        assert_eq!(ids(choose(&files, &short)), [3, 5, 4]);
        assert_eq!(ids(choose(&files, &Wants { cramped: true, ..short })), [3]);
        assert_eq!(ids(choose(&files[..2], &short)), [2]);
        assert_eq!(choose(&files[..1], &short), None);
        let huge = Candidate { size: 1024 * MIB, ..file(9, 700, 1) };
        assert_eq!(ids(choose(&[huge], &short)), [9]);
    }

    #[test]
    fn many_small_packs_become_one_and_a_few_do_not() {
        let pack = |n: u64| Candidate { file: (FileId::pack(n), 0), size: 3 * MIB, ..file(0, 2, 5) };
        let packs: Vec<_> = (0..8).map(pack).collect();
        assert_eq!(ids(choose(&packs, &wants(100))), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(choose(&packs, &wants(15)), None);
        assert_eq!(choose(&packs[1..], &wants(100)), None);
        let large: Vec<_> =
            packs.iter().map(|c| Candidate { size: 16 * MIB, live: 15 * MIB, ..*c }).collect();
        assert_eq!(choose(&large, &wants(1000)), None);
    }
}
