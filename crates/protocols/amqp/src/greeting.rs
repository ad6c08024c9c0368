//! The eight bytes with which a client begins (section 4.2.2).

/// What this server speaks, and what it answers to anything else before it closes.
pub const AMQP_0_9_1: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// What a client's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// So far so good: more bytes are needed.
    More,
    /// AMQP 0-9-1.
    Amqp091,
    /// AMQP 1.0, with its protocol id (0 plain, 2 TLS, 3 SASL).
    Amqp10 {
        /// The id.
        id: u8,
    },
    /// Something else: answer [`AMQP_0_9_1`] and close.
    Other,
}

/// Looks at the first bytes, eight at most.
#[must_use]
pub fn look(bytes: &[u8]) -> Greeting {
    let head = bytes.get(..8).unwrap_or(bytes);
    match head {
        [b'A', b'M', b'Q', b'P', 0, 0, 9, 1] => Greeting::Amqp091,
        [b'A', b'M', b'Q', b'P', id @ (0 | 2 | 3), 1, 0, 0] => Greeting::Amqp10 { id: *id },
        _ if head.len() < 8 && (b"AMQP".starts_with(head) || head.starts_with(b"AMQP")) => Greeting::More,
        _ => Greeting::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_known_by_its_eight_bytes() {
        assert_eq!(look(&AMQP_0_9_1), Greeting::Amqp091);
        assert_eq!(look(b"AMQP\x00\x00\x09\x01then frames"), Greeting::Amqp091);
        assert_eq!(look(b"AMQP\x03\x01\x00\x00"), Greeting::Amqp10 { id: 3 });
        for old in [b"AMQP\x01\x01\x00\x09", b"AMQP\x01\x01\x08\x00", b"AMQP\x00\x00\x09\x00"] {
            assert_eq!(look(old), Greeting::Other);
        }
        for n in 0..8 {
            assert_eq!(look(&AMQP_0_9_1[..n]), Greeting::More);
        }
        assert_eq!(look(b"GET / HT"), Greeting::Other);
        assert_eq!(look(b"G"), Greeting::Other);
    }
}
