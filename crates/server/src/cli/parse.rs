//! What people write as an option's value: spans of time, sizes, arguments.

use serde_json::{Map, Value, json};

/// A span in milliseconds: `250`, `250ms`, `5s`, `10m`, `12h`, `7d`.
pub fn span_ms(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let ms: u64 = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("a number and ms, s, m, h or d".to_owned()),
    };
    let n: u64 = number.parse().map_err(|_| "a number and ms, s, m, h or d".to_owned())?;
    n.checked_mul(ms).ok_or_else(|| "too long".to_owned())
}

/// A size in bytes: `1000`, `64KiB`, `10MiB`, `2GiB`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err("a number, or one and KiB, MiB, GiB or TiB".to_owned()),
    };
    let n: u64 = number.parse().map_err(|_| "a number, or one and KiB, MiB, GiB or TiB".to_owned())?;
    n.checked_mul(1 << shift).ok_or_else(|| "too much".to_owned())
}

/// A rest after a failed attempt: `5s`, or `1s..5m` (twice as long each time), or `1s..5m~20` (up to 20 % of it taken off at random).
pub fn backoff(text: &str) -> Result<Value, String> {
    let (spans, jitter) = match text.split_once('~') {
        None => (text, 0_u8),
        Some((spans, jitter)) => {
            (spans, jitter.parse().map_err(|_| "behind ~ a percentage, 0 to 100".to_owned())?)
        }
    };
    match spans.split_once("..") {
        None => Ok(json!({ "base_ms": span_ms(spans)?, "jitter_percent": jitter })),
        Some((base, max)) => {
            Ok(json!({ "base_ms": span_ms(base)?, "max_ms": span_ms(max)?, "jitter_percent": jitter }))
        }
    }
}

/// `NAME=VALUE` as a name and JSON: numbers, true, false and what is in quotes are taken for what they are, all else for text.
pub fn argument(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| "must be NAME=VALUE".to_owned())?;
    let parsed = serde_json::from_str(value).ok();
    let plain = parsed.filter(|v: &Value| v.is_number() || v.is_boolean() || v.is_string());
    Ok((name.to_owned(), plain.unwrap_or_else(|| json!(value))))
}

/// Arguments as an object.
pub fn object(all: Vec<(String, Value)>) -> Map<String, Value> {
    all.into_iter().collect()
}

/// A pattern: JSON, or `@FILE` that holds it.
pub fn pattern(text: &str) -> Result<Value, String> {
    let text = match text.strip_prefix('@') {
        None => text.to_owned(),
        Some(path) => std::fs::read_to_string(path).map_err(|e| format!("reading {path}: {e}"))?,
    };
    serde_json::from_str(&text).map_err(|e| format!("the filter is not JSON: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_have_units() {
        assert_eq!(
            ["7", "7ms", "2s", "3m", "1h", "1d"].map(|t| span_ms(t).unwrap()),
            [7, 7, 2_000, 180_000, 3_600_000, 86_400_000]
        );
        assert!(
            ["", "s", "1w", "-1s", "1.5s", "99999999999999999999", "999999999999999999d"]
                .iter()
                .all(|t| span_ms(t).is_err())
        );
        assert_eq!(["5", "1KiB", "2MiB"].map(|t| bytes(t).unwrap()), [5, 1 << 10, 2 << 20]);
        assert!(["1kb", "KiB"].iter().all(|t| bytes(t).is_err()));
    }

    #[test]
    fn a_backoff_is_fixed_or_grows() {
        assert_eq!(backoff("5s").unwrap(), json!({ "base_ms": 5_000, "jitter_percent": 0 }));
        assert_eq!(
            backoff("1s..1m~20").unwrap(),
            json!({ "base_ms": 1_000, "max_ms": 60_000, "jitter_percent": 20 })
        );
        assert!(backoff("1s..").is_err());
    }

    #[test]
    fn an_argument_is_what_it_looks_like() {
        assert_eq!(argument("a=5").unwrap(), ("a".to_owned(), json!(5)));
        assert_eq!(argument("a=\"5\"").unwrap().1, json!("5"));
        assert_eq!(argument("a=b=c").unwrap().1, json!("b=c"));
        assert!(argument("a").is_err());
    }
}
