//! Messages over HTTP: lines of JSON in, lines of JSON out. For people at a terminal, not for speed.
//!
//! A message is `{"key": ..., "value": ..., "headers": [[name, value], ...], "partition": n}`; bytes that are no text stand as
//! `key_base64`, `value_base64`; a header's as `{"base64": ...}`. What comes out has `offset` and `timestamp_ms` too.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use millstream_broker::{
    AppendItem, AppendKind, Broker, Content, Header, HeaderValue, Message, PartitionView, StreamEntry, Topic,
    partition_for_key,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::topics::find;
use super::{ApiError, Shared, values};

/// Most messages of one request.
pub(super) const MESSAGES_MAX: usize = 10_000;
/// Bytes read from a partition at once.
pub(super) const READ_BYTES: usize = 1 << 20;
/// Longest wait for more while following; only a bound on one wait.
const FOLLOW_WAIT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    #[serde(default)]
    headers: Vec<(String, Option<String>)>,
    partition: Option<u32>,
}

pub(super) fn bytes_of(
    text: Option<String>,
    base64: Option<String>,
    what: &str,
) -> Result<Option<Bytes>, ApiError> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(ApiError::bad(format!("{what} and {what}_base64 exclude each other"))),
        (Some(t), None) => Ok(Some(t.into())),
        (None, Some(b)) => {
            let b = BASE64_STANDARD.decode(b).map_err(|e| ApiError::bad(format!("{what}_base64: {e}")))?;
            Ok(Some(b.into()))
        }
        (None, None) => Ok(None),
    }
}

/// Publishes lines, in order; one record, all or nothing per partition.
pub async fn produce(
    State(health): Shared,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let broker = health.broker()?;
    let topic = find(broker, &name)?;
    let now_ms = i64::try_from(broker.wall_ms()).unwrap_or(i64::MAX);
    let bytes_max = usize::try_from(broker.topic_policy(&topic).message_bytes_max).unwrap_or(usize::MAX);
    let bytes_max = bytes_max.min(broker.append_bytes_max());
    let mut items = Vec::new();
    let mut partitions = Vec::new();
    for (i, line) in body.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty()).enumerate() {
        if i >= MESSAGES_MAX {
            return Err(ApiError::bad(format!("more than {MESSAGES_MAX} messages in one request")));
        }
        let line: Line =
            serde_json::from_slice(line).map_err(|e| ApiError::bad(format!("line {}: {e}", i + 1)))?;
        let (partition, item) = item(&topic, line, i, now_ms)?;
        let bytes: usize = item.body.iter().map(Bytes::len).sum();
        if bytes > bytes_max {
            let text =
                format!("line {}: {bytes} bytes; the topic takes {bytes_max} (max.message.bytes)", i + 1);
            return Err(ApiError::bad(text));
        }
        partitions.push(partition);
        items.push(item);
    }
    let results = health.session()?.append(items).await?;
    let mut placed = Vec::with_capacity(results.len());
    for (partition, result) in partitions.into_iter().zip(results) {
        match result {
            Ok(a) => placed.push(json!([partition, a.base])),
            Err(e) => return Err(ApiError::unavailable(e.to_string())),
        }
    }
    Ok(Json(json!({ "placed": placed })))
}

fn item(topic: &Topic, line: Line, i: usize, now_ms: i64) -> Result<(u32, AppendItem), ApiError> {
    let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX).max(1);
    let key = bytes_of(line.key, line.key_base64, "key")?;
    let partition = match (line.partition, &key) {
        (Some(p), _) => p,
        (None, Some(key)) => partition_for_key(key, count),
        (None, None) => u32::try_from(i).unwrap_or(0) % count,
    };
    let part = topic
        .def
        .log(partition)
        .ok_or_else(|| ApiError::bad(format!("there is no partition {partition}; there are {count}")))?;
    let header = |(name, value): (String, Option<String>)| Header {
        name,
        value: value.map_or(HeaderValue::Null, |v| HeaderValue::Bytes(v.into())),
    };
    let message = Message {
        routing_key: topic.def.name.clone(),
        key,
        headers: line.headers.into_iter().map(header).collect(),
        payload: bytes_of(line.value, line.value_base64, "value")?,
        ..Message::default()
    };
    let envelope = message.encode_envelope()?;
    let envelope_len = u32::try_from(envelope.len()).unwrap_or(u32::MAX);
    let body = std::iter::once(envelope).chain(message.payload).collect();
    let kind = AppendKind::Single { envelope_len };
    Ok((partition, AppendItem { part, kind, count: 1, max_ts_ms: now_ms, body }))
}

/// What to read.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consume {
    partition: Option<u32>,
    /// `earliest` (default), `latest`, `offset:N`, `time:MS` (milliseconds since the epoch).
    #[serde(default)]
    from: String,
    #[serde(default)]
    follow: bool,
    max: Option<u64>,
}

struct Cursor {
    index: u32,
    part: Arc<PartitionView>,
    next: u64,
    end: Option<u64>,
}

struct Reading {
    broker: Broker,
    cursors: Vec<Cursor>,
    turn: usize,
    left: u64,
}

/// Reads partitions as lines: to the end, or on and on.
pub async fn consume(
    State(health): Shared,
    Path(name): Path<String>,
    Query(q): Query<Consume>,
) -> Result<Response, ApiError> {
    let broker = health.broker()?.clone();
    let topic = find(&broker, &name)?;
    let mut cursors = Vec::new();
    for (i, part) in topic.partitions.iter().enumerate() {
        let index = u32::try_from(i).unwrap_or(u32::MAX);
        if q.partition.is_some_and(|p| p != index) {
            continue;
        }
        let next = start(&broker, part, &q.from).await?;
        let end = (!q.follow).then(|| part.visible_end());
        cursors.push(Cursor { index, part: Arc::clone(part), next, end });
    }
    if cursors.is_empty() {
        return Err(ApiError::bad(format!("there is no partition {:?}", q.partition)));
    }
    let reading = Reading { broker, cursors, turn: 0, left: q.max.unwrap_or(u64::MAX) };
    let lines = futures_util::stream::unfold(reading, |mut r| async move {
        let chunk = r.chunk().await?;
        Some((chunk, r))
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

async fn start(broker: &Broker, part: &Arc<PartitionView>, from: &str) -> Result<u64, ApiError> {
    let number = |n: &str| n.parse::<u64>().map_err(|_| ApiError::bad(format!("from={from}: not a number")));
    match from.split_once(':') {
        None if from.is_empty() || from == "earliest" => Ok(part.start()),
        None if from == "latest" => Ok(part.visible_end()),
        Some(("offset", n)) => Ok(number(n)?.clamp(part.start(), part.visible_end())),
        Some(("time", n)) => {
            let ts = i64::try_from(number(n)?).unwrap_or(i64::MAX);
            Ok(offset_at(broker, part, ts).await?)
        }
        _ => Err(ApiError::bad(format!("from={from}: earliest, latest, offset:N or time:MS"))),
    }
}

/// The offset of the first record at or past a time; the end if there is none.
pub(super) async fn offset_at(
    broker: &Broker,
    part: &Arc<PartitionView>,
    ts_ms: i64,
) -> Result<u64, ApiError> {
    let mut from = part.start();
    while let Some(entry) = broker.streams().from_time(part, from, ts_ms).await? {
        let next = entry.offset + u64::from(entry.count);
        if let Some(r) = records(entry)?.into_iter().find(|r| r.timestamp_ms >= ts_ms) {
            return Ok(r.offset.max(part.start()));
        }
        from = next;
    }
    Ok(part.visible_end())
}

impl Reading {
    /// The next lines; `None` at the end. An error ends the stream.
    async fn chunk(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        loop {
            if self.left == 0 {
                return None;
            }
            let many = self.cursors.len();
            for _ in 0..many {
                self.turn = (self.turn + 1) % many;
                let turn = self.turn;
                let (broker, left) = (self.broker.clone(), self.left);
                let cursor = self.cursors.get_mut(turn)?;
                match cursor.lines(&broker, left).await {
                    Ok((lines, count)) if count > 0 => {
                        self.left -= count;
                        return Some(Ok(lines.into()));
                    }
                    Ok(_) => {}
                    Err(e) => return Some(Err(std::io::Error::other(format!("{e:?}")))),
                }
            }
            self.cursors.retain(|c| c.end.is_none_or(|end| c.next < end) && !c.part.is_gone());
            if self.cursors.is_empty() {
                return None;
            }
            if self.cursors.iter().any(|c| c.next < c.part.visible_end()) {
                continue;
            }
            let waits: Vec<_> = self.cursors.iter().map(|c| (Arc::clone(&c.part), c.next)).collect();
            self.broker.streams().wait(&waits, tokio::time::Instant::now() + FOLLOW_WAIT).await;
        }
    }
}

impl Cursor {
    async fn lines(&mut self, broker: &Broker, left: u64) -> Result<(Vec<u8>, u64), ApiError> {
        self.next = self.next.max(self.part.start());
        let batch = broker.streams().fetch(&self.part, self.next, READ_BYTES).await?;
        let (mut out, mut count) = (Vec::new(), 0);
        for entry in batch.entries {
            for r in records(entry)? {
                let past = self.end.is_some_and(|end| r.offset >= end);
                if r.offset < self.next || past || count == left {
                    continue;
                }
                self.next = r.offset + 1;
                count += 1;
                serde_json::to_writer(&mut out, &line(self.index, &r))
                    .map_err(|e| ApiError::bad(e.to_string()))?;
                out.push(b'\n');
            }
        }
        if count < left {
            self.next = self.next.max(batch.next);
        }
        Ok((out, count))
    }
}

/// One record, whichever way it was stored.
pub(super) struct Record {
    pub(super) offset: u64,
    pub(super) timestamp_ms: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<Header>,
}

pub(super) fn records(entry: StreamEntry) -> Result<Vec<Record>, ApiError> {
    match entry.content {
        Content::Single { message, .. } => Ok(vec![Record {
            offset: entry.offset,
            timestamp_ms: entry.max_ts_ms,
            key: message.key,
            value: message.payload,
            headers: message.headers,
        }]),
        Content::Batch { body, .. } => {
            let records = millstream_broker::batch::decode_batch(&body, entry.offset)
                .map_err(|e| ApiError::unavailable(format!("the batch at offset {}: {e}", entry.offset)))?;
            let record = |r: millstream_broker::batch::DecodedRecord| Record {
                offset: r.offset,
                timestamp_ms: r.timestamp_ms,
                key: r.key,
                value: r.value,
                headers: r.headers.into_iter().map(of_record).collect(),
            };
            Ok(records.into_iter().map(record).collect())
        }
    }
}

/// A record's header: bytes, or none.
fn of_record((name, value): (String, Option<Bytes>)) -> Header {
    Header { name, value: value.map_or(HeaderValue::Null, HeaderValue::Bytes) }
}

pub(super) fn put(o: &mut serde_json::Map<String, Value>, name: &str, bytes: Option<&Bytes>) {
    match bytes.map(|b| std::str::from_utf8(b).map_err(|_| b)) {
        None => drop(o.insert(name.to_owned(), Value::Null)),
        Some(Ok(text)) => drop(o.insert(name.to_owned(), json!(text))),
        Some(Err(raw)) => drop(o.insert(format!("{name}_base64"), json!(BASE64_STANDARD.encode(raw)))),
    }
}

pub(super) fn line(partition: u32, r: &Record) -> Value {
    let mut o = serde_json::Map::new();
    o.insert("partition".to_owned(), json!(partition));
    o.insert("offset".to_owned(), json!(r.offset));
    o.insert("timestamp_ms".to_owned(), json!(r.timestamp_ms));
    put(&mut o, "key", r.key.as_ref());
    put(&mut o, "value", r.value.as_ref());
    if !r.headers.is_empty() {
        let header = |h: &Header| json!([h.name, values::to_json(&h.value)]);
        o.insert("headers".to_owned(), r.headers.iter().map(header).collect());
    }
    Value::Object(o)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_shown_as_what_they_are() {
        let header = |name: &str, value| Header { name: name.to_owned(), value };
        let raw = of_record(("raw".to_owned(), Some(Bytes::from_static(b"\xff"))));
        let none = of_record(("none".to_owned(), None));
        let headers =
            vec![header("n", HeaderValue::I32(5)), header("on", HeaderValue::Bool(true)), raw, none];
        let r = Record { offset: 3, timestamp_ms: -1, key: None, value: None, headers };
        let shown = json!([["n", 5], ["on", true], ["raw", { "base64": "/w==" }], ["none", null]]);
        assert_eq!(line(1, &r)["headers"], shown);
    }
}
