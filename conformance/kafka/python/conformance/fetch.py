"""Reading: from an offset, out of range, small limits, waits, many partitions, incremental fetch sessions."""

import threading
import time
import uuid

from confluent_kafka import TopicPartition

from .clients import consumer, create, producer, read, read_from, send
from .harness import check, equal, that, unique, until
from .records import batch, headers
from .requests import fetch, fetch_body, fetch_response, produce, topic_id
from .wire import Connection


@check("fetch: from any offset")
def from_offset(context):
    topic = unique("from")
    create(context, topic)
    send(producer(context, compression_type="zstd", linger_ms=50), topic, [(None, str(n).encode()) for n in range(300)], 0)
    for offset in (0, 1, 150, 299):
        got = read_from(context, topic, 0, offset, 1)[0]
        equal((got.offset(), got.value()), (offset, str(offset).encode()), "record")


@check("fetch: an offset out of range gets 1, and auto.offset.reset earliest, latest and error do as they say")
def out_of_range(context):
    topic = unique("range")
    create(context, topic)
    send(producer(context), topic, [(None, str(n).encode()) for n in range(10)], 0)
    with Connection(context) as c:
        for offset in (11, 1_000, -5):
            got = fetch(c, 11, [(topic, [(0, offset)])])[2][topic, 0]
            equal((got["error"], got["records"]), (1, b""), f"answer at {offset}")
        at_end = fetch(c, 11, [(topic, [(0, 10)])])[2][topic, 0]
        equal((at_end["error"], at_end["records"], at_end["high"]), (0, b"", 10), "answer at the end")
        equal(fetch(c, 11, [(topic, [(3, 0)])])[2][topic, 3]["error"], 3, "unknown partition")
        equal(fetch(c, 11, [(unique("nowhere"), [(0, 0)])])[2].popitem()[1]["error"], 3, "unknown topic")
    equal(read_from(context, topic, 0, 500, 1, auto_offset_reset="earliest")[0].offset(), 0, "reset to the earliest")
    reader = consumer(context, "unused", auto_offset_reset="error")
    reader.assign([TopicPartition(topic, 0, 500)])
    message = until("an error", lambda: reader.poll(0.2))
    equal(message.error() and message.error().code(), -140, "no reset allowed")  # _AUTO_OFFSET_RESET
    reader.close()
    reader = consumer(context, "unused", auto_offset_reset="latest", enable_partition_eof="true")
    reader.assign([TopicPartition(topic, 0, 500)])
    message = until("the end", lambda: reader.poll(0.2))
    equal((message.error() and message.error().code(), message.offset()), (-191, 10), "reset to the latest")  # _PARTITION_EOF
    reader.close()


@check("fetch: limits smaller than one batch still give one whole batch")
def small_limits(context):
    topic = unique("small")
    create(context, topic, 2)
    with Connection(context) as c:
        for partition in (0, 1):
            for n in range(3):
                equal(produce(c, topic, batch([bytes([65 + n]) * 5_000]), partition), (0, n), "produce")
        for limits in ({"partition_bytes": 100}, {"max_bytes": 100}, {"max_bytes": 1, "partition_bytes": 1}):
            for offset in (0, 1, 2):
                got = fetch(c, 11, [(topic, [(0, offset)])], **limits)[2][topic, 0]["records"]
                found = headers(got)
                that(found and found[0]["base"] == offset and found[0]["crc_right"], f"one whole batch at {offset} with {limits}: {found}")
                equal(len(found), 1, f"batches with {limits}")
        both = fetch(c, 11, [(topic, [(0, 0), (1, 0)])], max_bytes=100)[2]
        equal(len(headers(both[topic, 0]["records"])), 1, "the first partition gives its batch")
        that(not headers((both.get((topic, 1)) or {"records": b""})["records"]), "the second one gives nothing beyond the limit")
        enough = fetch(c, 11, [(topic, [(0, 0)])], partition_bytes=11_000)[2][topic, 0]["records"]
        equal([b["base"] for b in headers(enough)], [0, 1], "batches that fit in 11,000 bytes")
    got = read_from(context, topic, 0, 0, 3, fetch_message_max_bytes="1000", fetch_max_bytes="1000000")
    equal([len(m.value()) for m in got], [5_000] * 3, "confluent-kafka with a small limit")


@check("fetch: a waiting fetch is answered by a produce, long before its wait is over")
def woken(context):
    topic = unique("woken")
    create(context, topic, 2)
    with Connection(context, seconds=40) as waiting, Connection(context) as c:
        began = time.monotonic()
        correlation = waiting.send_request("Fetch", 11, fetch_body(11, [(topic, [(0, 0), (1, 0)])], wait_ms=30_000))
        waiting.socket.settimeout(0.3)
        try:
            waiting.receive_frame()
            raise AssertionError("answered although there was nothing")
        except TimeoutError:
            waiting.socket.settimeout(40)
        equal(produce(c, topic, batch([b"wake"]), 1), (0, 0), "produce")
        found = fetch_response(waiting.receive("Fetch", 11, correlation), 11)[2]
        that(time.monotonic() - began < 20, "it was woken before the wait was over")
        equal([b["base"] for b in headers(found[topic, 1]["records"])], [0], "batches")


@check("fetch: min bytes are waited for, and the wait ends with what there is")
def min_bytes(context):
    topic = unique("min")
    create(context, topic)
    with Connection(context, seconds=40) as waiting, Connection(context) as c:
        equal(produce(c, topic, batch([b"x" * 1_000])), (0, 0), "produce")
        correlation = waiting.send_request("Fetch", 11, fetch_body(11, [(topic, [(0, 0)])], wait_ms=30_000, min_bytes=2_500))
        equal(produce(c, topic, batch([b"y" * 1_000])), (0, 1), "produce")
        equal(produce(c, topic, batch([b"z" * 1_000])), (0, 2), "produce")
        found = fetch_response(waiting.receive("Fetch", 11, correlation), 11)[2]
        equal([b["base"] for b in headers(found[topic, 0]["records"])], [0, 1, 2], "batches")
        began = time.monotonic()
        found = fetch(waiting, 11, [(topic, [(0, 0)])], wait_ms=400, min_bytes=1_000_000)[2]
        that(time.monotonic() - began >= 0.3, "it waited")
        equal([b["base"] for b in headers(found[topic, 0]["records"])], [0, 1, 2], "batches at the end of the wait")


@check("fetch: 120 partitions in one consumer, each record once")
def many_partitions(context):
    topic = unique("many")
    create(context, topic, 120)
    writer = producer(context)
    want = set()
    for partition in range(120):
        for n in range(5):
            writer.produce(topic, value=f"{partition}/{n}", partition=partition)
            want.add(f"{partition}/{n}".encode())
    equal(writer.flush(30), 0, "records not acknowledged")
    reader = consumer(context, unique("many"))
    reader.subscribe([topic])
    equal({m.value() for m in read(reader, 600)}, want, "records")
    send(writer, topic, [(None, b"late")], 77)
    got = read(reader, 1)[0]
    equal((got.partition(), got.value()), (77, b"late"), "a late record")
    reader.close()


def drain(c, version, topic, offsets, session, **options):
    return fetch(c, version, [(topic, sorted(offsets.items()))], session=session, **options)


@check("fetch sessions: only what changed is answered, positions are remembered, partitions are forgotten")
def sessions(context):
    topic = unique("session")
    create(context, topic, 3)
    with Connection(context, seconds=40) as c, Connection(context) as w:
        error, session, found = drain(c, 11, topic, {0: 0, 1: 0, 2: 0}, (0, 0))
        equal(error, 0, "error of the full fetch")
        that(session > 0, "a session is given")
        equal(sorted(found), [(topic, p) for p in range(3)], "a full fetch names every partition")
        equal(fetch(c, 11, [], session=(session, 1)), (0, session, {}), "nothing changed")
        equal(produce(w, topic, batch([b"one"]), 1), (0, 0), "produce")
        error, _, found = fetch(c, 11, [], session=(session, 2), wait_ms=5_000)
        equal((error, list(found)), (0, [(topic, 1)]), "only the changed partition")
        error, _, found = fetch(c, 11, [(topic, [(1, 1)])], session=(session, 3))
        equal(error, 0, "moved on")
        that(not any(p["records"] for p in found.values()), "nothing new after moving on")
        # a wait inside the session is woken by its partitions
        correlation = c.send_request("Fetch", 11, fetch_body(11, [], session=(session, 4), wait_ms=30_000))
        equal(produce(w, topic, batch([b"two"]), 2), (0, 0), "produce")
        error, _, found = fetch_response(c.receive("Fetch", 11, correlation), 11)
        equal((error, list(found)), (0, [(topic, 2)]), "woken by a partition of the session")
        # a forgotten partition is not answered any more, though it has records
        error, _, found = fetch(c, 11, [], session=(session, 5), forgotten=[(topic, [2])])
        equal(error, 0, "forgetting")
        equal([p for p in found if found[p]["records"]], [], "after forgetting")
        # one partition wrong among good ones does not end the session
        error, _, found = fetch(c, 11, [(topic, [(0, 99)])], session=(session, 6))
        equal((error, found[topic, 0]["error"]), (0, 1), "out of range inside a session")


@check("fetch sessions: a wrong epoch gets 71, an unknown session 70")
def session_errors(context):
    topic = unique("session-errors")
    create(context, topic)
    with Connection(context) as c:
        _, session, _ = drain(c, 11, topic, {0: 0}, (0, 0))
        equal(fetch(c, 11, [], session=(session, 7))[0], 71, "wrong epoch")
        equal(fetch(c, 11, [], session=(session ^ 0x5555555, 1))[0], 70, "unknown session")
        equal(fetch(c, 11, [], session=(session, 1))[0], 0, "the session still lives")
        # epoch -1 with the session's id closes it
        error, closed, found = drain(c, 11, topic, {0: 0}, (session, -1))
        equal((error, closed, list(found)), (0, 0, [(topic, 0)]), "closing")
        equal(fetch(c, 11, [], session=(session, 2))[0], 70, "after closing")


@check("fetch: by topic id; an unknown id gets 100")
def by_id(context):
    topic = unique("by-id")
    create(context, topic)
    ident = topic_id(context, topic)
    with Connection(context) as c:
        equal(produce(c, topic, batch([b"x"])), (0, 0), "produce")
        for version in (13, 15, 17):
            error, session, found = fetch(c, version, [(ident, [(0, 0)])], session=(0, 0))
            equal((error, len(headers(found[ident, 0]["records"]))), (0, 1), f"version {version}")
            that(session > 0, "a session by id")
            stranger = uuid.uuid4()
            error, _, found = fetch(c, version, [(stranger, [(0, 0)])])
            code = error or found[stranger, 0]["error"]
            equal(code, 100, f"unknown id, version {version}")


@check("fetch: a reader at the end sees every record of a writer beside it, in order")
def beside(context):
    topic = unique("beside")
    create(context, topic)
    values = [str(n).encode() for n in range(3_000)]
    failure = []

    def write():
        try:
            send(producer(context, linger_ms=1, compression_type="lz4"), topic, [(None, v) for v in values], 0)
        except Exception as error:
            failure.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    got = read_from(context, topic, 0, 0, len(values))
    writer.join()
    equal(failure, [], "writer")
    equal([m.value() for m in got], values, "values")
