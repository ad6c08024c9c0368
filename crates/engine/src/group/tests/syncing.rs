//! Assignments and heartbeats.

use super::world::*;
use crate::group::*;

fn two_joined(w: &mut World) -> (Joined, Joined) {
    let m = w.stable(2);
    let a = w.join(1, join(&m[0].member));
    let b = w.join(2, join(&m[1].member));
    (w.join_reply(a).unwrap(), w.join_reply(b).unwrap())
}

#[test]
fn everybody_gets_what_the_leader_assigned_and_who_is_left_out_gets_nothing() {
    let mut w = World::new();
    let (a, b) = two_joined(&mut w);
    let tb = w.sync(2, &b, &[]);
    assert!(w.waits(tb));
    let ta = w.sync(1, &a, &[(&a.member, "all of it"), ("stranger", "x")]);
    let (sa, sb) = (w.sync_reply(ta).unwrap(), w.sync_reply(tb).unwrap());
    assert_eq!((sa.assignment.as_ref(), sb.assignment.as_ref()), (b"all of it".as_slice(), b"".as_slice()));
    assert_eq!((sb.protocol_type.as_str(), sb.protocol.as_str()), ("consumer", "range"));
    assert_eq!(w.state(), GroupState::Stable);
}

#[test]
fn the_assignment_is_durable_before_a_sync_is_answered() {
    let mut w = World::new();
    let (a, b) = two_joined(&mut w);
    let before = w.log.records.len() as u64;
    let tb = w.sync(2, &b, &[]);
    let ta = w.sync(1, &a, &[(&b.member, "x")]);
    assert_eq!((w.answers[&ta].1.0, w.answers[&tb].1.0), (before + 1, before + 1));
}

#[test]
fn a_sync_repeated_in_a_stable_group_gets_the_assignment_again() {
    let mut w = World::new();
    let m = w.stable(2);
    let t = w.sync(2, &m[1], &[]);
    assert_eq!(w.sync_reply(t).unwrap().assignment, format!("for {}", m[1].member));
}

#[test]
fn without_room_for_the_record_a_sync_waits_and_is_tried_again() {
    let mut w = World::new();
    let (a, b) = two_joined(&mut w);
    w.log.room = false;
    let ta = w.sync(1, &a, &[(&b.member, "x")]);
    let tb = w.sync(2, &b, &[]);
    w.pass(10);
    assert!(w.waits(ta) && w.waits(tb));
    w.log.room = true;
    w.pass(2);
    assert_eq!(
        (w.sync_reply(ta).unwrap().assignment, w.sync_reply(tb).unwrap().assignment),
        ("".into(), "x".into())
    );
}

#[test]
fn a_rebalance_while_members_wait_for_their_assignment_sends_them_back_to_join() {
    let mut w = World::new();
    let (_, b) = two_joined(&mut w);
    let tb = w.sync(2, &b, &[]);
    let c = w.join_new(3);
    assert_eq!(w.sync_reply(tb).unwrap_err(), GroupError::Rebalancing);
    assert!(w.waits(c));
    let again = w.sync(2, &b, &[]);
    assert_eq!(w.sync_reply(again).unwrap_err(), GroupError::Rebalancing);
}

#[test]
fn a_second_sync_of_a_waiting_member_replaces_the_first() {
    let mut w = World::new();
    let (a, b) = two_joined(&mut w);
    let first = w.sync(2, &b, &[]);
    let second = w.sync(2, &b, &[]);
    assert_eq!(w.sync_reply(first).unwrap_err(), GroupError::Rebalancing);
    w.sync(1, &a, &[(&b.member, "x")]);
    assert_eq!(w.sync_reply(second).unwrap().assignment, "x");
}

#[test]
fn members_that_never_synchronise_are_removed_after_the_rebalance_timeout() {
    let mut w = World::new();
    let (a, b) = two_joined(&mut w);
    let ta = w.sync(1, &a, &[]);
    w.sync_reply(ta).unwrap();
    for _ in 0..REBALANCE_MS / 5_000 {
        w.heartbeat(who_of(&a)).unwrap();
        w.heartbeat(who_of(&b)).unwrap();
        w.pass(5_000);
    }
    assert_eq!(w.heartbeat(who_of(&b)), Err(GroupError::UnknownMember));
    assert_eq!(w.heartbeat(who_of(&a)), Err(GroupError::Rebalancing));
}

#[test]
fn a_leader_that_never_synchronises_is_removed_and_who_waited_joins_again() {
    let mut w = World::new();
    let (a, b) = two_joined(&mut w);
    let tb = w.sync(2, &b, &[]);
    for _ in 0..REBALANCE_MS / 5_000 {
        let _ = w.heartbeat(who_of(&a));
        w.pass(5_000);
    }
    assert_eq!(w.sync_reply(tb).unwrap_err(), GroupError::Rebalancing);
    assert_eq!(w.heartbeat(who_of(&a)), Err(GroupError::UnknownMember));
    let t = w.join(2, join(&b.member));
    assert_eq!(w.join_reply(t).unwrap().leader, b.member);
}

#[test]
fn a_member_that_waits_for_its_assignment_is_not_evicted() {
    let mut w = World::new();
    let (a, b) = two_joined(&mut w);
    let tb = w.sync(2, &b, &[]);
    for _ in 0..4 {
        w.pass(SESSION_MS - 1);
        w.heartbeat(who_of(&a)).unwrap();
    }
    let ta = w.sync(1, &a, &[(&b.member, "x")]);
    assert!(w.sync_reply(ta).is_ok());
    assert_eq!(w.sync_reply(tb).unwrap().assignment, "x");
}

#[test]
fn a_member_leaving_while_it_waits_for_its_assignment_is_answered() {
    let mut w = World::new();
    let (_, b) = two_joined(&mut w);
    let tb = w.sync(2, &b, &[]);
    w.leave(&b.member, None).unwrap();
    assert_eq!(w.sync_reply(tb).unwrap_err(), GroupError::UnknownMember);
}

#[test]
fn syncs_and_heartbeats_of_strangers_get_their_errors() {
    let mut w = World::new();
    let m = w.stable(2);
    let g = m[0].generation;
    let table: Vec<(&str, Who, GroupError)> = vec![
        ("unknown member", who("nobody", g), GroupError::UnknownMember),
        ("old generation", who(&m[0].member, g - 1), GroupError::IllegalGeneration),
        ("later generation", who(&m[0].member, g + 1), GroupError::IllegalGeneration),
        ("unknown group", Who { group: "other".into(), ..who(&m[0].member, g) }, GroupError::UnknownMember),
        ("empty group", Who { group: "".into(), ..who(&m[0].member, g) }, GroupError::InvalidGroup),
        (
            "unknown instance",
            Who { instance: Some("i".into()), ..who(&m[0].member, g) },
            GroupError::UnknownMember,
        ),
        (
            "other namespace",
            Who { ns: millstream_types::Namespace(2), ..who(&m[0].member, g) },
            GroupError::UnknownMember,
        ),
    ];
    for (name, who, error) in table {
        assert_eq!(w.heartbeat(who.clone()), Err(error.clone()), "{name}");
        let sync = Sync { who, protocol_type: None, protocol: None, assignments: vec![] };
        let t = w.submit(1, GroupOp::Sync(sync));
        assert_eq!(w.sync_reply(t).unwrap_err(), error, "{name}");
    }
}

#[test]
fn a_sync_that_believes_in_another_protocol_is_refused() {
    let mut w = World::new();
    let m = w.stable(1);
    for (protocol_type, protocol) in [(Some("connect"), None), (None, Some("sticky"))] {
        let sync = Sync {
            who: who_of(&m[0]),
            protocol_type: protocol_type.map(str::to_string),
            protocol: protocol.map(str::to_string),
            assignments: vec![],
        };
        let t = w.submit(1, GroupOp::Sync(sync));
        assert_eq!(w.sync_reply(t).unwrap_err(), GroupError::InconsistentProtocol);
    }
}

#[test]
fn assignments_beyond_the_groups_bytes_are_refused() {
    let mut w = World::new();
    let t = w.join_new(1);
    let j = w.join_reply(t).unwrap();
    let big = "x".repeat(GROUP_BYTES_MAX);
    let t = w.sync(1, &j, &[(&j.member, &big)]);
    assert_eq!(w.sync_reply(t).unwrap_err(), GroupError::Full);
    assert_eq!(w.state(), GroupState::CompletingRebalance);
}

#[test]
fn what_the_logs_largest_operation_does_not_hold_is_refused() {
    let mut w = World::new();
    w.log.gate = millstream_log::Gate::new(1 << 20).with_op_bytes_max(1 << 20);
    let big = Join { protocols: vec![("range".into(), vec![0; 1 << 20].into())], ..join("") };
    let t = w.join(1, big);
    assert_eq!(w.join_reply(t).unwrap_err(), GroupError::Full);
    let t = w.join_new(1);
    let j = w.join_reply(t).unwrap();
    let t = w.sync(1, &j, &[(&j.member, &"x".repeat(1 << 20))]);
    assert_eq!(w.sync_reply(t).unwrap_err(), GroupError::Full);
}

#[test]
fn a_heartbeat_before_the_assignment_is_welcome() {
    let mut w = World::new();
    let t = w.join_new(1);
    let j = w.join_reply(t).unwrap();
    assert_eq!(w.heartbeat(who_of(&j)), Ok(()));
}

#[test]
fn a_cooperative_rebalance_takes_two_generations_and_keeps_what_stays() {
    let mut w = World::new();
    let coop = |member: &str, owned: &str| Join {
        protocols: vec![("cooperative-sticky".into(), format!("owns {owned}").into())],
        ..join(member)
    };
    let t = w.join(1, coop("", ""));
    let a = w.join_reply(t).unwrap();
    let t = w.sync(1, &a, &[(&a.member, "p1 p2")]);
    assert_eq!(w.sync_reply(t).unwrap().assignment, "p1 p2");
    // Another one comes: the first revokes p2, which nobody gets yet.
    let tb = w.join(2, coop("", ""));
    let ta = w.join(1, coop(&a.member, "p1 p2"));
    let (a, b) = (w.join_reply(ta).unwrap(), w.join_reply(tb).unwrap());
    assert!(a.members.iter().any(|(id, _, meta)| *id == a.member && meta == "owns p1 p2"));
    let tb = w.sync(2, &b, &[]);
    let ta = w.sync(1, &a, &[(&a.member, "p1")]);
    assert_eq!(
        (w.sync_reply(ta).unwrap().assignment, w.sync_reply(tb).unwrap().assignment),
        ("p1".into(), "".into())
    );
    // It has revoked, says so by joining again, and p2 moves.
    let ta = w.join(1, coop(&a.member, "p1"));
    let tb = w.join(2, coop(&b.member, ""));
    let (a, b) = (w.join_reply(ta).unwrap(), w.join_reply(tb).unwrap());
    assert_eq!(a.generation, 3);
    let tb = w.sync(2, &b, &[]);
    w.sync(1, &a, &[(&a.member, "p1"), (&b.member, "p2")]);
    assert_eq!(w.sync_reply(tb).unwrap().assignment, "p2");
}
