//! AMQP's frames as our own load tool needs them: those that it sends, whole, and of those that come what it counts by. No I/O.

use anyhow::{Context, Result, bail, ensure};

/// Largest frame.
pub(super) const FRAME_BYTES_MAX: u32 = 131_072;
/// Of a frame beside its payload.
pub(super) const FRAME_BYTES_MORE: usize = 8;

pub(super) const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xCE;

/// Class and method.
pub(super) type Id = (u16, u16);

pub(super) const START: Id = (10, 10);
pub(super) const START_OK: Id = (10, 11);
pub(super) const TUNE: Id = (10, 30);
pub(super) const TUNE_OK: Id = (10, 31);
pub(super) const OPEN: Id = (10, 40);
pub(super) const OPEN_OK: Id = (10, 41);
const CLOSE: Id = (10, 50);
pub(super) const CHANNEL_OPEN: Id = (20, 10);
pub(super) const CHANNEL_OPEN_OK: Id = (20, 11);
pub(super) const CHANNEL_CLOSE: Id = (20, 40);
pub(super) const CHANNEL_CLOSE_OK: Id = (20, 41);
pub(super) const EXCHANGE_DECLARE: Id = (40, 10);
pub(super) const EXCHANGE_DECLARE_OK: Id = (40, 11);
pub(super) const DECLARE: Id = (50, 10);
pub(super) const DECLARE_OK: Id = (50, 11);
pub(super) const BIND: Id = (50, 20);
pub(super) const BIND_OK: Id = (50, 21);
pub(super) const DELETE: Id = (50, 40);
pub(super) const DELETE_OK: Id = (50, 41);
pub(super) const QOS: Id = (60, 10);
pub(super) const QOS_OK: Id = (60, 11);
pub(super) const CONSUME: Id = (60, 20);
pub(super) const CONSUME_OK: Id = (60, 21);
const PUBLISH: Id = (60, 40);
pub(super) const DELIVER: Id = (60, 60);
pub(super) const ACK: Id = (60, 80);
const NACK: Id = (60, 120);
pub(super) const SELECT: Id = (85, 10);
pub(super) const SELECT_OK: Id = (85, 11);

/// A frame of which only this is looked at.
pub(super) struct Frame {
    pub(super) kind: u8,
    /// Of a method.
    pub(super) id: Id,
    /// Of an ack or a delivery: its tag. Of a queue that was declared: its messages. Of a header: the bytes of the body.
    pub(super) number: u64,
    /// Of an ack.
    pub(super) multiple: bool,
    pub(super) payload_bytes: usize,
}

/// A frame at the front of these bytes, if it is there as a whole.
///
/// # Errors
/// What is no frame; what closes the channel or the connection; a message that the broker did not take.
pub(super) fn look(bytes: &[u8]) -> Result<Option<Frame>> {
    let Some(([kind, _, _, size @ ..], rest)) = bytes.split_first_chunk::<7>() else { return Ok(None) };
    let payload_bytes = u32::from_be_bytes(*size) as usize;
    let Some((payload, [end, ..])) = rest.split_at_checked(payload_bytes) else { return Ok(None) };
    ensure!(*end == END, "a frame that does not end");
    let mut frame = Frame { kind: *kind, id: (0, 0), number: 0, multiple: false, payload_bytes };
    let eight = |at: usize| payload.get(at..)?.first_chunk().map(|n| u64::from_be_bytes(*n));
    match (*kind, payload) {
        (METHOD, [a, b, c, d, fields @ ..]) => {
            frame.id = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
            match frame.id {
                ACK => {
                    frame.number = eight(4).context("an ack")?;
                    frame.multiple = fields.get(8).is_some_and(|bits| bits & 1 != 0);
                }
                NACK => bail!("the broker did not take a message"),
                DECLARE_OK => {
                    let at = 1 + usize::from(fields.first().copied().context("declare-ok")?);
                    let ready = fields.get(at..).and_then(|f| f.first_chunk()).context("declare-ok")?;
                    frame.number = u32::from_be_bytes(*ready).into();
                }
                DELIVER => {
                    let tag_bytes = fields.first().copied().context("a delivery")?;
                    frame.number = eight(5 + usize::from(tag_bytes)).context("a delivery")?;
                }
                CLOSE | CHANNEL_CLOSE => {
                    bail!(
                        "the broker closes: {}",
                        String::from_utf8_lossy(fields.get(3..).unwrap_or_default())
                    )
                }
                _ => {}
            }
        }
        (HEADER, _) => frame.number = eight(4).context("a header")?,
        _ => {}
    }
    Ok(Some(frame))
}

/// The frames of a message to an exchange.
pub(super) fn message(exchange: &str, key: &str, persistent: bool, body_bytes: usize) -> Result<Vec<u8>> {
    ensure!(body_bytes + FRAME_BYTES_MORE <= FRAME_BYTES_MAX as usize, "a body of more than one frame");
    let mut out = Vec::new();
    method(&mut out, 1, PUBLISH, |out| {
        out.extend([0, 0]);
        short(out, exchange);
        short(out, key);
        out.push(0);
    });
    frame(&mut out, HEADER, 1, |out| {
        out.extend(PUBLISH.0.to_be_bytes());
        out.extend([0, 0]);
        out.extend((body_bytes as u64).to_be_bytes());
        // Only a delivery mode.
        out.extend((1_u16 << 12).to_be_bytes());
        out.push(if persistent { 2 } else { 1 });
    });
    if body_bytes > 0 {
        frame(&mut out, BODY, 1, |out| out.resize(out.len() + body_bytes, b'm'));
    }
    Ok(out)
}

/// A method with its fields.
pub(super) fn method(out: &mut Vec<u8>, channel: u16, id: Id, fields: impl FnOnce(&mut Vec<u8>)) {
    frame(out, METHOD, channel, |out| {
        out.extend(id.0.to_be_bytes());
        out.extend(id.1.to_be_bytes());
        fields(out);
    });
}

fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    out.extend(channel.to_be_bytes());
    sized(out, payload);
    out.push(END);
}

/// A short string.
pub(super) fn short(out: &mut Vec<u8>, text: &str) {
    let text = text.get(..text.floor_char_boundary(255)).unwrap_or_default();
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend(text.as_bytes());
}

/// A table of long strings.
pub(super) fn table(out: &mut Vec<u8>, entries: &[(&str, &str)]) {
    sized(out, |out| {
        for (name, value) in entries {
            short(out, name);
            out.push(b'S');
            sized(out, |out| out.extend(value.as_bytes()));
        }
    });
}

/// Bytes behind their number.
fn sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend([0; 4]);
    write(out);
    let bytes = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    if let Some(size) = out.get_mut(at..at + 4) {
        size.copy_from_slice(&bytes.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_one_after_another_and_only_whole() {
        let bytes = message("", "q", true, 10).unwrap();
        let publish = look(&bytes).unwrap().unwrap();
        assert_eq!((publish.kind, publish.id), (METHOD, PUBLISH));
        let rest = &bytes[publish.payload_bytes + FRAME_BYTES_MORE..];
        let header = look(rest).unwrap().unwrap();
        assert_eq!((header.kind, header.number), (HEADER, 10));
        let rest = &rest[header.payload_bytes + FRAME_BYTES_MORE..];
        assert_eq!(look(rest).unwrap().map(|f| (f.kind, f.payload_bytes)), Some((BODY, 10)));
        assert!(look(&rest[..rest.len() - 1]).unwrap().is_none());
    }

    #[test]
    fn the_tag_of_a_delivery_lies_behind_its_consumer() {
        let mut bytes = Vec::new();
        method(&mut bytes, 1, DELIVER, |out| {
            short(out, "load");
            out.extend(77_u64.to_be_bytes());
            out.push(0);
        });
        assert_eq!(look(&bytes).unwrap().map(|f| f.number), Some(77));
        assert!(look(b"\x01\0\0\0\0\0\0x").is_err());
    }

    #[test]
    fn a_message_that_is_refused_is_an_error() {
        let mut bytes = Vec::new();
        method(&mut bytes, 1, NACK, |out| out.extend([0; 9]));
        assert!(look(&bytes).is_err());
    }

    #[test]
    fn a_table_and_its_strings_stand_behind_their_sizes() {
        let mut bytes = Vec::new();
        table(&mut bytes, &[("ab", "xyz")]);
        assert_eq!(bytes, b"\0\0\0\x0b\x02abS\0\0\0\x03xyz");
    }
}
