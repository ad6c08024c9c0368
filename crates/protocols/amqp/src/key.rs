//! The message's key in AMQP: the header `x-partition-key`, on the way in and on the way out.

use bytes::Bytes;
use millstream_broker::{Header, HeaderValue};

/// The name that the field's plugins for ordered exchanges use.
const PARTITION_KEY: &str = "x-partition-key";
/// A longer key is not shown, bytes: all headers of a message must go into one frame, of 131,072 bytes at most.
const SHOWN_BYTES_MAX: usize = 4_096;

/// The header that says what the message is ordered by, where the queue orders, and which partition of a topic it goes to.
pub(crate) fn partition_key(headers: &[Header]) -> Option<Bytes> {
    match &headers.iter().find(|h| h.name == PARTITION_KEY)?.value {
        HeaderValue::Str(key) => Some(Bytes::copy_from_slice(key.as_bytes())),
        HeaderValue::Bytes(key) => Some(key.clone()),
        _ => None,
    }
}

/// Shows a key that other protocols set: text if it is text. A header of that name that the message came with stays as it is; a key
/// above [`SHOWN_BYTES_MAX`] is left away.
pub(crate) fn show(headers: &mut Vec<Header>, key: Option<&Bytes>) {
    let Some(key) = key.filter(|k| k.len() <= SHOWN_BYTES_MAX) else { return };
    if headers.iter().any(|h| h.name == PARTITION_KEY) {
        return;
    }
    let value = match std::str::from_utf8(key) {
        Ok(text) => HeaderValue::Str(text.to_owned()),
        Err(_) => HeaderValue::Bytes(key.clone()),
    };
    headers.push(Header { name: PARTITION_KEY.to_owned(), value });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_shown_is_read_again_as_the_same_key() {
        for key in [&b"customer 1"[..], b"\xff\x00", b""] {
            let mut headers = Vec::new();
            show(&mut headers, Some(&Bytes::from_static(key)));
            assert_eq!(partition_key(&headers).as_deref(), Some(key));
        }
    }

    #[test]
    fn a_header_that_the_message_has_is_not_set_again() {
        let own =
            Header { name: PARTITION_KEY.to_owned(), value: HeaderValue::Bytes(Bytes::from_static(b"a")) };
        let mut headers = vec![own.clone()];
        show(&mut headers, Some(&Bytes::from_static(b"a")));
        assert_eq!(headers, [own]);
        show(&mut headers, None);
        assert_eq!(headers.len(), 1);
        headers.clear();
        show(&mut headers, Some(&Bytes::from(vec![b'k'; SHOWN_BYTES_MAX + 1])));
        assert_eq!(headers, []);
    }
}
