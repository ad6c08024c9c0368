//! Reads one partition for a fetch.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use millstream_broker::{Content, PartitionView, StreamEntry};

use super::session::Part;
use crate::batch::{Piece, single};
use crate::connection::Conn;
use crate::error;
use crate::num::{i32_of_u32, i64_of};

/// What was read of one partition.
#[derive(Debug)]
pub(super) struct PartRead {
    pub(super) error: i16,
    pub(super) high_watermark: i64,
    pub(super) log_start: i64,
    pub(super) pieces: Vec<Piece>,
    /// Of the pieces.
    pub(super) bytes: usize,
    /// KIP-595: the reader's log parted from this one there (epoch, end offset).
    pub(super) diverging: Option<(i32, i64)>,
    /// There was more, which did not fit.
    pub(super) cut: bool,
    /// The visible end before reading: more than that is news.
    pub(super) seen_end: u64,
}

impl Default for PartRead {
    fn default() -> Self {
        Self {
            error: error::NONE,
            high_watermark: -1,
            log_start: -1,
            pieces: Vec::new(),
            bytes: 0,
            cut: false,
            diverging: None,
            seen_end: 0,
        }
    }
}

impl PartRead {
    fn failed(e: ResponseError) -> Self {
        Self { error: e.code(), ..Self::default() }
    }
}

/// The epoch that a client believes in against the partition's; -1 = it does not say.
pub(crate) fn check_epoch(view: &PartitionView, believed: i32) -> Result<(), ResponseError> {
    let current = i32_of_u32(view.leader_epoch());
    match believed {
        b if b < 0 || b == current => Ok(()),
        b if b < current => Err(ResponseError::FencedLeaderEpoch),
        _ => Err(ResponseError::UnknownLeaderEpoch),
    }
}

/// Reads at most `most` bytes of whole batches, but one batch if `must_give`.
pub(super) async fn part(conn: &Conn, part: &Part, most: usize, must_give: bool) -> PartRead {
    match &part.view {
        Err(e) => PartRead::failed(*e),
        Ok(view) => read(conn, part, view, most, must_give).await.unwrap_or_else(PartRead::failed),
    }
}

async fn read(
    conn: &Conn,
    part: &Part,
    view: &Arc<PartitionView>,
    most: usize,
    must_give: bool,
) -> Result<PartRead, ResponseError> {
    check_epoch(view, part.asked.current_epoch)?;
    let (start, end) = (view.start(), view.visible_end());
    let offset = u64::try_from(part.asked.offset).map_err(|_| ResponseError::OffsetOutOfRange)?;
    let mut result = PartRead {
        high_watermark: i64_of(end),
        log_start: i64_of(start),
        seen_end: end,
        ..PartRead::default()
    };
    if let Ok(epoch) = u32::try_from(part.asked.last_fetched_epoch) {
        let (at, ended) =
            conn.broker.streams().epoch_end(view, epoch).ok_or(ResponseError::OffsetOutOfRange)?;
        if at < epoch || ended < offset {
            result.diverging = Some((i32_of_u32(at), i64_of(ended)));
            return Ok(result);
        }
    }
    if offset < start || offset > end {
        return Err(ResponseError::OffsetOutOfRange);
    }
    if offset == end || (most == 0 && !must_give) {
        return Ok(result);
    }
    let batch = conn.broker.streams().fetch(view, offset, most.max(1)).await.map_err(|e| {
        tracing::debug!(error = %e, log = view.log.0, offset, "a fetch could not be read");
        error::of_read(&e)
    })?;
    for entry in batch.entries {
        let Some(piece) = piece(&entry) else { continue };
        let fits = result.bytes + piece.len() <= most;
        if !fits && (!must_give || result.bytes > 0) {
            result.cut = true;
            break;
        }
        result.bytes += piece.len();
        result.pieces.push(piece);
    }
    Ok(result)
}

fn piece(entry: &StreamEntry) -> Option<Piece> {
    match &entry.content {
        Content::Batch { leader_epoch, body, .. } => Piece::new(body, entry.offset, *leader_epoch),
        Content::Single { message, leader_epoch, append_ms } => {
            let batch = single::batch(message, entry.offset, *leader_epoch, *append_ms);
            Piece::new(&batch, entry.offset, *leader_epoch)
        }
    }
}
