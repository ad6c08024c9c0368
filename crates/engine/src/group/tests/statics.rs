//! Static members (KIP-345, KIP-814).

use super::world::*;
use crate::group::*;

/// A stable group of static members "i1" (leader) and "i2".
fn two(w: &mut World) -> (Joined, Joined) {
    let t = w.join(1, static_join("", "i1"));
    let a = w.join_reply(t).unwrap();
    let b = w.join(2, static_join("", "i2"));
    let a = w.join(1, static_join(&a.member, "i1"));
    let mut m = w.finish(&[a, b]);
    let b = m.pop().unwrap();
    (m.pop().unwrap(), b)
}

fn as_instance(j: &Joined, instance: &str) -> Who {
    Who { instance: Some(instance.into()), ..who_of(j) }
}

#[test]
fn a_follower_that_comes_back_gets_a_new_id_and_its_assignment_without_a_rebalance() {
    let mut w = World::new();
    let (a, b) = two(&mut w);
    let t = w.join(3, static_join("", "i2"));
    let again = w.join_reply(t).unwrap();
    assert_eq!((again.generation, &again.leader, again.members.len()), (b.generation, &a.member, 0));
    assert_ne!(again.member, b.member);
    assert!(again.member.starts_with("i2-"));
    assert_eq!(w.state(), GroupState::Stable);
    let t = w.sync(3, &again, &[]);
    assert_eq!(w.sync_reply(t).unwrap().assignment, format!("for {}", b.member));
}

#[test]
fn the_old_member_id_is_fenced() {
    let mut w = World::new();
    let (_, b) = two(&mut w);
    let t = w.join(3, static_join("", "i2"));
    w.join_reply(t).unwrap();
    assert_eq!(w.heartbeat(as_instance(&b, "i2")), Err(GroupError::FencedInstance));
    assert_eq!(w.commit_as(as_instance(&b, "i2"), &[(1, 1)]), Err(GroupError::FencedInstance));
    assert_eq!(w.leave(&b.member, Some("i2")), Err(GroupError::FencedInstance));
    let t = w.join(2, static_join(&b.member, "i2"));
    assert_eq!(w.join_reply(t).unwrap_err(), GroupError::FencedInstance);
    let sync = Sync { who: as_instance(&b, "i2"), protocol_type: None, protocol: None, assignments: vec![] };
    let t = w.submit(2, GroupOp::Sync(sync));
    assert_eq!(w.sync_reply(t).unwrap_err(), GroupError::FencedInstance);
    assert_eq!(
        w.heartbeat(who_of(&b)),
        Err(GroupError::UnknownMember),
        "without the instance id it is nobody"
    );
}

#[test]
fn a_leader_that_comes_back_stays_leader_and_skips_the_assignment_if_it_can() {
    let mut w = World::new();
    let (a, _) = two(&mut w);
    let t = w.join(3, Join { can_skip_assignment: true, ..static_join("", "i1") });
    let again = w.join_reply(t).unwrap();
    assert!(again.skip_assignment);
    assert_eq!((&again.leader, again.members.len(), again.generation), (&again.member, 2, a.generation));
    let t = w.sync(3, &again, &[]);
    assert_eq!(w.sync_reply(t).unwrap().assignment, format!("for {}", a.member));
}

#[test]
fn a_leader_that_comes_back_and_cannot_skip_is_told_of_its_old_self_as_leader() {
    let mut w = World::new();
    let (a, _) = two(&mut w);
    let t = w.join(3, static_join("", "i1"));
    let again = w.join_reply(t).unwrap();
    assert_eq!((&again.leader, again.members.len(), again.skip_assignment), (&a.member, 0, false));
    let t = w.join(3, static_join(&again.member, "i1"));
    assert!(w.waits(t), "it is the leader all the same: joining again starts a rebalance");
}

#[test]
fn the_new_member_id_is_durable_before_the_join_is_answered_and_stands_after_a_restart() {
    let mut w = World::new();
    let (_, b) = two(&mut w);
    let t = w.join(3, static_join("", "i2"));
    assert_eq!(w.answers[&t].1.0, w.log.records.len() as u64);
    let again = w.join_reply(t).unwrap();
    w.restart();
    assert_eq!(w.heartbeat(as_instance(&again, "i2")), Ok(()));
    assert_eq!(w.heartbeat(as_instance(&b, "i2")), Err(GroupError::FencedInstance));
}

#[test]
fn a_return_that_changes_the_vote_starts_a_rebalance() {
    let mut w = World::with(GroupConfig { initial_rebalance_delay_ms: 10, ..GroupConfig::default() });
    let with =
        |instance: &str, names: &[&str]| Join { protocols: protocols(names), ..static_join("", instance) };
    let a = w.join(1, with("i1", &["range", "sticky"]));
    let b = w.join(2, with("i2", &["range", "sticky"]));
    w.pass(100);
    w.finish(&[a, b]);
    let t = w.join(3, with("i2", &["sticky"]));
    assert!(w.waits(t));
    assert_eq!(w.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_return_before_the_assignment_starts_a_rebalance_and_fences_who_waits() {
    let mut w = World::with(GroupConfig { initial_rebalance_delay_ms: 10, ..GroupConfig::default() });
    let a = w.join(1, static_join("", "i1"));
    let b = w.join(2, static_join("", "i2"));
    w.pass(100);
    let (a, b) = (w.join_reply(a).unwrap(), w.join_reply(b).unwrap());
    let follower = if a.members.is_empty() { (&a, "i1") } else { (&b, "i2") };
    let waiting = w.sync(2, follower.0, &[]);
    let t = w.join(3, static_join("", follower.1));
    assert!(w.waits(t));
    assert!(matches!(w.sync_reply(waiting), Err(GroupError::FencedInstance | GroupError::Rebalancing)));
}

#[test]
fn a_return_during_a_rebalance_fences_the_old_join() {
    let mut w = World::new();
    let (a, b) = two(&mut w);
    let old = w.join(1, static_join(&a.member, "i1"));
    let new = w.join(3, static_join("", "i1"));
    assert_eq!(w.join_reply(old).unwrap_err(), GroupError::FencedInstance);
    let tb = w.join(2, static_join(&b.member, "i2"));
    let (new, _) = (w.join_reply(new).unwrap(), w.join_reply(tb).unwrap());
    assert_eq!((new.members.len(), &new.leader), (2, &new.member));
}

#[test]
fn an_operator_removes_a_static_member_by_its_instance_id() {
    let mut w = World::new();
    let (a, b) = two(&mut w);
    assert_eq!(w.leave("", Some("i2")), Ok(()));
    assert_eq!(w.leave("", Some("i2")), Err(GroupError::UnknownMember));
    assert_eq!(w.leave("", None), Err(GroupError::UnknownMember));
    assert_eq!(w.heartbeat(as_instance(&b, "i2")), Err(GroupError::UnknownMember));
    assert_eq!(w.heartbeat(as_instance(&a, "i1")), Err(GroupError::Rebalancing));
}

#[test]
fn a_static_member_that_is_away_keeps_its_place_until_its_session_timeout() {
    let mut w = World::new();
    let t = w.join(1, Join { rebalance_timeout_ms: 5_000, ..static_join("", "i1") });
    let a = w.join_reply(t).unwrap();
    let b =
        w.join(2, Join { session_timeout_ms: 100_000, rebalance_timeout_ms: 5_000, ..static_join("", "i2") });
    let ta = w.join(1, Join { rebalance_timeout_ms: 5_000, ..static_join(&a.member, "i1") });
    let m = w.finish(&[ta, b]);
    // The leader wants a rebalance; the other is away. It is not thrown out for that: it stays in the generation.
    let ta = w.join(1, Join { rebalance_timeout_ms: 5_000, ..static_join(&a.member, "i1") });
    w.pass(5_000);
    let again = w.join_reply(ta).unwrap();
    assert_eq!(again.members.len(), 2);
    assert!(again.members.iter().any(|(id, i, _)| *id == m[1].member && i.as_deref() == Some("i2")));
}

#[test]
fn a_static_member_is_evicted_after_its_session_timeout() {
    let mut w = World::new();
    let (a, b) = two(&mut w);
    w.pass(SESSION_MS - 1);
    w.heartbeat(as_instance(&a, "i1")).unwrap();
    w.pass(1);
    assert_eq!(w.heartbeat(as_instance(&b, "i2")), Err(GroupError::UnknownMember));
    let t = w.join(1, static_join(&a.member, "i1"));
    assert_eq!(w.join_reply(t).unwrap().members.len(), 1);
}

#[test]
fn without_room_for_the_record_a_return_changes_nothing_yet() {
    let mut w = World::new();
    let (_, b) = two(&mut w);
    w.log.room = false;
    let t = w.join(3, static_join("", "i2"));
    assert!(w.waits(t));
    assert_eq!(w.heartbeat(as_instance(&b, "i2")), Ok(()));
    w.log.room = true;
    w.pass(2);
    assert!(w.join_reply(t).is_ok());
    assert_eq!(w.heartbeat(as_instance(&b, "i2")), Err(GroupError::FencedInstance));
}
