//! The layout of GROUP, MEMBER and OFFSET rows and of their effects.

use std::sync::Arc;

use bytes::Bytes;
use millstream_types::{LogId, Namespace, ObjectId};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::codec::DecodeError;
use crate::group::CommittedOffset;
use crate::group::rows::group::{GroupEffect, GroupKey, GroupRow, Phase};
use crate::group::rows::member::{MemberEffect, MemberKey, MemberMeta, MemberRow};
use crate::group::rows::offset::{OffsetEffect, OffsetKey, OffsetRow};
use crate::rows::{RowKey, RowValue};

fn group_row() -> impl Strategy<Value = GroupRow> {
    let phase = prop_oneof![Just(Phase::Empty), Just(Phase::Completing), Just(Phase::Stable)];
    (any::<u64>(), any::<i32>(), phase, any::<u64>(), [".*", ".*", ".*"]).prop_map(
        |(object, generation, phase, since_ms, [protocol_type, protocol, leader])| GroupRow {
            object: ObjectId(object),
            generation,
            phase,
            since_ms,
            protocol_type,
            protocol,
            leader,
        },
    )
}

fn blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn meta() -> impl Strategy<Value = Arc<MemberMeta>> {
    (prop::option::of(".*"), [".*", ".*"], any::<(u32, u32)>(), vec((".*", blob()), 0..4)).prop_map(
        |(instance, [client_id, client_host], (session_timeout_ms, rebalance_timeout_ms), protocols)| {
            Arc::new(MemberMeta {
                instance,
                client_id,
                client_host,
                session_timeout_ms,
                rebalance_timeout_ms,
                protocols,
            })
        },
    )
}

fn offset_row() -> impl Strategy<Value = OffsetRow> {
    (any::<u64>(), any::<i32>(), ".*", any::<u64>()).prop_map(
        |(offset, leader_epoch, metadata, commit_ms)| OffsetRow {
            committed: CommittedOffset { offset, leader_epoch, metadata },
            commit_ms,
        },
    )
}

fn back<R: RowValue>(row: &R) -> Result<R, DecodeError> {
    let mut bytes = Vec::new();
    row.put(&mut bytes);
    for end in 0..bytes.len() {
        assert!(R::take(&bytes[..end]).is_err(), "cut at {end}");
    }
    R::take(&bytes)
}

proptest! {
    #[test]
    fn rows_come_back_as_they_were_written_and_cut_ones_do_not(
        group in group_row(), meta in meta(), assignment in blob(), offset in offset_row()
    ) {
        prop_assert_eq!(back(&group).unwrap(), group);
        let member = MemberRow { meta, assignment };
        prop_assert_eq!(back(&member).unwrap(), member);
        prop_assert_eq!(back(&offset).unwrap(), offset);
    }

    #[test]
    fn effects_come_back_as_they_were_written(
        group in group_row(), meta in meta(), assignment in blob(), offset in offset_row(), id in any::<u64>(), name in ".*"
    ) {
        let object = ObjectId(id);
        let key = GroupKey { ns: Namespace(7), name };
        for effect in [GroupEffect::Put(group), GroupEffect::Gone { object }] {
            let written = effect.on(&key);
            prop_assert_eq!(GroupKey::decode(&written.key).unwrap(), key.clone());
            prop_assert_eq!(GroupEffect::take(&written.bytes).unwrap(), effect);
        }
        for effect in [MemberEffect::Joined(meta), MemberEffect::Assigned(assignment), MemberEffect::Gone] {
            let written = effect.on(object, "m");
            prop_assert_eq!(MemberKey::decode(&written.key).unwrap(), MemberKey { group: object, member: "m".into() });
            prop_assert_eq!(MemberEffect::take(&written.bytes).unwrap(), effect);
        }
        let key = OffsetKey { group: object, log: LogId(id ^ 5) };
        for effect in [OffsetEffect::Set(offset), OffsetEffect::Gone] {
            let written = effect.on(&key);
            prop_assert_eq!(OffsetKey::decode(&written.key).unwrap(), key);
            prop_assert_eq!(OffsetEffect::take(&written.bytes).unwrap(), effect);
        }
    }

    #[test]
    fn keys_keep_their_order(a: (u32, u64, String), b: (u32, u64, String)) {
        let group = |(ns, _, name): &(u32, u64, String)| GroupKey { ns: Namespace(*ns), name: name.clone() };
        prop_assert_eq!(group(&a).encode().cmp(&group(&b).encode()), group(&a).cmp(&group(&b)));
        let member = |(_, g, m): &(u32, u64, String)| MemberKey { group: ObjectId(*g), member: m.clone() };
        prop_assert_eq!(member(&a).encode().cmp(&member(&b).encode()), member(&a).cmp(&member(&b)));
        let offset = |(l, g, _): &(u32, u64, String)| OffsetKey { group: ObjectId(*g), log: LogId(u64::from(*l)) };
        prop_assert_eq!(offset(&a).encode().cmp(&offset(&b).encode()), offset(&a).cmp(&offset(&b)));
    }

    #[test]
    fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
        let _ = (GroupRow::take(&bytes), MemberRow::take(&bytes), OffsetRow::take(&bytes));
        let _ = (GroupEffect::take(&bytes), MemberEffect::take(&bytes), OffsetEffect::take(&bytes));
        let _ = (GroupKey::decode(&bytes), MemberKey::decode(&bytes), OffsetKey::decode(&bytes));
    }
}

/// Bytes that are on disks: a change of these needs a new version.
#[test]
fn version_1_is_written_as_it_was() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let row = |r: &dyn RowValue| {
        let mut bytes = Vec::new();
        r.put(&mut bytes);
        hex(&bytes)
    };
    let group = GroupRow {
        object: ObjectId(0x3000_0000_0001),
        generation: 2,
        phase: Phase::Stable,
        since_ms: 3,
        protocol_type: "t".into(),
        protocol: "p".into(),
        leader: "l".into(),
    };
    assert_eq!(row(&group), "0101000000003000000200000002030000000000000001000000740100000070010000006c");
    let meta = MemberMeta {
        instance: Some("i".into()),
        client_id: "c".into(),
        client_host: "h".into(),
        session_timeout_ms: 1,
        rebalance_timeout_ms: 2,
        protocols: vec![("p".into(), Bytes::from_static(b"m"))],
    };
    let member = MemberRow { meta: Arc::new(meta), assignment: Bytes::from_static(b"a") };
    assert_eq!(
        row(&member),
        "0101010000006901000000630100000068010000000200000001000000010000007001000000 6d0100000061"
            .replace(' ', "")
    );
    let offset = OffsetRow {
        committed: CommittedOffset { offset: 9, leader_epoch: -1, metadata: "m".into() },
        commit_ms: 4,
    };
    assert_eq!(row(&offset), "010900000000000000ffffffff0400000000000000010000006d");
    assert_eq!(hex(&GroupKey { ns: Namespace(1), name: "g".into() }.encode()), "200000000167");
    assert_eq!(hex(&MemberKey { group: ObjectId(1), member: "m".into() }.encode()), "2100000000000000016d");
    assert_eq!(
        hex(&OffsetKey { group: ObjectId(1), log: LogId(2) }.encode()),
        "2200000000000000010000000000000002"
    );
}
