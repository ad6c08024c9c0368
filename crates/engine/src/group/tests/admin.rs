//! Lists, descriptions, deletions.

use super::world::*;
use crate::group::*;
use millstream_types::Namespace;

fn delete(w: &mut World, groups: &[&str]) -> Vec<Result<(), GroupError>> {
    let groups = groups.iter().map(|g| g.to_string()).collect();
    let t = w.submit(1, GroupOp::Delete { ns: NS, groups });
    match w.reply(t) {
        GroupReply::Delete(r) => r,
        other => panic!("{other:?}"),
    }
}

fn delete_offsets(w: &mut World, parts: &[u64]) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    let parts = parts.iter().map(|p| part(*p)).collect();
    let t = w.submit(1, GroupOp::DeleteOffsets { ns: NS, group: "g".into(), parts });
    match w.reply(t) {
        GroupReply::DeleteOffsets(r) => r,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stable_group_is_described_in_full() {
    let mut w = World::new();
    let m = w.stable(2);
    w.commit_as(who_of(&m[0]), &[(1, 5)]).unwrap();
    let d = w.describe().unwrap();
    assert_eq!(
        (d.summary.state, d.summary.protocol_type.as_str(), d.protocol.as_str()),
        (GroupState::Stable, "consumer", "range")
    );
    assert_eq!((d.generation, d.members.len(), d.offsets.len()), (2, 2, 1));
    for member in d.members {
        assert_eq!(member.assignment, format!("for {}", member.member));
        assert_eq!(
            (member.metadata.as_ref(), member.client_id.as_str()),
            (b"meta of range".as_slice(), "app")
        );
        assert_eq!(member.client_host, "/127.0.0.1");
    }
}

#[test]
fn groups_are_listed_by_namespace() {
    let mut w = World::new();
    w.stable(1);
    w.commit_as(Who { group: "simple".into(), ..nobody() }, &[(1, 1)]).unwrap();
    w.commit_as(Who { ns: Namespace(2), group: "elsewhere".into(), ..nobody() }, &[(1, 1)]).unwrap();
    let t = w.submit(1, GroupOp::List { ns: NS });
    let GroupReply::List(l) = w.reply(t) else { panic!() };
    let l: Vec<_> = l.iter().map(|s| (s.group.as_str(), s.protocol_type.as_str(), s.state)).collect();
    assert_eq!(l, [("g", "consumer", GroupState::Stable), ("simple", "", GroupState::Empty)]);
}

#[test]
fn only_empty_groups_can_be_deleted() {
    let mut w = World::new();
    let m = w.stable(1);
    w.commit_as(Who { group: "simple".into(), ..nobody() }, &[(1, 1)]).unwrap();
    assert_eq!(
        delete(&mut w, &["g", "simple", "unknown", "simple"]),
        [Err(GroupError::NotEmpty), Ok(()), Err(GroupError::NotFound), Ok(())]
    );
    assert!(w.fetch("simple").is_empty());
    w.leave(&m[0].member, None).unwrap();
    assert_eq!(delete(&mut w, &["g"]), [Ok(())]);
    assert!(w.describe().is_none());
    assert_eq!(delete(&mut w, &["g"]), [Err(GroupError::NotFound)]);
}

#[test]
fn deleting_a_group_removes_its_rows() {
    let mut w = World::new();
    w.commit_as(nobody(), &[(1, 1), (2, 2)]).unwrap();
    delete(&mut w, &["g"]);
    assert_eq!(durable_state(&w.groups), "");
}

#[test]
fn without_room_for_the_record_a_deletion_waits() {
    let mut w = World::new();
    w.commit_as(nobody(), &[(1, 1)]).unwrap();
    w.log.room = false;
    let t = w.submit(1, GroupOp::Delete { ns: NS, groups: vec!["g".into()] });
    assert!(w.waits(t));
    assert_eq!(w.fetch("g").len(), 1);
    w.log.room = true;
    w.pass(2);
    assert!(matches!(w.reply(t), GroupReply::Delete(r) if r == [Ok(())]));
    assert!(w.describe().is_none());
}

#[test]
fn offsets_are_deleted_while_nobody_is_subscribed() {
    let mut w = World::new();
    assert_eq!(delete_offsets(&mut w, &[1]), Err(GroupError::NotFound));
    w.commit_as(nobody(), &[(1, 1), (2, 2)]).unwrap();
    assert_eq!(delete_offsets(&mut w, &[1, 3, 77]), Ok(vec![Ok(()), Ok(()), Err(GroupError::NoPartition)]));
    assert_eq!(w.fetch("g"), [(part(2), Some(committed(2)))]);
    w.stable(1);
    assert_eq!(delete_offsets(&mut w, &[2]), Ok(vec![Err(GroupError::Subscribed)]));
    assert_eq!(w.fetch("g").len(), 1);
}

#[test]
fn a_group_that_has_only_given_out_ids_is_deleted_at_once() {
    let mut w = World::new();
    let t = w.join(1, Join { require_known_member: true, ..join("") });
    assert!(matches!(w.join_reply(t), Err(GroupError::MemberIdRequired { .. })));
    assert_eq!(delete(&mut w, &["g"]), [Ok(())]);
    assert!(w.describe().is_none());
    assert_eq!(w.groups.next_timer(), None);
}
