//! Member ids that no other member has or had: text a client may know itself by, and 128 bits in the shape of a UUID.
//!
//! The engine has no randomness: the bits are a mixture of when this process began to serve, the session and its ticket.

use super::config::MEMBER_ID_PREFIX_BYTES_MAX;
use millstream_types::ConnId;

use crate::op::Ticket;

/// Mixes what goes into member ids.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MemberIds {
    seed: u64,
}

impl MemberIds {
    /// For one run of the process, which began to serve at this time.
    pub fn new(wall_ms: u64, mono_ms: u64) -> Self {
        Self { seed: mix(mix(wall_ms) ^ mono_ms) }
    }

    /// The id for the member that one operation of a session makes; `turn` tells further ids of the same operation apart.
    pub fn make(self, prefix: &str, session: ConnId, ticket: Ticket, turn: u64) -> String {
        let state = mix(mix(mix(self.seed ^ session.0) ^ ticket.0) ^ turn);
        let (hi, lo) = (mix(state ^ 0x6d69_6c6c), mix(state ^ 0x7374_7265));
        // RFC 9562, version 8: 122 bits of our own making.
        let hi = hi & !0xf000 | 0x8000;
        let lo = lo & !(0b11 << 62) | (0b10 << 62);
        let end = prefix.floor_char_boundary(MEMBER_ID_PREFIX_BYTES_MAX);
        let prefix = prefix.get(..end).unwrap_or_default();
        format!(
            "{prefix}-{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            hi >> 32,
            hi >> 16 & 0xffff,
            hi & 0xffff,
            lo >> 48,
            lo & 0xffff_ffff_ffff
        )
    }
}

/// A bijection of 64 bits in which every bit of the outcome depends on every bit of `x` (the finaliser of splitmix64).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_look_like_a_client_and_a_uuid() {
        let id = MemberIds::new(1, 2).make("app", ConnId(3), Ticket(4), 0);
        let parts: Vec<&str> = id.split('-').collect();
        assert_eq!(parts.iter().map(|p| p.len()).collect::<Vec<_>>(), [3, 8, 4, 4, 4, 12]);
        assert!(parts[1..].iter().all(|p| p.bytes().all(|b| b.is_ascii_hexdigit())));
    }

    #[test]
    fn every_run_session_ticket_and_turn_gives_another_id() {
        let mut seen = BTreeSet::new();
        for run in 0..10 {
            for session in 0..10 {
                for ticket in 0..10 {
                    for turn in 0..3 {
                        let ids = MemberIds::new(1_700_000_000_000 + run, run);
                        assert!(seen.insert(ids.make("", ConnId(session), Ticket(ticket), turn)));
                    }
                }
            }
        }
    }

    #[test]
    fn a_long_client_id_is_cut_between_characters() {
        let id = MemberIds::default().make(&"ä".repeat(200), ConnId(0), Ticket(0), 0);
        assert_eq!(id.len(), 254 + 37);
    }
}
