"""Every version of the administrative and group APIs is asked once, its answer taken apart to the last byte."""

import uuid

from .clients import create
from .group_requests import Member
from .groups_raw import coordinator_ready
from .harness import check, equal, that, unique, until
from .records import batch
from .requests import api_versions, list_offset, produce, topic_id
from .versions import metadata
from .wire import APIS, Connection, body


def versions(connection, api, highest):
    """The versions of the API that the broker offers, up to the highest known here."""
    low, high = api_versions(connection)[APIS[api][0]]
    return range(low, min(high, highest) + 1)


@check("sweep: CreateTopics, every version: explicit, by default, validate only, existing")
def create_topics(context):
    with Connection(context) as c:
        for version in versions(c, "CreateTopics", 7):
            names = [unique(f"sweep{version}"), unique("bad name")]

            def ask(validate_only):
                w = body("CreateTopics", version)

                def config(pair):
                    w.string(pair[0]).string(pair[1]).tags()

                def topic(name):
                    w.string(name).i32(2).i16(1).array([], None).array([("retention.ms", "99000")], config).tags()

                w.array(names, topic).i32(15_000).i8(1 if validate_only else 0)
                r = c.call("CreateTopics", version, w.tags())
                r.i32()
                found = {}

                def answer():
                    name = r.string()
                    ident = r.uuid() if version >= 7 else None
                    error = r.i16()
                    r.string()
                    partitions = configs = None
                    if version >= 5:
                        partitions, _ = r.i32(), r.i16()

                        def each_config():
                            pair = r.string(), r.string()
                            r.i8(), r.i8(), r.i8(), r.tags()
                            return pair

                        configs = r.array(each_config)
                    r.tags()
                    found[name] = error, ident, partitions, dict(configs or [])

                r.array(answer)
                r.tags()
                r.end()
                return found

            dry = ask(True)
            equal({n: a[0] for n, a in dry.items()}, {names[0]: 0, names[1]: 17}, f"validate only, version {version}")
            that(names[0] not in metadata(c, 7, None)[1], f"validate only created it, version {version}")
            found = ask(False)
            equal({n: a[0] for n, a in found.items()}, {names[0]: 0, names[1]: 17}, f"version {version}")
            if version >= 5:
                equal(found[names[0]][2], 2, f"partitions told, version {version}")
                equal(found[names[0]][3].get("retention.ms"), "99000", f"configuration told, version {version}")
            if version >= 7:
                until("the topic", lambda: names[0] in metadata(c, 7, None)[1])
                equal(found[names[0]][1], topic_id(context, names[0]), f"topic id told, version {version}")
            equal(ask(False)[names[0]][0], 36, f"again, version {version}")


@check("sweep: DeleteTopics, every version: by name, by id, unknown")
def delete_topics(context):
    with Connection(context) as c:
        for version in versions(c, "DeleteTopics", 6):
            names = [unique("sweep-delete") for _ in range(2)]
            for name in names:
                create(context, name)
            ids = [topic_id(context, name) for name in names]
            w = body("DeleteTopics", version)
            if version >= 6:
                stranger = uuid.uuid4()
                asked = [(names[0], uuid.UUID(int=0)), (None, ids[1]), (unique("never"), uuid.UUID(int=0)), (None, stranger)]
                w.array(asked, lambda t: w.string(t[0]).uuid(t[1]).tags())
                want = [0, 0, 3, 100]
            else:
                w.array([*names, unique("never")], w.string)
                want = [0, 0, 3]
            r = c.call("DeleteTopics", version, w.i32(15_000).tags())
            r.i32()

            def answer():
                r.string()
                if version >= 6:
                    r.uuid()
                error = r.i16()
                if version >= 5:
                    r.string()
                r.tags()
                return error

            equal(sorted(r.array(answer)), sorted(want), f"errors, version {version}")
            r.tags()
            r.end()
            until("both are gone", lambda: not set(names) & set(metadata(c, 7, None)[1]))


@check("sweep: CreatePartitions, every version")
def create_partitions(context):
    topic = unique("sweep-partitions")
    create(context, topic)
    with Connection(context) as c:
        count = 1
        for version in versions(c, "CreatePartitions", 3):
            for validate_only in (1, 0):
                w = body("CreatePartitions", version)
                w.array([topic], lambda t: w.string(t).i32(count + 1).array(None, None).tags())
                r = c.call("CreatePartitions", version, w.i32(15_000).i8(validate_only).tags())
                r.i32()

                def answer():
                    name, error = r.string(), r.i16()
                    r.string(), r.tags()
                    return name, error

                equal(r.array(answer), [(topic, 0)], f"version {version}")
                r.tags()
                r.end()
                if not validate_only:
                    count += 1
                    until("one more", lambda: len(metadata(c, 7, [topic])[1][topic][2]) == count)


def describe(c, version, topic, keys=None):
    """(error, {name: (value, read only, source)})."""
    w = body("DescribeConfigs", version)
    w.array([topic], lambda t: w.i8(2).string(t).array(keys, w.string).tags())
    w.i8(1)
    if version >= 3:
        w.i8(1)
    r = c.call("DescribeConfigs", version, w.tags())
    r.i32()
    answer = []

    def synonym():
        r.string(), r.string(), r.i8(), r.tags()

    def config():
        name, value, read_only, source, _ = r.string(), r.string(), r.i8(), r.i8(), r.i8()
        r.array(synonym)
        if version >= 3:
            r.i8(), r.string()
        r.tags()
        return name, (value, read_only, source)

    def result():
        error = r.i16()
        r.string(), r.i8(), r.string()
        answer.append((error, dict(r.array(config))))
        r.tags()

    r.array(result)
    r.tags()
    r.end()
    return answer[0]


@check("sweep: DescribeConfigs, every version: all, some, an unknown topic")
def describe_configs(context):
    topic = unique("sweep-configs")
    create(context, topic, 1, retention_ms=4242)
    with Connection(context) as c:
        for version in versions(c, "DescribeConfigs", 4):
            error, found = describe(c, version, topic)
            equal((error, found["retention.ms"]), (0, ("4242", 0, 1)), f"version {version}")
            that(len(found) > 5, f"settings, version {version}")
            equal(sorted(describe(c, version, topic, ["retention.ms", "max.message.bytes"])[1]), ["max.message.bytes", "retention.ms"],
                  f"two settings, version {version}")
            equal(describe(c, version, unique("never"))[0], 3, f"unknown topic, version {version}")


@check("sweep: AlterConfigs, every version, replaces what was set")
def alter_configs(context):
    topic = unique("sweep-alter")
    create(context, topic, 1, retention_bytes=1_000_000)
    with Connection(context) as c:
        for version in versions(c, "AlterConfigs", 2):
            def alter(pairs, validate_only=0):
                w = body("AlterConfigs", version)

                def pair(p):
                    w.string(p[0]).string(p[1]).tags()

                w.array([topic], lambda t: w.i8(2).string(t).array(pairs, pair).tags()).i8(validate_only)
                r = c.call("AlterConfigs", version, w.tags())
                r.i32()

                def answer():
                    error = r.i16()
                    r.string(), r.i8(), r.string(), r.tags()
                    return error

                errors = r.array(answer)
                r.tags()
                r.end()
                return errors[0]

            value = str(50_000 + version)
            equal(alter([("retention.ms", value)], 1), 0, f"validate only, version {version}")
            equal(alter([("retention.ms", value)]), 0, f"version {version}")
            until("it is altered", lambda: describe(c, 2, topic)[1]["retention.ms"][0] == value)
            equal(describe(c, 2, topic)[1]["retention.bytes"][0], "-1", f"what was not named is the default again, version {version}")
            equal(alter([("no.such", "1")]), 40, f"unknown setting, version {version}")
            equal(describe(c, 2, topic)[1]["retention.ms"][0], value, f"after a refusal, version {version}")


@check("sweep: IncrementalAlterConfigs, every version")
def incremental(context):
    topic = unique("sweep-incremental")
    create(context, topic)
    with Connection(context) as c:
        for version in versions(c, "IncrementalAlterConfigs", 1):
            value = str(60_000 + version)
            w = body("IncrementalAlterConfigs", version)
            w.array([topic], lambda t: w.i8(2).string(t).array([0], lambda _: w.string("retention.ms").i8(0).string(value).tags()).tags())
            r = c.call("IncrementalAlterConfigs", version, w.i8(0).tags())
            r.i32()

            def answer():
                error = r.i16()
                r.string(), r.i8(), r.string(), r.tags()
                return error

            equal(r.array(answer), [0], f"version {version}")
            r.tags()
            r.end()
            until("it is altered", lambda: describe(c, 2, topic)[1]["retention.ms"][0] == value)


@check("sweep: DescribeCluster, every version")
def describe_cluster(context):
    with Connection(context) as c:
        for version in versions(c, "DescribeCluster", 2):
            w = body("DescribeCluster", version).i8(0)
            if version >= 1:
                w.i8(1)
            if version >= 2:
                w.i8(0)
            r = c.call("DescribeCluster", version, w.tags())
            r.i32()
            equal(r.i16(), 0, f"error, version {version}")
            r.string()
            if version >= 1:
                r.i8()
            cluster, controller = r.string(), r.i32()

            def broker():
                node = r.i32(), r.string(), r.i32()
                r.string()
                if version >= 2:
                    r.i8()
                r.tags()
                return node

            brokers = r.array(broker)
            r.i32(), r.tags()
            r.end()
            that(cluster, "cluster id")
            equal([f"{host}:{port}" for _, host, port in brokers], [context.bootstrap], f"brokers, version {version}")
            equal(controller, brokers[0][0], f"controller, version {version}")


@check("sweep: ListOffsets and OffsetForLeaderEpoch, every version")
def offsets(context):
    topic = unique("sweep-offsets")
    create(context, topic)
    with Connection(context) as c:
        equal(produce(c, topic, batch([b"a", b"b", b"c"])), (0, 0), "produce")
        for version in versions(c, "ListOffsets", 11):
            equal(list_offset(c, topic, -1, version=version), (0, -1, 3), f"ListOffsets {version}")
        for version in versions(c, "OffsetForLeaderEpoch", 4):
            w = body("OffsetForLeaderEpoch", version)
            if version >= 3:
                w.i32(-1)
            w.array([0], lambda _: w.string(topic).array([0], lambda _: w.i32(0).i32(-1).i32(0).tags()).tags())
            r = c.call("OffsetForLeaderEpoch", version, w.tags())
            if version >= 2:
                r.i32()

            def partition():
                values = r.i16(), r.i32(), r.i32(), r.i64()
                r.tags()
                return values

            def answer():
                name, partitions = r.string(), r.array(partition)
                r.tags()
                return name, partitions

            found = r.array(answer)
            r.tags()
            r.end()
            equal((found[0][0], found[0][1][0][0]), (topic, 0), f"OffsetForLeaderEpoch {version}")


# version 0, no topics, no user data: Kafka itself looks into what consumers say here
SUBSCRIPTION = b"\x00\x00" + b"\x00\x00\x00\x00" + b"\xff\xff\xff\xff"


def joined(context, group):
    m = Member(context, group, session_ms=30_000)
    equal(m.join(metadata=SUBSCRIPTION), 0, "join")
    equal(m.sync({m.id: b"what I get"}), (0, b"what I get"), "sync")
    return m


@check("sweep: SyncGroup, Heartbeat and LeaveGroup, every version")
def group_versions(context):
    group = unique("sweep-group")
    coordinator_ready(context, group)
    with Connection(context) as c:
        for version in versions(c, "SyncGroup", 5):
            m = joined(context, group)
            w = body("SyncGroup", version).string(group).i32(m.generation).string(m.id)
            if version >= 3:
                w.string(None)
            if version >= 5:
                w.string("consumer").string("range")
            r = m.connection.call("SyncGroup", version, w.array([], None).tags())
            if version >= 1:
                r.i32()
            error = r.i16()
            if version >= 5:
                equal((r.string(), r.string()), ("consumer", "range"), f"protocol, SyncGroup {version}")
            equal((error, r.bytes()), (0, b"what I get"), f"SyncGroup {version}")
            r.tags()
            r.end()
            m.leave()
            m.close()
        for version in versions(c, "Heartbeat", 4):
            m = joined(context, group)
            w = body("Heartbeat", version).string(group).i32(m.generation).string(m.id)
            if version >= 3:
                w.string(None)
            r = m.connection.call("Heartbeat", version, w.tags())
            if version >= 1:
                r.i32()
            equal(r.i16(), 0, f"Heartbeat {version}")
            r.tags()
            r.end()
            m.leave()
            m.close()
        for version in versions(c, "LeaveGroup", 5):
            m = joined(context, group)
            w = body("LeaveGroup", version).string(group)

            def member(_):
                w.string(m.id).string(None)
                if version >= 5:
                    w.string("closing")
                w.tags()

            w.array([0], member) if version >= 3 else w.string(m.id)
            r = m.connection.call("LeaveGroup", version, w.tags())
            if version >= 1:
                r.i32()
            equal(r.i16(), 0, f"LeaveGroup {version}")
            if version >= 3:
                def answer():
                    values = r.string(), r.string(), r.i16()
                    r.tags()
                    return values

                equal(r.array(answer), [(m.id, None, 0)], f"LeaveGroup {version}")
            r.tags()
            r.end()
            equal(m.heartbeat(), 25, f"heartbeat after LeaveGroup {version}")
            m.close()


@check("sweep: DescribeGroups, ListGroups and DeleteGroups, every version")
def administration(context):
    group = unique("sweep-adm")
    coordinator_ready(context, group)
    m = joined(context, group)
    absent = unique("sweep-absent")
    with Connection(context) as c:
        for version in versions(c, "DescribeGroups", 6):
            w = body("DescribeGroups", version)
            w.array([group, absent], w.string)
            if version >= 3:
                w.i8(0)
            r = c.call("DescribeGroups", version, w.tags())
            if version >= 1:
                r.i32()
            found = {}

            def member():
                name = r.string()
                if version >= 4:
                    r.string()
                client, host = r.string(), r.string()
                data = r.bytes(), r.bytes()
                r.tags()
                return name, client, bool(host), data

            def answer():
                error = r.i16()
                if version >= 6:
                    r.string()
                name, state, kind, protocol, members = r.string(), r.string(), r.string(), r.string(), r.array(member)
                if version >= 3:
                    r.i32()
                r.tags()
                found[name] = error, state, kind, protocol, members

            r.array(answer)
            r.tags()
            r.end()
            want = (0, "Stable", "consumer", "range", [(m.id, "conformance", True, (SUBSCRIPTION, b"what I get"))])
            equal(found[group], want, f"DescribeGroups {version}")
            equal(found[absent][:2], (69 if version >= 6 else 0, "Dead"), f"an unknown group, DescribeGroups {version}")
        for version in versions(c, "ListGroups", 5):
            for state in (None, "Stable", "Empty") if version >= 4 else (None,):
                w = body("ListGroups", version)
                if version >= 4:
                    w.array([state] if state else [], w.string)
                if version >= 5:
                    w.array([], w.string)
                r = c.call("ListGroups", version, w.tags())
                if version >= 1:
                    r.i32()
                equal(r.i16(), 0, f"ListGroups {version}")

                def listed():
                    name, kind = r.string(), r.string()
                    shown = r.string() if version >= 4 else None
                    if version >= 5:
                        r.string()
                    r.tags()
                    return name, (kind, shown)

                found = dict(r.array(listed))
                r.tags()
                r.end()
                want = None if state == "Empty" else ("consumer", "Stable" if version >= 4 else None)
                equal(found.get(group), want, f"ListGroups {version}, state {state}")

        def delete(version):
            w = body("DeleteGroups", version)
            r = c.call("DeleteGroups", version, w.array([group, absent], w.string).tags())
            r.i32()

            def answer():
                values = r.string(), r.i16()
                r.tags()
                return values

            found = dict(r.array(answer))
            r.tags()
            r.end()
            return found

        for version in versions(c, "DeleteGroups", 2):
            equal(delete(version), {group: 68, absent: 69}, f"DeleteGroups {version}, with a member")
            m.leave()
            equal(delete(version), {group: 0, absent: 69}, f"DeleteGroups {version}, empty")
            m.close()
            m = joined(context, group)
        m.leave()
        m.close()


@check("sweep: one Produce to several topics and partitions answers each by itself")
def several(context):
    topics = [unique("sweep-a"), unique("sweep-b")]
    for topic in topics:
        create(context, topic, 2)
    for version in (7, 9):
        with Connection(context) as c:
            w = body("Produce", version).string(None).i16(-1).i32(15_000)
            plan = {(topics[0], 0): batch([b"1"]), (topics[0], 1): batch([b"2"], crc_xor=3), (topics[0], 7): batch([b"3"]),
                    (topics[1], 1): batch([b"4", b"5"])}

            def each_topic(topic):
                parts = [(p, data) for (t, p), data in plan.items() if t == topic]
                w.string(topic).array(parts, lambda p: w.i32(p[0]).bytes(p[1]).tags()).tags()

            r = c.call("Produce", version, w.array(topics, each_topic).tags())
            found = {}

            def answer():
                name = r.string()

                def partition():
                    index, error = r.i32(), r.i16()
                    r.i64(), r.i64(), r.i64()
                    if version >= 8:
                        r.array(lambda: (r.i32(), r.string(), r.tags())), r.string()
                    r.tags()
                    found[name, index] = error

                r.array(partition), r.tags()

            r.array(answer)
            r.i32(), r.tags()
            r.end()
            equal(found, {(topics[0], 0): 0, (topics[0], 1): 2, (topics[0], 7): 3, (topics[1], 1): 0}, f"errors, version {version}")
    with Connection(context) as c:
        ends = {(t, p): list_offset(c, t, -1, p)[2] for t in topics for p in (0, 1)}
    equal(ends, {(topics[0], 0): 2, (topics[0], 1): 0, (topics[1], 0): 0, (topics[1], 1): 4}, "end offsets")
