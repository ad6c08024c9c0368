//! Receipt handles: which delivery of which message, in a form that only this store can make.
//!
//! Base64 of `version u8 · queue u64 · lane u16 · position u64 · delivery number u32 · received u64 milliseconds · MAC 16 bytes`,
//! big-endian. The MAC is SipHash-2-4 with 128 bits over the rest, under a key derived from the store's secret, so that handles hold over
//! a restart.

use std::hash::Hasher as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use siphasher::sip128::{Hasher128, SipHasher24};

const VERSION: u8 = 1;
const BODY_BYTES: usize = 31;
const BYTES: usize = BODY_BYTES + 16;

/// One delivery of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) queue: u64,
    pub(crate) lane: u16,
    pub(crate) pos: u64,
    pub(crate) delivery_no: u32,
    /// When it was received, milliseconds since the epoch.
    pub(crate) received_ms: u64,
}

impl Handle {
    pub(crate) fn encode(&self, key: &[u8; 16]) -> String {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.queue.to_be_bytes());
        bytes.extend_from_slice(&self.lane.to_be_bytes());
        bytes.extend_from_slice(&self.pos.to_be_bytes());
        bytes.extend_from_slice(&self.delivery_no.to_be_bytes());
        bytes.extend_from_slice(&self.received_ms.to_be_bytes());
        let mac = mac(key, &bytes);
        bytes.extend_from_slice(&mac);
        STANDARD.encode(bytes)
    }

    /// `None`: this store did not make it.
    pub(crate) fn decode(text: &str, key: &[u8; 16]) -> Option<Self> {
        let bytes: [u8; BYTES] = STANDARD.decode(text).ok()?.try_into().ok()?;
        let (body, tag) = bytes.split_at_checked(BODY_BYTES)?;
        // The difference of all bytes is looked at, not the first that differs.
        let differ = mac(key, body).iter().zip(tag).fold(0, |all, (a, b)| all | (a ^ b));
        if differ != 0 {
            return None;
        }
        let (version, rest) = body.split_first_chunk::<1>()?;
        let (queue, rest) = rest.split_first_chunk()?;
        let (lane, rest) = rest.split_first_chunk()?;
        let (pos, rest) = rest.split_first_chunk()?;
        let (delivery_no, rest) = rest.split_first_chunk()?;
        let received_ms = rest.first_chunk()?;
        (*version == [VERSION]).then_some(Self {
            queue: u64::from_be_bytes(*queue),
            lane: u16::from_be_bytes(*lane),
            pos: u64::from_be_bytes(*pos),
            delivery_no: u32::from_be_bytes(*delivery_no),
            received_ms: u64::from_be_bytes(*received_ms),
        })
    }
}

fn mac(key: &[u8; 16], bytes: &[u8]) -> [u8; 16] {
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(bytes);
    hasher.finish128().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLE: Handle =
        Handle { queue: 1 << 40, lane: 258, pos: 7, delivery_no: 3, received_ms: 1_700_000_000_000 };

    #[test]
    fn a_handle_comes_back_as_it_was_given_out() {
        let text = HANDLE.encode(&[5; 16]);
        assert_eq!(Handle::decode(&text, &[5; 16]), Some(HANDLE));
        assert_eq!(Handle::decode(&text, &[6; 16]), None);
    }

    #[test]
    fn no_changed_byte_and_no_other_text_is_a_handle() {
        let bytes = STANDARD.decode(HANDLE.encode(&[5; 16])).unwrap();
        for i in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[i] ^= 1;
            assert_eq!(Handle::decode(&STANDARD.encode(&bytes), &[5; 16]), None, "{i}");
        }
        for text in ["", "x", "not base64 at all!", &STANDARD.encode([1; 46]), &STANDARD.encode([1; 48])] {
            assert_eq!(Handle::decode(text, &[5; 16]), None, "{text}");
        }
    }
}
