//! Commits, what they are held against, and expiry.

use std::collections::BTreeSet;

use super::world::*;
use crate::group::*;
use millstream_types::Lsn;

#[test]
fn a_simple_consumer_commits_to_a_group_that_is_made_by_it() {
    let mut w = World::new();
    assert_eq!(w.commit_as(nobody(), &[(1, 10), (2, 20)]), Ok(vec![Ok(()), Ok(())]));
    assert_eq!(w.fetch("g"), [(part(1), Some(committed(10))), (part(2), Some(committed(20)))]);
    assert_eq!(w.state(), GroupState::Empty);
    assert_eq!(w.log.records.len(), 1, "one record per request");
}

#[test]
fn a_member_commits_and_the_answer_waits_for_its_record() {
    let mut w = World::new();
    let m = w.stable(1);
    let c = Commit { who: who_of(&m[0]), offsets: vec![(part(1), committed(3))] };
    let t = w.submit(1, GroupOp::Commit(c));
    assert_eq!(w.answers[&t].1.0, w.log.records.len() as u64);
    assert_eq!(w.fetch("g"), [(part(1), Some(committed(3)))]);
}

#[test]
fn offsets_asked_for_by_name_come_in_that_order_with_gaps() {
    let mut w = World::new();
    w.commit_as(nobody(), &[(2, 20)]).unwrap().remove(0).unwrap();
    for (group, second) in [("g", Some(committed(20))), ("unknown", None)] {
        let parts = Some(vec![part(3), part(2)]);
        let t = w.submit(1, GroupOp::FetchOffsets { ns: NS, group: group.into(), parts });
        let GroupReply::Offsets(o) = w.reply(t) else { panic!() };
        assert_eq!(o, [(part(3), None), (part(2), second)]);
    }
}

#[test]
fn commits_that_may_not_be_get_their_errors() {
    let mut w = World::new();
    let m = w.stable(1);
    let g = m[0].generation;
    let table: Vec<(&str, Who, GroupError)> = vec![
        ("unknown member", who("nobody", g), GroupError::UnknownMember),
        ("old generation", who(&m[0].member, g - 1), GroupError::IllegalGeneration),
        ("from outside while there are members", nobody(), GroupError::UnknownMember),
        ("member without a generation", who(&m[0].member, -1), GroupError::IllegalGeneration),
        (
            "generation of an unknown group",
            Who { group: "other".into(), ..who("m", 1) },
            GroupError::NotFound,
        ),
        ("overlong group", Who { group: "x".repeat(256), ..nobody() }, GroupError::InvalidGroup),
        ("unknown instance", Who { instance: Some("i".into()), ..who("m", g) }, GroupError::UnknownMember),
    ];
    for (name, who, error) in table {
        assert_eq!(w.commit_as(who, &[(1, 1)]), Err(error), "{name}");
    }
    assert!(w.fetch("g").is_empty());
}

#[test]
fn a_generation_of_an_empty_group_is_not_a_member() {
    let mut w = World::new();
    let m = w.stable(1);
    w.leave(&m[0].member, None).unwrap();
    assert_eq!(w.commit_as(who_of(&m[0]), &[(1, 1)]), Err(GroupError::UnknownMember));
    assert_eq!(w.commit_as(nobody(), &[(1, 1)]), Ok(vec![Ok(())]));
}

#[test]
fn commits_go_on_while_a_rebalance_waits_but_not_while_the_assignment_is_awaited() {
    let mut w = World::new();
    let m = w.stable(2);
    let a = w.join(1, join(&m[0].member));
    assert_eq!(w.commit_as(who_of(&m[1]), &[(1, 5)]), Ok(vec![Ok(())]));
    let b = w.join(2, join(&m[1].member));
    let (a, _) = (w.join_reply(a).unwrap(), w.join_reply(b).unwrap());
    assert_eq!(w.commit_as(who_of(&a), &[(1, 6)]), Err(GroupError::Rebalancing));
    assert_eq!(w.fetch("g"), [(part(1), Some(committed(5)))]);
}

#[test]
fn a_commit_counts_as_a_sign_of_life() {
    let mut w = World::new();
    let m = w.stable(1);
    for _ in 0..3 {
        w.pass(SESSION_MS - 1);
        w.commit_as(who_of(&m[0]), &[(1, 5)]).unwrap().remove(0).unwrap();
    }
    assert_eq!(w.heartbeat(who_of(&m[0])), Ok(()));
}

#[test]
fn each_offset_is_accepted_or_refused_on_its_own() {
    let mut w = World::new();
    let long = CommittedOffset { metadata: "x".repeat(OFFSET_METADATA_BYTES_MAX + 1), ..committed(1) };
    let longest = CommittedOffset { metadata: "x".repeat(OFFSET_METADATA_BYTES_MAX), ..committed(1) };
    let offsets = vec![(part(1), long), (part(2), longest), (part(77), committed(1))];
    let t = w.submit(1, GroupOp::Commit(Commit { who: nobody(), offsets }));
    let GroupReply::Commit(r) = w.reply(t) else { panic!() };
    assert_eq!(r, Ok(vec![Err(GroupError::MetadataTooLong), Ok(()), Err(GroupError::NoPartition)]));
    assert_eq!(w.fetch("g").len(), 1);
}

#[test]
fn a_commit_of_which_nothing_is_accepted_makes_no_group() {
    let mut w = World::new();
    assert_eq!(w.commit_as(nobody(), &[(77, 1)]), Ok(vec![Err(GroupError::NoPartition)]));
    assert!(w.describe().is_none());
    assert!(w.log.records.is_empty());
}

#[test]
fn offsets_of_a_deleted_partition_are_gone() {
    let mut w = World::new();
    w.commit_as(nobody(), &[(1, 10), (2, 20)]).unwrap();
    let lsn = Lsn(w.log.records.len() as u64 + 1);
    w.groups.partition_deleted(lsn, part(1));
    w.groups.record_end(lsn);
    assert_eq!(w.fetch("g"), [(part(2), Some(committed(20)))]);
}

#[test]
fn offsets_of_a_simple_group_expire_after_the_commit_and_then_the_group_is_gone() {
    let retention = 24 * HOUR_MS;
    let mut w = World::with(GroupConfig { offsets_retention_ms: retention, ..GroupConfig::default() });
    w.commit_as(nobody(), &[(1, 10)]).unwrap();
    w.pass(HOUR_MS);
    w.commit_as(nobody(), &[(2, 20)]).unwrap();
    w.pass(retention - HOUR_MS - 1);
    assert_eq!(w.fetch("g").len(), 2);
    w.pass(HOUR_MS / 2);
    assert_eq!(w.fetch("g"), [(part(2), Some(committed(20)))]);
    w.pass(2 * HOUR_MS);
    assert!(w.describe().is_none());
    w.restart();
    assert!(w.describe().is_none());
}

#[test]
fn offsets_of_a_group_with_members_do_not_expire_and_after_that_they_do() {
    let retention = HOUR_MS;
    let mut w = World::with(GroupConfig { offsets_retention_ms: retention, initial_rebalance_delay_ms: 0 });
    let m = w.stable(1);
    w.commit_as(who_of(&m[0]), &[(1, 10)]).unwrap();
    for _ in 0..2_000 {
        w.pass(SESSION_MS - 1);
        w.heartbeat(who_of(&m[0])).unwrap();
    }
    assert_eq!(w.fetch("g").len(), 1);
    w.leave(&m[0].member, None).unwrap();
    w.pass(retention - 1);
    assert_eq!(w.fetch("g").len(), 1, "counted from when the group became empty");
    w.pass(HOUR_MS);
    assert!(w.describe().is_none());
}

#[test]
fn expiry_goes_on_after_a_restart_and_without_room_is_tried_again() {
    let mut w = World::with(GroupConfig { offsets_retention_ms: HOUR_MS, ..GroupConfig::default() });
    w.commit_as(nobody(), &[(1, 10)]).unwrap();
    w.restart();
    w.log.room = false;
    w.pass(HOUR_MS);
    w.pass(20);
    assert_eq!(w.fetch("g").len(), 1);
    w.log.room = true;
    w.pass(HOUR_MS);
    assert!(w.describe().is_none());
}

#[test]
fn an_empty_group_without_offsets_is_gone_after_a_while() {
    let mut w = World::new();
    let m = w.stable(1);
    w.leave(&m[0].member, None).unwrap();
    w.pass(9 * 60_000);
    assert_eq!(w.state(), GroupState::Empty);
    w.pass(2 * 60_000);
    assert!(w.describe().is_none());
}

#[test]
fn a_commit_within_a_transaction_is_decided_without_being_applied() {
    let mut w = World::new();
    let m = w.stable(1);
    let parts: BTreeSet<_> = w.parts.clone();
    let exists = |p| parts.contains(&p);
    let decide = |w: &World, who: Who, p| {
        let commit = Commit { who, offsets: vec![(part(p), committed(4))] };
        w.groups.decide_commits(w.now, &w.ids, &[commit], &exists).map_err(|(_, e)| e)
    };
    assert_eq!(decide(&w, who("nobody", 1), 1).unwrap_err(), GroupError::UnknownMember);
    assert_eq!(decide(&w, who_of(&m[0]), 77).unwrap_err(), GroupError::NoPartition);
    let other = |who: Who| Who { group: "other".into(), ..who };
    assert_eq!(decide(&w, other(who_of(&m[0])), 1).unwrap_err(), GroupError::NotFound);
    // From outside of a group that is not there: its row, the counter, and the offset.
    assert_eq!(decide(&w, other(nobody()), 1).unwrap().effects.len(), 3);
    let plan = decide(&w, who_of(&m[0]), 1).unwrap();
    assert!(w.fetch("g").is_empty());
    let record: Record = plan.effects.into_iter().map(|e| (e.key, e.bytes)).collect();
    replay(&mut w.groups, &mut w.ids, Lsn(1_000), &record);
    assert_eq!(w.fetch("g"), [(part(1), Some(committed(4)))]);
}
