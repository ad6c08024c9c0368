//! What stands after a restart in each state.

use super::world::*;
use crate::group::*;

#[test]
fn stable_members_go_on_without_a_rebalance() {
    let mut w = World::new();
    let m = w.stable(3);
    w.restart();
    for j in &m {
        assert_eq!(w.heartbeat(who_of(j)), Ok(()));
        let t = w.sync(1, j, &[]);
        assert_eq!(w.sync_reply(t).unwrap().assignment, format!("for {}", j.member));
    }
    assert_eq!(w.commit_as(who_of(&m[1]), &[(1, 5)]), Ok(vec![Ok(())]));
}

#[test]
fn session_timers_begin_anew() {
    let mut w = World::new();
    let m = w.stable(2);
    w.pass(SESSION_MS - 1);
    w.restart();
    w.pass(SESSION_MS - 1);
    assert_eq!(w.heartbeat(who_of(&m[0])), Ok(()));
    w.pass(1);
    assert_eq!(w.heartbeat(who_of(&m[1])), Err(GroupError::UnknownMember));
}

#[test]
fn a_group_that_waited_for_its_assignment_waits_on_for_the_leader() {
    let mut w = World::new();
    let m = w.stable(2);
    let a = w.join(1, join(&m[0].member));
    let b = w.join(2, join(&m[1].member));
    let (a, b) = (w.join_reply(a).unwrap(), w.join_reply(b).unwrap());
    let lost = w.sync(2, &b, &[]);
    assert!(w.waits(lost));
    w.restart();
    assert_eq!(w.state(), GroupState::CompletingRebalance);
    let tb = w.sync(2, &b, &[]);
    assert!(w.waits(tb));
    let ta = w.sync(1, &a, &[(&b.member, "x")]);
    assert!(w.sync_reply(ta).is_ok());
    assert_eq!(w.sync_reply(tb).unwrap().assignment, "x");
}

#[test]
fn a_leader_that_does_not_come_back_after_a_restart_is_removed() {
    let mut w = World::new();
    let m = w.stable(2);
    let a = w.join(1, join(&m[0].member));
    let b = w.join(2, join(&m[1].member));
    let (_, b) = (w.join_reply(a).unwrap(), w.join_reply(b).unwrap());
    w.restart();
    let tb = w.sync(2, &b, &[]);
    w.pass(SESSION_MS);
    assert_eq!(w.sync_reply(tb).unwrap_err(), GroupError::Rebalancing);
    let t = w.join(2, join(&b.member));
    assert_eq!(w.join_reply(t).unwrap().members.len(), 1);
}

#[test]
fn a_rebalance_that_was_going_on_is_forgotten_and_the_last_generation_stands() {
    let mut w = World::new();
    let m = w.stable(2);
    let newcomer = w.join_new(3);
    assert!(w.waits(newcomer));
    w.restart();
    assert_eq!(w.state(), GroupState::Stable);
    assert_eq!(w.heartbeat(who_of(&m[1])), Ok(()));
    let late = w.join(3, join("app-of-before"));
    assert_eq!(w.join_reply(late).unwrap_err(), GroupError::UnknownMember);
    let c = w.join_new(3);
    let a = w.join(1, join(&m[0].member));
    let b = w.join(2, join(&m[1].member));
    assert!(w.finish(&[a, b, c]).iter().all(|j| j.generation == m[0].generation + 1));
}

#[test]
fn no_generation_number_is_given_twice() {
    let mut w = World::new();
    let m = w.stable(1);
    let mut last = m[0].generation;
    let mut member = m[0].member.clone();
    for _ in 0..5 {
        w.restart();
        let t = w.join(1, join(&member));
        let j = w.join_reply(t).unwrap();
        assert!(j.generation > last);
        let t = w.sync(1, &j, &[]);
        w.sync_reply(t).unwrap();
        (last, member) = (j.generation, j.member);
    }
}

#[test]
fn member_ids_made_after_a_restart_are_new() {
    let mut w = World::new();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..20 {
        w.next_ticket = 0;
        let first = w.join(1, Join { require_known_member: true, ..join("") });
        let Err(GroupError::MemberIdRequired { member }) = w.join_reply(first) else { panic!() };
        assert!(ids.insert(member));
        w.restart();
    }
}

#[test]
fn an_empty_group_keeps_its_generation_and_offsets() {
    let mut w = World::new();
    let m = w.stable(1);
    w.commit_as(who_of(&m[0]), &[(1, 7)]).unwrap().remove(0).unwrap();
    w.leave(&m[0].member, None).unwrap();
    w.restart();
    let d = w.describe().unwrap();
    assert_eq!((d.summary.state, d.generation, d.offsets[&part(1)].offset), (GroupState::Empty, 2, 7));
    let t = w.join_new(1);
    assert_eq!(w.join_reply(t).unwrap().generation, 3);
}

#[test]
fn a_deleted_group_stays_deleted_and_its_name_inherits_nothing() {
    let mut w = World::new();
    w.commit_as(nobody(), &[(1, 7)]).unwrap().remove(0).unwrap();
    let t = w.submit(1, GroupOp::Delete { ns: NS, groups: vec!["g".into()] });
    w.reply(t);
    w.restart();
    assert!(w.describe().is_none());
    w.commit_as(nobody(), &[(2, 8)]).unwrap().remove(0).unwrap();
    assert_eq!(w.fetch("g").len(), 1);
    w.restart();
    assert_eq!(w.fetch("g"), [(part(2), Some(committed(8)))]);
}
