"""The classic group protocol by hand: joins, generations, errors 22, 23, 25, 27, 79, 82, static members, offsets."""

import time
import uuid

from .clients import create
from .group_requests import Member, offset_fetch
from .harness import check, equal, that, unique, until
from .requests import api_versions, topic_id
from .wire import Connection


def sync_all(members):
    """Every member syncs; the leader assigns each its own id."""
    leader = next(m for m in members if m.leader == m.id)
    for m in members:
        m.sync_send({n: n.encode() for n, _, _ in leader.members} if m is leader else None)
    for m in members:
        equal(m.sync_receive(), (0, m.id.encode()), "sync")


def coordinator_ready(context, group):
    """A group can be asked about before its coordinator has loaded; waits until it answers."""
    probe = Member(context, group)
    until("the coordinator", lambda: probe.heartbeat(1) not in (14, 15, 16))
    probe.close()


@check("groups: a member joins in two steps (79), leads, syncs, beats, leaves")
def one_member(context):
    group = unique("one")
    coordinator_ready(context, group)
    m = Member(context, group)
    m.join_send()
    equal(m.join_receive(), 79, "first join")
    that(m.id, "an id is given with error 79")
    given = m.id
    m.join_send(protocols=("roundrobin", "range"))
    equal(m.join_receive(), 0, "second join")
    equal((m.id, m.leader, m.generation, m.protocol), (given, given, 1, "roundrobin"), "what the join gave")
    equal([(n, i, d) for n, i, d in m.members], [(given, None, b"m")], "members told to the leader")
    equal(m.sync({m.id: b"everything"}), (0, b"everything"), "sync")
    equal(m.sync(), (0, b"everything"), "a second sync gets the same")
    equal(m.heartbeat(), 0, "heartbeat")
    equal(m.leave(), (0, [0]), "leave")
    equal(m.heartbeat(), 25, "heartbeat after leaving")
    m.close()


@check("groups: before version 4 a join needs one step")
def old_join(context):
    group = unique("old")
    coordinator_ready(context, group)
    m = Member(context, group)
    m.join_send(version=2)
    equal(m.join_receive(), 0, "join")
    that(m.id and m.leader == m.id, "the member leads")
    m.leave()
    m.close()


@check("groups: every JoinGroup version joins")
def join_versions(context):
    with Connection(context) as c:
        low, high = api_versions(c)[11]
    for version in range(max(2, low), min(high, 9) + 1):
        group = unique("versions")
        coordinator_ready(context, group)
        m = Member(context, group)
        equal(m.join(version=version), 0, f"join version {version}")
        equal(m.sync({m.id: b"x"}), (0, b"x"), f"sync after join version {version}")
        m.leave()
        m.close()


@check("groups: illegal generation 22, unknown member 25, wrong ids, an unknown group")
def generations(context):
    group = unique("generations")
    coordinator_ready(context, group)
    topic = unique("generations")
    create(context, topic)
    m = Member(context, group)
    equal(m.join(), 0, "join")
    equal(m.sync({m.id: b"a"}), (0, b"a"), "sync")
    equal(m.heartbeat(m.generation + 1), 22, "a later generation's heartbeat")
    equal(m.heartbeat(m.generation - 1), 22, "an earlier generation's heartbeat")
    equal(m.commit(topic, {0: 5}, generation=m.generation + 1), {0: 22}, "a commit of another generation")
    m.generation += 1
    equal(m.sync()[0], 22, "a sync of another generation")
    m.generation -= 1
    stranger = Member(context, group, member_id="nobody-knows-me")
    stranger.generation = m.generation
    equal(stranger.heartbeat(), 25, "a stranger's heartbeat")
    equal(stranger.sync()[0], 25, "a stranger's sync")
    equal(stranger.commit(topic, {0: 5}), {0: 25}, "a stranger's commit")
    equal(stranger.join(), 25, "a stranger's join")
    equal(stranger.leave()[1], [25], "a stranger's leave")
    equal(offset_fetch(m.connection, {group: None})[group], (0, {}), "nothing was committed")
    equal(m.commit(topic, {0: 7}), {0: 0}, "the member's commit")
    equal(offset_fetch(m.connection, {group: None})[group], (0, {(topic, 0): (7, "note", 0)}), "committed")
    nowhere = Member(context, unique("nowhere"), member_id="x")
    equal(nowhere.heartbeat(1), 25, "a heartbeat to an unknown group")
    m.leave()
    for member in (m, stranger, nowhere):
        member.close()


@check("groups: an empty or negative session timeout, an empty group id and an inconsistent protocol get 26, 24, 23")
def refused_joins(context):
    group = unique("refused")
    coordinator_ready(context, group)
    m = Member(context, group)
    equal(m.join(("range", "sticky")), 0, "join")
    equal(m.sync({m.id: b"x"})[0], 0, "sync")
    other = Member(context, group)
    equal(other.join(("roundrobin",)), 23, "no protocol in common")
    other = Member(context, group)
    equal(other.join(("range",), kind="connect"), 23, "another kind of group")
    other = Member(context, group)
    equal(other.join(()), 23, "no protocol at all")
    equal(Member(context, group, session_ms=1).join(), 26, "session timeout of 1 ms")
    equal(Member(context, group, session_ms=86_400_000).join(), 26, "session timeout of a day")
    equal(Member(context, "").join(), 24, "empty group id")
    equal(m.heartbeat(), 0, "the member is not disturbed")
    m.leave()
    m.close()


@check("groups: a second member makes the first join again (27), the protocol is chosen by vote")
def rebalance(context):
    group = unique("rebalance")
    coordinator_ready(context, group)
    first, second = Member(context, group), Member(context, group)
    equal(first.join(("a", "b", "c")), 0, "join")
    equal(first.protocol, "a", "protocol of one member")
    equal(first.sync({first.id: b"all"}), (0, b"all"), "sync")
    second.join_send(("c", "b"))
    equal(second.join_receive(), 79, "the second member's first join")
    second.join_send(("c", "b"))
    until("27 tells the first member", lambda: first.heartbeat() == 27)
    equal(first.sync()[0], 27, "sync during the rebalance")
    first.join_send(("b", "c"))
    equal((first.join_receive(), second.join_receive()), (0, 0), "joins")
    equal((first.generation, second.generation), (2, 2), "generation")
    that(first.protocol == second.protocol and first.protocol in ("b", "c"), f"protocol {first.protocol}")
    that(first.leader == second.leader == first.id, "the first member stays the leader")
    equal(sorted(n for n, _, _ in first.members), sorted([first.id, second.id]), "members told to the leader")
    equal(second.members, [], "members told to the other")
    # the follower's sync waits for the leader's
    second.sync_send()
    equal(first.heartbeat(), 0, "heartbeat between join and sync")
    equal(first.sync({first.id: b"1", second.id: b"2"}), (0, b"1"), "the leader's sync")
    equal(second.sync_receive(), (0, b"2"), "the follower's sync")
    equal((first.heartbeat(), second.heartbeat()), (0, 0), "heartbeats")
    # the member that leaves makes the other join again
    equal(second.leave(), (0, [0]), "leave")
    until("27 tells the first member", lambda: first.heartbeat() == 27)
    equal(first.join(("b",)), 0, "join alone")
    equal((first.generation, len(first.members)), (3, 1), "generation and members")
    first.close()
    second.close()


@check("groups: the protocol with the most first votes among those all support is chosen")
def vote(context):
    group = unique("vote")
    coordinator_ready(context, group)
    members = [Member(context, group) for _ in range(3)]
    equal(members[0].join(("x", "y")), 0, "join")
    equal(members[0].sync({members[0].id: b""})[0], 0, "sync")
    for m in members[1:]:
        m.join_send(("y", "x", "z"))
        equal(m.join_receive(), 79, "first join")
        m.join_send(("y", "x", "z"))
    until("27", lambda: members[0].heartbeat() == 27)
    members[0].join_send(("x", "y"))
    equal(members[0].join_receive(), 0, "join")
    equal([m.join_receive() for m in members[1:]], [0, 0], "joins")
    equal({(m.generation, m.protocol) for m in members}, {(members[0].generation, "y")}, "generation and protocol")
    for m in members:
        m.close()


@check("groups: a member without heartbeats is removed after its session timeout")
def eviction(context):
    group = unique("eviction")
    coordinator_ready(context, group)
    lively, silent = Member(context, group, session_ms=30_000), Member(context, group, session_ms=6_000)
    equal(lively.join(), 0, "join")
    equal(lively.sync({lively.id: b""})[0], 0, "sync")
    silent.join_send()
    equal(silent.join_receive(), 79, "first join")
    silent.join_send()
    until("27", lambda: lively.heartbeat() == 27)
    lively.join_send()
    equal((lively.join_receive(), silent.join_receive()), (0, 0), "joins")
    sync_all([lively, silent])
    began = time.monotonic()
    equal(lively.heartbeat(), 0, "heartbeat")
    until("the silent member is removed", lambda: lively.heartbeat() == 27, 25, pause=0.2)
    that(time.monotonic() - began > 4, "it was not removed before its time")
    equal(lively.join(), 0, "join alone")
    equal([n for n, _, _ in lively.members], [lively.id], "members")
    equal(silent.heartbeat(), 25, "the removed member's heartbeat")
    lively.close()
    silent.close()


@check("groups: a member that does not join again within the rebalance timeout is removed")
def rebalance_timeout(context):
    group = unique("slow")
    coordinator_ready(context, group)
    slow = Member(context, group, session_ms=30_000, rebalance_ms=1_500)
    equal(slow.join(), 0, "join")
    equal(slow.sync({slow.id: b""})[0], 0, "sync")
    other = Member(context, group, session_ms=30_000, rebalance_ms=1_500)
    equal(other.join(), 0, "the other's join ends though the slow one beats only")
    equal([n for n, _, _ in other.members], [other.id], "members")
    equal(slow.heartbeat(), 25, "the slow member's heartbeat")
    slow.close()
    other.close()


@check("groups: a static member comes back without a rebalance, its twin is fenced (82)")
def static(context):
    group, topic = unique("static"), unique("static")
    create(context, topic)
    coordinator_ready(context, group)
    first, second = (Member(context, group, instance=i, session_ms=30_000) for i in ("one", "two"))
    equal(first.join(), 0, "join of a static member needs one step")
    equal(first.sync({first.id: b"1"})[0], 0, "sync")
    second.join_send()
    until("27", lambda: first.heartbeat() == 27)
    first.join_send()
    equal((first.join_receive(), second.join_receive()), (0, 0), "joins")
    sync_all([first, second])
    generation = first.generation
    # the second one restarts: it is gone without a leave and comes back without an id
    second.close()
    again = Member(context, group, instance="two", session_ms=30_000)
    again.join_send()
    equal(again.join_receive(), 0, "join after the restart")
    equal(again.generation, generation, "the generation stays")
    that(again.id != second.id, "the member has a new id")
    equal(again.sync(), (0, second.id.encode()), "its old assignment")
    equal((first.heartbeat(), again.heartbeat()), (0, 0), "no rebalance")
    # what still uses the old id is fenced
    ghost = Member(context, group, instance="two", member_id=second.id)
    ghost.generation = generation
    equal(ghost.heartbeat(), 82, "the old id's heartbeat")
    equal(ghost.sync()[0], 82, "the old id's sync")
    equal(ghost.commit(topic, {0: 1}), {0: 82}, "the old id's commit")
    ghost.join_send()
    equal(ghost.join_receive(), 82, "the old id's join")
    equal((first.heartbeat(), again.heartbeat()), (0, 0), "still no rebalance")
    for m in (first, again, ghost):
        m.close()


@check("groups: the leader, static, restarts without a rebalance")
def static_leader(context):
    group = unique("static-leader")
    coordinator_ready(context, group)
    m = Member(context, group, instance="boss", session_ms=30_000)
    equal(m.join(version=9), 0, "join")
    equal(m.sync({m.id: b"plan"}), (0, b"plan"), "sync")
    m.close()
    again = Member(context, group, instance="boss", session_ms=30_000)
    equal(again.join(version=9), 0, "join after the restart")
    equal(again.generation, m.generation, "the generation stays")
    equal(again.sync(), (0, b"plan"), "its old assignment")
    # removed by instance id alone, as an operator does
    again.id = ""
    equal(again.leave(), (0, [0]), "leave by instance id")
    again.close()


@check("offsets of groups: committed without membership, refused beside members, of unknown partitions")
def simple_commits(context):
    topic, group = unique("simple"), unique("simple")
    create(context, topic, 2)
    coordinator_ready(context, group)
    m = Member(context, group)
    equal(m.commit(topic, {0: 3, 1: 9}, generation=-1), {0: 0, 1: 0}, "commit without membership")
    equal(m.commit(topic, {0: 4}, generation=-1, metadata=""), {0: 0}, "commit again")
    want = {(topic, 0): (4, "", 0), (topic, 1): (9, "note", 0)}
    equal(offset_fetch(m.connection, {group: None})[group], (0, want), "all offsets")
    some = offset_fetch(m.connection, {group: [(topic, [1]), (unique("no"), [0])]})[group][1]
    equal(some[topic, 1], (9, "note", 0), "one offset")
    equal([v for k, v in some.items() if k[0] != topic], [(-1, "", 0)], "nothing committed is offset -1")
    equal(m.commit(unique("unknown"), {0: 1}, generation=-1), {0: 3}, "an unknown topic")
    equal(m.commit(topic, {7: 1}, generation=-1), {7: 3}, "an unknown partition")
    equal(m.commit(topic, {0: 1}, generation=-1, metadata="x" * 5_000), {0: 12}, "metadata of 5,000 bytes")
    member = Member(context, group)
    equal(member.join(), 0, "join")
    equal(member.sync({member.id: b""})[0], 0, "sync")
    equal(m.commit(topic, {0: 1}, generation=-1), {0: 25}, "without membership, while the group has members")
    equal(offset_fetch(m.connection, {group: None})[group], (0, want), "offsets after all that")
    member.leave()
    m.close()
    member.close()


@check("offsets of groups: every OffsetCommit and OffsetFetch version, several groups, topic ids (100)")
def offset_versions(context):
    topic = unique("versions")
    create(context, topic)
    ident = topic_id(context, topic)
    groups = [unique("g") for _ in range(3)]
    for g in groups:
        coordinator_ready(context, g)
    with Connection(context) as c:
        table = api_versions(c)
        m = Member(context, groups[0])
        for version in range(2, min(table[8][1], 10) + 1):
            name = ident if version >= 10 else topic
            equal(m.commit(name, {0: version}, generation=-1, version=version), {0: 0}, f"OffsetCommit {version}")
            for fetch_version in range(1, min(table[9][1], 10) + 1):
                name = ident if fetch_version >= 10 else topic
                got = offset_fetch(c, {groups[0]: [(name, [0])]}, fetch_version)[groups[0]]
                equal(got, (0, {(name, 0): (version, "note", 0)}), f"OffsetFetch {fetch_version} after OffsetCommit {version}")
        for number, g in enumerate(groups[1:]):
            other = Member(context, g)
            equal(other.commit(topic, {0: 100 + number}, generation=-1), {0: 0}, "commit")
            other.close()
        got = offset_fetch(c, {groups[1]: None, groups[2]: [(topic, [0])], unique("never"): None}, 8)
        equal(got[groups[1]], (0, {(topic, 0): (100, "note", 0)}), "first of several groups")
        equal(got[groups[2]], (0, {(topic, 0): (101, "note", 0)}), "second of several groups")
        equal([v for k, v in got.items() if k not in groups], [(0, {})], "an unknown group has no offsets")
        stranger = uuid.uuid4()
        equal(m.commit(stranger, {0: 1}, generation=-1, version=10), {0: 100}, "OffsetCommit of an unknown topic id")
        got = offset_fetch(c, {groups[0]: [(stranger, [0])]}, 10)[groups[0]][1]
        equal([e for _, _, e in got.values()], [100], "OffsetFetch of an unknown topic id")
        m.close()
