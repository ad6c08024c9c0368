"""The advertised versions, and that each version of the APIs of the data path does what it says."""

import uuid

from .clients import create
from .harness import check, equal, that, unique
from .records import batch, headers
from .requests import api_versions, fetch, list_offset, produce, topic_id
from .wire import APIS, Connection, body

# (lowest, highest) that a client of these days must find. Brokers may go beyond.
NEEDED = {
    "Produce": (3, 13), "Fetch": (4, 13), "ListOffsets": (1, 7), "Metadata": (0, 12), "OffsetCommit": (2, 10),
    "OffsetFetch": (1, 10), "FindCoordinator": (0, 4), "JoinGroup": (2, 9), "Heartbeat": (0, 4), "LeaveGroup": (0, 5),
    "SyncGroup": (0, 5), "DescribeGroups": (0, 5), "ListGroups": (0, 4), "ApiVersions": (0, 3), "CreateTopics": (2, 7),
    "DeleteTopics": (1, 6), "InitProducerId": (0, 4), "OffsetForLeaderEpoch": (2, 4), "DescribeConfigs": (1, 4),
    "AlterConfigs": (0, 2), "CreatePartitions": (0, 3), "DeleteGroups": (0, 2), "IncrementalAlterConfigs": (0, 1),
    "DescribeCluster": (0, 0),
}


@check("versions: the table has what today's clients need, and Produce from 0 for librdkafka")
def table(context):
    with Connection(context) as c:
        found = api_versions(c)
    for name, (low, high) in NEEDED.items():
        key = APIS[name][0]
        that(key in found, f"{name} is missing")
        that(found[key][0] <= low and found[key][1] >= high, f"{name}: {found[key]}, needed {low} to {high}")
    equal(found[0][0], 0, "the lowest advertised Produce version")


@check("versions: every Produce version stores, every Fetch version reads it back")
def data_path(context):
    topic = unique("versions")
    create(context, topic)
    ident = topic_id(context, topic)
    with Connection(context) as c:
        table = api_versions(c)
        count = 0
        for version in range(3, min(table[0][1], 13) + 1):
            name = ident if version >= 13 else topic
            equal(produce(c, name, batch([b"%d" % version]), version=version), (0, count), f"Produce {version}")
            count += 1
        for version in range(4, min(table[1][1], 18) + 1):
            name = ident if version >= 13 else topic
            error, _, found = fetch(c, version, [(name, [(0, 0)])])
            equal(error, 0, f"Fetch {version}")
            got = found[name, 0]
            equal((got["error"], got["high"]), (0, count), f"Fetch {version}")
            batches = headers(got["records"])
            equal([b["base"] for b in batches], list(range(count)), f"batches, Fetch {version}")
            that(all(b["crc_right"] and b["magic"] == 2 for b in batches), f"CRCs, Fetch {version}")
        for version in range(1, min(table[2][1], 10) + 1):
            equal(list_offset(c, topic, -1, version=version), (0, -1, count), f"ListOffsets {version}")


def metadata(c, version, topics, allow=False):
    """{name: (error, topic id or None, partitions)} of Metadata; `topics` None asks for all."""
    w = body("Metadata", version)

    def ask(t):
        if version >= 10:
            w.uuid(uuid.UUID(int=0))
        w.string(t).tags()

    w.array([] if topics is None and version == 0 else topics, ask)
    if version >= 4:
        w.i8(1 if allow else 0)
    if 8 <= version <= 10:
        w.i8(0)
    if version >= 8:
        w.i8(0)
    r = c.call("Metadata", version, w.tags())
    if version >= 3:
        r.i32()

    def broker():
        node = r.i32(), r.string(), r.i32()
        if version >= 1:
            r.string()
        r.tags()
        return node

    brokers = r.array(broker)
    if version >= 2:
        r.string()
    if version >= 1:
        r.i32()
    found = {}

    def partition():
        values = r.i16(), r.i32(), r.i32()
        if version >= 7:
            r.i32()
        r.array(r.i32), r.array(r.i32)
        if version >= 5:
            r.array(r.i32)
        r.tags()
        return values

    def each_topic():
        error, name = r.i16(), r.string()
        ident = r.uuid() if version >= 10 else None
        if version >= 1:
            r.i8()
        partitions = r.array(partition)
        if version >= 8:
            r.i32()
        r.tags()
        found[name] = error, ident, partitions

    r.array(each_topic)
    if 8 <= version <= 10:
        r.i32()
    if version >= 13:
        r.i16()
    r.tags()
    r.end()
    return brokers, found


@check("versions: every Metadata version, for one topic, all topics, none, an unknown and a bad name")
def metadata_versions(context):
    topic = unique("metadata")
    create(context, topic, 2)
    ident = topic_id(context, topic)
    with Connection(context) as c:
        for version in range(0, min(api_versions(c)[3][1], 13) + 1):
            brokers, found = metadata(c, version, [topic])
            equal(len(brokers), 1, f"brokers, version {version}")
            equal(f"{brokers[0][1]}:{brokers[0][2]}", context.bootstrap, f"address, version {version}")
            error, got, partitions = found[topic]
            equal((error, sorted((p[0], p[1], p[2]) for p in partitions)), (0, [(0, p, brokers[0][0]) for p in (0, 1)]), f"version {version}")
            if version >= 10:
                equal(got, ident, f"topic id, version {version}")
            that(topic in metadata(c, version, None)[1], f"all topics, version {version}")
            if version >= 1:
                equal(metadata(c, version, [])[1], {}, f"no topics, version {version}")
            if version >= 4:
                absent = unique("absent")
                equal(metadata(c, version, [absent])[1][absent][0], 3, f"unknown topic, version {version}")
                that(absent not in metadata(c, version, None)[1], "it was created")
                equal(metadata(c, version, ["bad/name"], allow=True)[1]["bad/name"][0], 17, f"bad name, version {version}")


@check("versions: FindCoordinator in every version, one key and several")
def coordinators(context):
    with Connection(context) as c:
        for version in range(0, min(api_versions(c)[10][1], 6) + 1):
            groups = [unique("g"), unique("g")]
            w = body("FindCoordinator", version)
            if version < 4:
                w.string(groups[0])
            if version >= 1:
                w.i8(0)
            if version >= 4:
                w.array(groups, w.string)
            r_seen = []

            def answered():
                r = c.call("FindCoordinator", version, w.tags())
                r_seen[:] = []
                if version >= 1:
                    r.i32()
                if version < 4:
                    error = r.i16()
                    if version >= 1:
                        r.string()
                    r_seen.append((groups[0], error, r.i32(), r.string(), r.i32()))
                else:
                    def each():
                        key, _, host, port, error = r.string(), r.i32(), r.string(), r.i32(), r.i16()
                        r.string(), r.tags()
                        r_seen.append((key, error, 0, host, port))

                    r.array(each)
                r.tags()
                r.end()

            answered()
            equal([s[0] for s in r_seen], groups if version >= 4 else groups[:1], f"keys, version {version}")
            for _, error, _, host, port in r_seen:
                equal((error, f"{host}:{port}"), (0, context.bootstrap), f"coordinator, version {version}")
