//! Rows of many logs at once: an opening asks for those of every log in the files without rows, which may be a million.

use std::collections::{BTreeSet, HashMap};

use millstream_types::LogId;

use super::account::Account;
use super::open::{OpenFile, Stretch};
use crate::api::StoreError;
use crate::format::bytes::array_at;
use crate::format::rows::{LOGS, LogRow, RETIRED, last_number, log_key, retired};

/// Rows read together where the logs asked for lie close.
const PAGE_ROWS_MAX: usize = 1024;

/// By log: where it starts, and whether anything of it is retired.
type Starts = HashMap<LogId, (u64, bool), foldhash::fast::RandomState>;

/// A log, its row, and what of it lies in a file.
type Held<'f> = (LogId, LogRow, &'f [Stretch]);

impl Account {
    /// The rows of logs, which are ascending, each as [`Account::log`] gives it.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) fn log_rows(&self, logs: &[LogId]) -> Result<Vec<LogRow>, StoreError> {
        let mut found = Vec::with_capacity(logs.len());
        let mut page_rows = 1;
        while let Some(first) = logs.get(found.len()) {
            let page = self.rows.scan(LOGS, &log_key(*first), page_rows)?;
            let until =
                if page.len() < page_rows { None } else { page.last().and_then(|(k, _)| last_number(k)) };
            let mut rows = page.iter().peekable();
            let before = found.len();
            for log in logs.iter().skip(before).take_while(|log| until.is_none_or(|until| log.0 <= until)) {
                while rows.next_if(|(key, _)| last_number(key) < Some(log.0)).is_some() {}
                let row = rows.next_if(|(key, _)| last_number(key) == Some(log.0));
                found.push(row.map_or(Ok(LogRow::default()), |(_, row)| LogRow::decode(row))?);
            }
            // Sparse logs are looked up one by one, dense ones in pages.
            let used = found.len() - before;
            page_rows = if used * 4 >= page_rows { (page_rows * 2).min(PAGE_ROWS_MAX) } else { 1 };
        }
        Ok(found)
    }

    /// The logs of a file, ascending, with their rows and what of them lies there.
    pub(super) fn rows_of<'f>(&self, file: &'f OpenFile) -> Result<Vec<Held<'f>>, StoreError> {
        let mut logs: Vec<(LogId, &[Stretch])> =
            file.logs.iter().map(|(log, s)| (*log, s.as_slice())).collect();
        logs.sort_unstable_by_key(|(log, _)| *log);
        let ids: Vec<LogId> = logs.iter().map(|(log, _)| *log).collect();
        let rows = self.log_rows(&ids)?;
        Ok(logs.into_iter().zip(rows).map(|((log, stretches), row)| (log, row, stretches)).collect())
    }

    /// What is to be known of every log in these files.
    pub(super) fn starts<'f>(
        &self,
        files: impl IntoIterator<Item = &'f OpenFile>,
    ) -> Result<Starts, StoreError> {
        let mut logs: Vec<LogId> = files.into_iter().flat_map(|f| f.logs.keys().copied()).collect();
        logs.sort_unstable();
        logs.dedup();
        let retired = if logs.is_empty() { BTreeSet::new() } else { self.logs_with_retired()? };
        let rows = self.log_rows(&logs)?;
        Ok(logs.iter().zip(rows).map(|(log, row)| (*log, (row.start, retired.contains(log)))).collect())
    }

    /// Logs of which anything is in a retired set; one look for each of them.
    fn logs_with_retired(&self) -> Result<BTreeSet<LogId>, StoreError> {
        let mut logs = BTreeSet::new();
        let mut from = RETIRED.to_vec();
        while let Some((key, _)) = self.rows.scan(RETIRED, &from, 1)?.first() {
            let Some(log) = array_at(key, RETIRED.len()).map(u64::from_be_bytes) else { break };
            logs.insert(LogId(log));
            let Some(next) = log.checked_add(1) else { break };
            from = retired(LogId(next));
        }
        Ok(logs)
    }
}
