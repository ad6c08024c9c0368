//! Joining, leaving, falling silent.

use super::world::*;
use crate::group::*;

#[test]
fn a_new_member_is_first_given_an_id_then_leads_the_first_generation() {
    let mut w = World::new();
    let t = w.join_new(1);
    let j = w.join_reply(t).unwrap();
    assert_eq!((j.generation, j.leader.as_str(), j.protocol.as_str()), (1, j.member.as_str(), "range"));
    assert_eq!(j.members, [(j.member.clone(), None, "meta of range".into())]);
    assert!(j.member.starts_with("app-"));
}

#[test]
fn a_member_that_need_not_be_known_joins_at_once() {
    let mut w = World::new();
    let t = w.join(1, join(""));
    assert_eq!(w.join_reply(t).unwrap().generation, 1);
}

#[test]
fn the_generation_is_durable_before_a_join_is_answered() {
    let mut w = World::new();
    let t = w.join(1, join(""));
    assert_eq!(w.answers[&t].1.0, w.log.records.len() as u64);
    assert_eq!(w.log.records.len(), 1);
}

#[test]
fn the_first_rebalance_waits_for_more_members() {
    let mut w = World::with(GroupConfig { initial_rebalance_delay_ms: 3_000, ..GroupConfig::default() });
    let a = w.join_new(1);
    w.pass(2_000);
    let b = w.join_new(2);
    w.pass(3_900);
    assert!(w.waits(a) && w.waits(b), "a newcomer prolongs the wait");
    w.pass(200);
    let (a, b) = (w.join_reply(a).unwrap(), w.join_reply(b).unwrap());
    assert_eq!((a.generation, b.generation, &a.leader, &b.leader), (1, 1, &a.member, &a.member));
    assert_eq!((a.members.len(), b.members.len()), (2, 0));
}

#[test]
fn the_first_rebalance_is_put_off_no_longer_than_the_rebalance_timeout() {
    let mut w = World::with(GroupConfig { initial_rebalance_delay_ms: 3_000, ..GroupConfig::default() });
    let short = Join { rebalance_timeout_ms: 7_000, ..join("") };
    let mut tickets = vec![w.join(1, short.clone())];
    for s in 2..=4 {
        w.pass(2_000);
        tickets.push(w.join(s, short.clone()));
    }
    w.pass(1_000);
    assert!(tickets.iter().all(|t| !w.waits(*t)));
}

#[test]
fn a_third_member_makes_the_others_join_again() {
    let mut w = World::new();
    let m = w.stable(2);
    let c = w.join_new(3);
    assert!(w.waits(c));
    assert_eq!(w.heartbeat(who_of(&m[0])), Err(GroupError::Rebalancing));
    let a = w.join(1, join(&m[0].member));
    let b = w.join(2, join(&m[1].member));
    let all = w.finish(&[a, b, c]);
    assert!(all.iter().all(|j| j.generation == 3 && j.leader == m[0].member), "the leader stays");
    assert_eq!(w.state(), GroupState::Stable);
}

#[test]
fn members_that_do_not_rejoin_in_time_are_gone() {
    let mut w = World::new();
    let m = w.stable(2);
    let c = w.join_new(3);
    let a = w.join(1, join(&m[0].member));
    for _ in 0..REBALANCE_MS / 5_000 {
        assert!(w.waits(a));
        assert_eq!(
            w.heartbeat(who_of(&m[1])),
            Err(GroupError::Rebalancing),
            "heartbeats do not replace a join"
        );
        w.pass(5_000);
    }
    let (a, c) = (w.join_reply(a).unwrap(), w.join_reply(c).unwrap());
    assert_eq!((a.generation, c.generation, a.members.len()), (3, 3, 2));
    assert_eq!(w.heartbeat(who_of(&m[1])), Err(GroupError::UnknownMember));
}

#[test]
fn another_leader_is_found_when_the_old_one_does_not_come_back() {
    let mut w = World::new();
    let m = w.stable(3);
    w.leave(&m[0].member, None).unwrap();
    let b = w.join(2, join(&m[1].member));
    let c = w.join(3, join(&m[2].member));
    let (b, c) = (w.join_reply(b).unwrap(), w.join_reply(c).unwrap());
    assert_eq!(
        (&b.leader, &c.leader, b.members.len()),
        (&c.leader, &b.leader, if b.leader == b.member { 2 } else { 0 })
    );
    assert!([&b.member, &c.member].contains(&&b.leader));
}

#[test]
fn a_silent_member_is_evicted_after_its_session_timeout() {
    let mut w = World::new();
    let m = w.stable(2);
    w.pass(SESSION_MS - 1);
    assert_eq!(w.heartbeat(who_of(&m[0])), Ok(()));
    w.pass(1);
    assert_eq!(w.heartbeat(who_of(&m[1])), Err(GroupError::UnknownMember));
    assert_eq!(w.heartbeat(who_of(&m[0])), Err(GroupError::Rebalancing));
    let a = w.join(1, join(&m[0].member));
    assert_eq!(w.join_reply(a).unwrap().members.len(), 1);
}

#[test]
fn heartbeats_keep_a_member_for_ever_and_write_nothing() {
    let mut w = World::new();
    let m = w.stable(1);
    let records = w.log.records.len();
    for _ in 0..1_000 {
        w.pass(SESSION_MS - 1);
        assert_eq!(w.heartbeat(who_of(&m[0])), Ok(()));
    }
    assert_eq!(w.log.records.len(), records);
}

#[test]
fn a_member_that_waits_for_others_is_not_evicted() {
    let mut w = World::new();
    let m = w.stable(2);
    let a = w.join(1, Join { protocols: vec![("range".into(), "changed".into())], ..join(&m[0].member) });
    for _ in 0..4 {
        w.pass(SESSION_MS - 1);
        assert_eq!(w.heartbeat(who_of(&m[1])), Err(GroupError::Rebalancing));
    }
    assert!(w.waits(a));
    let b = w.join(2, join(&m[1].member));
    assert_eq!((w.join_reply(a).unwrap().generation, w.join_reply(b).unwrap().generation), (3, 3));
}

#[test]
fn a_follower_that_joins_again_unchanged_gets_the_current_generation() {
    let mut w = World::new();
    let m = w.stable(2);
    let t = w.join(2, join(&m[1].member));
    let again = w.join_reply(t).unwrap();
    assert_eq!((again.generation, again.members.len()), (m[1].generation, 0));
    assert_eq!(w.state(), GroupState::Stable);
}

#[test]
fn a_leader_that_joins_again_starts_a_rebalance() {
    let mut w = World::new();
    let m = w.stable(2);
    let a = w.join(1, join(&m[0].member));
    assert!(w.waits(a));
    assert_eq!(w.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_member_that_joins_again_with_other_metadata_starts_a_rebalance() {
    let mut w = World::new();
    let m = w.stable(2);
    let b =
        w.join(2, Join { protocols: vec![("range".into(), "other topics".into())], ..join(&m[1].member) });
    let a = w.join(1, join(&m[0].member));
    let (a, _) = (w.join_reply(a).unwrap(), w.join_reply(b).unwrap());
    assert!(a.members.iter().any(|(_, _, meta)| meta == "other topics"));
}

#[test]
fn a_join_repeated_before_the_assignment_gets_the_same_generation() {
    let mut w = World::new();
    let t = w.join_new(1);
    let j = w.join_reply(t).unwrap();
    let t = w.join(1, join(&j.member));
    let again = w.join_reply(t).unwrap();
    assert_eq!((again.generation, again.members), (j.generation, j.members));
}

#[test]
fn a_second_join_of_a_waiting_member_replaces_the_first() {
    let mut w = World::new();
    let m = w.stable(2);
    let first = w.join(1, join(&m[0].member));
    let second = w.join(1, join(&m[0].member));
    assert_eq!(w.join_reply(first).unwrap_err(), GroupError::Rebalancing);
    let b = w.join(2, join(&m[1].member));
    assert_eq!((w.join_reply(second).unwrap().generation, w.join_reply(b).unwrap().generation), (3, 3));
}

#[test]
fn a_member_id_that_nobody_comes_back_with_holds_a_rebalance_up_until_its_session_timeout() {
    let mut w = World::new();
    let m = w.stable(1);
    let first = w.join(2, Join { require_known_member: true, ..join("") });
    assert!(matches!(w.join_reply(first), Err(GroupError::MemberIdRequired { .. })));
    assert_eq!(w.state(), GroupState::Stable, "an id alone changes nothing");
    let a = w.join(1, join(&m[0].member));
    assert!(w.waits(a));
    w.pass(SESSION_MS);
    assert_eq!(w.join_reply(a).unwrap().members.len(), 1);
}

#[test]
fn an_id_that_was_given_can_be_left_and_is_void_then() {
    let mut w = World::new();
    let first = w.join(2, Join { require_known_member: true, ..join("") });
    let Err(GroupError::MemberIdRequired { member }) = w.join_reply(first) else { panic!() };
    assert_eq!(w.leave(&member, None), Ok(()));
    assert!(w.describe().is_none(), "nothing is left of the group");
    let t = w.join(2, join(&member));
    assert_eq!(w.join_reply(t).unwrap_err(), GroupError::UnknownMember);
}

#[test]
fn bad_joins_get_their_errors() {
    let table: Vec<(&str, Join, GroupError)> = vec![
        ("unknown member", join("nobody"), GroupError::UnknownMember),
        ("empty group", Join { group: "".into(), ..join("") }, GroupError::InvalidGroup),
        ("long group", Join { group: "x".repeat(256), ..join("") }, GroupError::InvalidGroup),
        ("short session", Join { session_timeout_ms: 5_999, ..join("") }, GroupError::InvalidSessionTimeout),
        (
            "long session",
            Join { session_timeout_ms: 1_800_001, ..join("") },
            GroupError::InvalidSessionTimeout,
        ),
        (
            "another type",
            Join { protocol_type: "connect".into(), ..join("") },
            GroupError::InconsistentProtocol,
        ),
        ("no type", Join { protocol_type: "".into(), ..join("") }, GroupError::InconsistentProtocol),
        ("no protocol", Join { protocols: vec![], ..join("") }, GroupError::InconsistentProtocol),
        (
            "none in common",
            Join { protocols: protocols(&["sticky"]), ..join("") },
            GroupError::InconsistentProtocol,
        ),
        (
            "too much metadata",
            Join { protocols: vec![("range".into(), vec![0; GROUP_BYTES_MAX].into())], ..join("") },
            GroupError::Full,
        ),
        ("unknown instance", static_join("m", "i"), GroupError::UnknownMember),
    ];
    for (name, j, error) in table {
        let mut w = World::new();
        w.stable(1);
        let t = w.join(7, j);
        assert_eq!(w.join_reply(t).unwrap_err(), error, "{name}");
        assert_eq!(w.state(), GroupState::Stable, "{name}");
    }
}

#[test]
fn an_unknown_member_of_an_unknown_group_makes_no_group() {
    let mut w = World::new();
    let t = w.join(1, join("nobody"));
    assert_eq!(w.join_reply(t).unwrap_err(), GroupError::UnknownMember);
    assert!(w.describe().is_none());
}

#[test]
fn a_refused_first_join_leaves_no_group() {
    let mut w = World::new();
    let t = w.join(1, Join { protocols: vec![], ..join("") });
    assert_eq!(w.join_reply(t).unwrap_err(), GroupError::InconsistentProtocol);
    assert!(w.describe().is_none());
}

#[test]
fn the_protocol_is_the_one_that_most_members_like_best_of_those_all_can_do() {
    let mut w = World::with(GroupConfig { initial_rebalance_delay_ms: 100, ..GroupConfig::default() });
    let lists: [&[&str]; 3] = [&["range", "sticky"], &["sticky", "range"], &["only", "sticky", "range"]];
    let tickets: Vec<u64> = lists
        .iter()
        .enumerate()
        .map(|(i, l)| w.join(i as u64, Join { protocols: protocols(l), ..join("") }))
        .collect();
    w.pass(1_000);
    for t in tickets {
        assert_eq!(w.join_reply(t).unwrap().protocol, "sticky");
    }
}

#[test]
fn a_group_holds_so_many_members_and_no_more() {
    let mut w = World::with(GroupConfig { initial_rebalance_delay_ms: 100, ..GroupConfig::default() });
    let tickets: Vec<u64> = (0..MEMBERS_MAX as u64).map(|s| w.join(s, join(""))).collect();
    let one_more = w.join(1_000_000, join(""));
    assert_eq!(w.join_reply(one_more).unwrap_err(), GroupError::Full);
    w.pass(1_000);
    let leaders = tickets.iter().filter(|t| !w.join_reply(**t).unwrap().members.is_empty()).count();
    assert_eq!(leaders, 1);
}

#[test]
fn the_last_to_leave_makes_the_group_empty_under_a_new_generation() {
    let mut w = World::new();
    let m = w.stable(1);
    assert_eq!(w.leave(&m[0].member, None), Ok(()));
    let d = w.describe().unwrap();
    assert_eq!((d.summary.state, d.generation, d.members.len()), (GroupState::Empty, 2, 0));
    assert_eq!(w.leave(&m[0].member, None), Err(GroupError::UnknownMember));
    let t = w.join_new(1);
    assert_eq!(w.join_reply(t).unwrap().generation, 3);
}

#[test]
fn leaving_an_unknown_group_is_an_error_per_member() {
    let mut w = World::new();
    assert_eq!(w.leave("m", None), Err(GroupError::UnknownMember));
}

#[test]
fn a_member_that_leaves_while_it_waits_is_answered() {
    let mut w = World::new();
    let m = w.stable(2);
    let a = w.join(1, join(&m[0].member));
    w.leave(&m[0].member, None).unwrap();
    assert_eq!(w.join_reply(a).unwrap_err(), GroupError::UnknownMember);
}

#[test]
fn a_newcomer_whose_connection_ends_before_it_has_an_id_does_not_stay() {
    let mut w = World::new();
    let m = w.stable(1);
    let lost = w.join(2, join(""));
    w.run(|g, now, ctx| g.session_gone(now, millstream_types::ConnId(2), ctx));
    let a = w.join(1, join(&m[0].member));
    assert_eq!(w.join_reply(a).unwrap().members.len(), 1);
    assert!(w.waits(lost));
}

#[test]
fn a_member_whose_connection_ends_stays_until_its_session_timeout() {
    let mut w = World::new();
    let m = w.stable(2);
    w.run(|g, now, ctx| g.session_gone(now, millstream_types::ConnId(2), ctx));
    assert_eq!(w.state(), GroupState::Stable);
    let lost = w.join(2, Join { protocols: vec![("range".into(), "new".into())], ..join(&m[1].member) });
    w.run(|g, now, ctx| g.session_gone(now, millstream_types::ConnId(2), ctx));
    let a = w.join(1, join(&m[0].member));
    assert_eq!(w.join_reply(a).unwrap().members.len(), 2, "its join counts");
    assert!(w.waits(lost));
}

#[test]
fn without_room_for_the_record_a_join_waits_and_is_tried_again() {
    let mut w = World::new();
    w.log.room = false;
    let t = w.join(1, join(""));
    w.pass(50);
    assert!(w.waits(t) && w.log.records.is_empty());
    w.log.room = true;
    w.pass(2);
    assert_eq!(w.join_reply(t).unwrap().generation, 1);
}

#[test]
fn a_lost_log_leaves_every_waiting_member_without_an_answer_it_could_trust() {
    let mut w = World::new();
    let m = w.stable(2);
    let waiting = w.join(1, join(&m[0].member));
    let mut out = crate::op::Effects::default();
    w.groups.lost(&mut out);
    let answers: Vec<_> =
        out.answers.iter().map(|a| (a.ticket.0, matches!(a.reply, crate::op::Reply::FateUnknown))).collect();
    assert_eq!(answers, [(waiting, true)]);
}
