"""Requests that several raw checks use, each in the versions they need."""

import uuid

from .harness import equal
from .wire import Connection, body


def api_versions(connection):
    """{api key: (lowest, highest version)} from ApiVersions version 3."""
    response = connection.call("ApiVersions", 3, body("ApiVersions", 3).string("conformance").string("1").tags())
    equal(response.i16(), 0, "ApiVersions error")

    def entry():
        values = response.i16(), response.i16(), response.i16()
        response.tags()
        return values

    return {key: (low, high) for key, low, high in response.array(entry)}


def produce_body(version, topic, partition, records, acks=-1, transactional_id=None):
    """A Produce request for one partition; `topic` is a name, from version 13 on a topic id."""
    w = body("Produce", version).string(transactional_id).i16(acks).i32(15_000)

    def each_partition(_):
        w.i32(partition).bytes(records).tags()

    def each_topic(_):
        w.uuid(topic) if version >= 13 else w.string(topic)
        w.array([0], each_partition).tags()

    return w.array([0], each_topic).tags()


def produce_response(r, version):
    """(error, base offset) of the one partition."""

    def each_partition():
        r.i32()
        error, base = r.i16(), r.i64()
        r.i64()
        if version >= 5:
            r.i64()
        if version >= 8:
            def each_error():
                r.i32(), r.string(), r.tags()

            r.array(each_error)
            r.string()
        r.tags()
        return error, base

    def each_topic():
        r.uuid() if version >= 13 else r.string()
        partitions = r.array(each_partition)
        r.tags()
        return partitions

    topics = r.array(each_topic)
    r.i32()
    r.tags()
    r.end()
    return topics[0][0]


def produce(connection, topic, records, partition=0, version=7, acks=-1, transactional_id=None):
    response = connection.call("Produce", version, produce_body(version, topic, partition, records, acks, transactional_id))
    return produce_response(response, version)


def fetch_body(version, topics, session=(0, -1), wait_ms=0, min_bytes=1, max_bytes=50 << 20, partition_bytes=1 << 20,
               forgotten=()):
    """A Fetch request for [(topic, [(partition, offset)])]; a topic is a name, from version 13 on a topic id."""
    w = body("Fetch", version)
    if version < 15:
        w.i32(-1)
    w.i32(wait_ms).i32(min_bytes).i32(max_bytes).i8(0)
    if version >= 7:
        w.i32(session[0]).i32(session[1])

    def name(topic):
        w.uuid(topic) if version >= 13 else w.string(topic)

    def each_partition(p):
        w.i32(p[0])
        if version >= 9:
            w.i32(-1)
        w.i64(p[1])
        if version >= 12:
            w.i32(-1)
        if version >= 5:
            w.i64(-1)
        w.i32(partition_bytes).tags()

    def each_topic(t):
        name(t[0])
        w.array(t[1], each_partition).tags()

    w.array(topics, each_topic)
    if version >= 7:
        def each_forgotten(t):
            name(t[0])
            w.array(t[1], w.i32).tags()

        w.array(list(forgotten), each_forgotten)
    if version >= 11:
        w.string("")
    return w.tags()


def fetch_response(r, version):
    """(error, session id, {(topic, partition): {error, high, start, records}})."""
    r.i32()
    error, session = (r.i16(), r.i32()) if version >= 7 else (0, 0)
    found = {}

    def each_topic():
        topic = r.uuid() if version >= 13 else r.string()

        def each_partition():
            partition, code, high, _ = r.i32(), r.i16(), r.i64(), r.i64()
            start = r.i64() if version >= 5 else None

            def each_aborted():
                r.i64(), r.i64(), r.tags()

            r.array(each_aborted)
            if version >= 11:
                r.i32()
            records = r.bytes()
            r.tags()
            found[topic, partition] = {"error": code, "high": high, "start": start, "records": records or b""}

        r.array(each_partition)
        r.tags()

    r.array(each_topic)
    r.tags()
    r.end()
    return error, session, found


def fetch(connection, version, topics, **options):
    return fetch_response(connection.call("Fetch", version, fetch_body(version, topics, **options)), version)


def init_producer_id(connection, version=1, transactional_id=None, producer=-1, epoch=-1):
    """(error, producer id, epoch)."""
    w = body("InitProducerId", version).string(transactional_id).i32(60_000)
    if version >= 3:
        w.i64(producer).i16(epoch)
    r = connection.call("InitProducerId", version, w.tags())
    r.i32()
    answer = r.i16(), r.i64(), r.i16()
    r.tags()
    r.end()
    return answer


def topic_id(context, topic):
    """The topic's id from Metadata version 12."""
    with Connection(context) as connection:
        w = body("Metadata", 12)
        w.array([topic], lambda t: w.uuid(uuid.UUID(int=0)).string(t).tags()).i8(0).i8(0).tags()
        r = connection.call("Metadata", 12, w)
        r.i32()

        def broker():
            r.i32(), r.string(), r.i32(), r.string(), r.tags()

        r.array(broker)
        r.string(), r.i32()
        equal(r.uvarint(), 2, "topics in the metadata, plus one")
        equal(r.i16(), 0, "metadata error of the topic")
        equal(r.string(), topic, "name in the metadata")
        return r.uuid()


def list_offset(connection, topic, timestamp, partition=0, version=5):
    """(error, timestamp, offset) of ListOffsets versions 1 to 11."""
    w = body("ListOffsets", version).i32(-1)
    if version >= 2:
        w.i8(0)

    def each_partition(_):
        w.i32(partition)
        if version >= 4:
            w.i32(-1)
        w.i64(timestamp).tags()

    w.array([0], lambda _: w.string(topic).array([0], each_partition).tags())
    if version >= 10:
        w.i32(15_000)
    r = connection.call("ListOffsets", version, w.tags())
    if version >= 2:
        r.i32()
    answer = []

    def partition_response():
        r.i32()
        answer.append((r.i16(), r.i64(), r.i64()))
        if version >= 4:
            r.i32()
        r.tags()

    def topic_response():
        r.string(), r.array(partition_response), r.tags()

    r.array(topic_response)
    r.tags()
    r.end()
    return answer[0]
