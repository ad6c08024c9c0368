"""Topics that come and go under readers and writers, and many partitions at once."""

from confluent_kafka import TopicPartition

from .clients import admin, consumer, create, producer, read, send
from .group_requests import Member, offset_fetch
from .groups_raw import coordinator_ready
from .harness import check, equal, that, unique, until
from .records import batch, headers
from .requests import fetch, fetch_body, fetch_response, produce, topic_id
from .versions import metadata
from .wire import Connection


@check("life: Metadata creates an unknown topic when allowed, in every version that can say so, and before")
def automatic(context):
    with Connection(context) as c:
        for version in (0, 3, 4, 8, 12):
            topic = unique("auto")
            metadata(c, version, [topic], allow=True)
            until(f"the topic is there, version {version}", lambda: metadata(c, version, [topic], allow=True)[1][topic][0] == 0)
            that(metadata(c, version, [topic])[1][topic][2], f"it has partitions, version {version}")


@check("life: a fetch that waits on a topic that is deleted ends, and nothing of the topic stays")
def deleted_under_a_fetch(context):
    topic = unique("doomed")
    client = create(context, topic)
    ident = topic_id(context, topic)
    with Connection(context, seconds=30) as waiting, Connection(context) as c:
        correlation = waiting.send_request("Fetch", 13, fetch_body(13, [(ident, [(0, 0)])], wait_ms=3_000))
        equal(produce(c, unique("other"), batch([b"x"]))[0], 3, "a produce elsewhere")
        client.delete_topics([topic])[topic].result(20)
        error, _, found = fetch_response(waiting.receive("Fetch", 13, correlation), 13)
        that(error in (0, 3, 100) and not any(p["records"] for p in found.values()), f"the waiting fetch: {error} {found}")
        until("its id is unknown", lambda: fetch(c, 13, [(ident, [(0, 0)])])[2][ident, 0]["error"] == 100)
        until("its name is unknown", lambda: fetch(c, 11, [(topic, [(0, 0)])])[2][topic, 0]["error"] == 3)
        equal(produce(c, topic, batch([b"x"]))[0], 3, "a produce to it")
        equal(produce(c, ident, batch([b"x"]), version=13)[0], 100, "a produce by its id")


@check("life: the old id of a topic made again is unknown, the new one works, offsets start at 0")
def made_again(context):
    topic, group = unique("reborn"), unique("reborn")
    client = create(context, topic)
    coordinator_ready(context, group)
    old = topic_id(context, topic)
    with Connection(context) as c:
        equal(produce(c, topic, batch([b"a", b"b"])), (0, 0), "produce")
        m = Member(context, group)
        equal(m.commit(topic, {0: 2}, generation=-1), {0: 0}, "commit")
        client.delete_topics([topic])[topic].result(20)
        until("it is gone", lambda: topic not in metadata(c, 12, None)[1])
        until("its offsets are gone", lambda: offset_fetch(c, {group: None})[group] == (0, {}))
        until("the old id is unknown", lambda: produce(c, old, batch([b"x"]), version=13)[0] == 100)
        create(context, topic)
        new = topic_id(context, topic)
        that(new != old, "another id")
        equal(produce(c, old, batch([b"x"]), version=13)[0], 100, "the old id")
        equal(fetch(c, 13, [(old, [(0, 0)])])[2][old, 0]["error"], 100, "reading by the old id")
        equal(m.commit(old, {0: 1}, generation=-1, version=10), {0: 100}, "committing by the old id")
        equal(produce(c, new, batch([b"y"]), version=13), (0, 0), "the new id")
        equal(len(headers(fetch(c, 13, [(new, [(0, 0)])])[2][new, 0]["records"])), 1, "batches of the new topic")
        equal(offset_fetch(c, {group: None})[group], (0, {}), "the group's offsets")
        m.close()


@check("life: five hundred partitions, written and read at once")
def five_hundred(context):
    topic = unique("wide")
    create(context, topic, 500)
    writer = producer(context, enable_idempotence=True, compression_type="lz4", linger_ms=20)
    for n in range(2_000):
        writer.produce(topic, value=str(n), partition=n % 500)
        writer.poll(0)
    equal(writer.flush(40), 0, "records not acknowledged")
    reader = consumer(context, "unused")
    reader.assign([TopicPartition(topic, p, 0) for p in range(500)])
    got = read(reader, 2_000)
    equal(sorted(int(m.value()) for m in got), list(range(2_000)), "values")
    that(all(int(m.value()) == m.partition() + 500 * m.offset() for m in got), "partitions and offsets")
    send(writer, topic, [(None, b"last")], 499)
    last = read(reader, 1)[0]
    equal((last.partition(), last.offset(), last.value()), (499, 4, b"last"), "a late record")
    reader.close()
    with Connection(context, seconds=30) as c:  # one raw request over all of them
        found = fetch(c, 11, [(topic, [(p, 0) for p in range(500)])], session=(0, 0))[2]
        equal(len(found), 500, "partitions answered")
        equal(sum(b["count"] for p in found.values() for b in headers(p["records"])), 2_001, "records")
    client = admin(context)
    client.delete_topics([topic])[topic].result(30)


@check("life: a reader that starts at the latest offset sees only what comes later")
def latest(context):
    topic = unique("latest")
    create(context, topic)
    writer = producer(context)
    send(writer, topic, [(None, b"before")] * 5, 0)
    reader = consumer(context, unique("latest"), auto_offset_reset="latest", enable_partition_eof="true")
    reader.subscribe([topic])
    end = until("the end", lambda: reader.poll(0.2))
    equal((end.error() and end.error().code(), end.offset()), (-191, 5), "what the reader meets first: the end")  # _PARTITION_EOF
    send(writer, topic, [(None, b"after")], 0)
    message = until("a record", lambda: reader.poll(0.2))
    equal((message.offset(), message.value()), (5, b"after"), "the first record")
    reader.close()
