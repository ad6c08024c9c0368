//! Why queues gave a message up, as `RabbitMQ` says it in headers: `x-death`, and `x-first-death-*`, `x-last-death-*`.

use millstream_broker::{Death, Header, HeaderValue};

/// The list of deaths, the latest first.
const X_DEATH: &str = "x-death";

/// Puts a message's deaths among its headers. Those that it brought along as headers are replaced: they are an earlier life's.
pub(crate) fn put(headers: &mut Vec<Header>, deaths: &[Death]) {
    let Some(last) = deaths.first() else { return };
    let first = deaths.iter().find(|d| d.first).unwrap_or(last);
    headers.retain(|h| {
        h.name != X_DEATH && !h.name.starts_with("x-first-death-") && !h.name.starts_with("x-last-death-")
    });
    headers.push(header(X_DEATH, HeaderValue::Array(deaths.iter().map(entry).collect())));
    for (which, death) in [("first", first), ("last", last)] {
        let mut say = |what: &str, text: &str| {
            headers.push(header(&format!("x-{which}-death-{what}"), HeaderValue::Str(text.to_owned())));
        };
        say("exchange", &death.exchange);
        say("queue", &death.queue);
        say("reason", death.reason.name());
    }
}

fn header(name: &str, value: HeaderValue) -> Header {
    Header { name: name.to_owned(), value }
}

fn entry(death: &Death) -> HeaderValue {
    let text = |t: &str| HeaderValue::Str(t.to_owned());
    let count = i64::try_from(death.count).unwrap_or(i64::MAX);
    let time_ms = i64::try_from(death.time_ms).unwrap_or(i64::MAX);
    let mut entry = vec![
        header("count", HeaderValue::I64(count)),
        header("reason", text(death.reason.name())),
        header("queue", text(&death.queue)),
        header("time", HeaderValue::Timestamp(time_ms)),
        header("exchange", text(&death.exchange)),
        header("routing-keys", HeaderValue::Array(death.keys.iter().map(|k| text(k)).collect())),
    ];
    if let Some(expiration) = &death.expiration {
        entry.push(header("original-expiration", text(&String::from_utf8_lossy(expiration))));
    }
    HeaderValue::Table(entry)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millstream_broker::DeathReason;

    use super::*;

    #[test]
    fn deaths_are_listed_latest_first_with_first_and_last_beside() {
        let death = |queue: &str, reason, first: bool| Death {
            queue: queue.to_owned(),
            reason,
            count: 2,
            time_ms: 5_000,
            exchange: "x".to_owned(),
            keys: vec!["k".to_owned()],
            expiration: first.then(|| Bytes::from_static(b"100")),
            first,
        };
        let mut headers = vec![header("x-death", HeaderValue::Null), header("mine", HeaderValue::Null)];
        put(
            &mut headers,
            &[death("b", DeathReason::Rejected, false), death("a", DeathReason::Expired, true)],
        );
        let names: Vec<_> = headers.iter().map(|h| h.name.as_str()).collect();
        assert_eq!(names[..3], ["mine", "x-death", "x-first-death-exchange"]);
        let HeaderValue::Array(entries) = &headers[1].value else { panic!() };
        let HeaderValue::Table(oldest) = &entries[1] else { panic!() };
        let names: Vec<_> = oldest.iter().map(|h| h.name.as_str()).collect();
        let want = ["count", "reason", "queue", "time", "exchange", "routing-keys", "original-expiration"];
        assert_eq!(names, want);
        let value = |name: &str| headers.iter().find(|h| h.name == name).unwrap().value.clone();
        assert_eq!(value("x-first-death-queue"), HeaderValue::Str("a".into()));
        assert_eq!(value("x-last-death-reason"), HeaderValue::Str("rejected".into()));
    }

    #[test]
    fn a_message_that_never_died_keeps_its_headers() {
        let mut headers = vec![header("x-death", HeaderValue::Null)];
        put(&mut headers, &[]);
        assert_eq!(headers.len(), 1);
    }
}
