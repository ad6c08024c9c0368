"""Old records go: by size and by time. The broker must look for them at least once a second."""

import time

from .clients import consumer, create, producer, read_from, send, watermarks
from .harness import check, equal, that, unique, until
from .requests import fetch
from .wire import Connection

MIB = 1 << 20


def incompressible(count, size=16_384):
    return [(None, f"{n:08}".encode() + bytes((n * 7 + k * 13) & 0xFF for k in range(64)) * ((size - 8) // 64)) for n in range(count)]


def start_of(context, topic):
    reader = consumer(context, "unused")
    try:
        return watermarks(reader, topic)[0]
    finally:
        reader.close()


def expire(context):
    """Returns once the broker has looked for old records, in a topic made for that: everything in it is old."""
    topic = unique("expire")
    create(context, topic, 1, segment_bytes=MIB, retention_ms=1_000)
    send(producer(context), topic, [(None, b"old", None, 1_000)], 0)
    until("old records are removed", lambda: start_of(context, topic) == 1)


@check("retention: by bytes, the earliest offset moves on and what is left is readable")
def by_bytes(context):
    topic = unique("by-bytes")
    create(context, topic, 1, segment_bytes=MIB, retention_bytes=2 * MIB)
    records = incompressible(512)  # 8 MiB
    send(producer(context), topic, records, 0)
    kept = lambda: (512 - start_of(context, topic)) * 16_384
    until("at most 4 MiB are kept", lambda: kept() <= 4 * MIB)
    expire(context)
    earliest = start_of(context, topic)
    that(kept() >= 2 * MIB - 16_384, f"{kept()} bytes kept, the earliest offset is {earliest}")
    got = read_from(context, topic, 0, earliest, 512 - earliest, check_crcs="true")
    equal([(m.offset(), m.value()) for m in got], [(n, records[n][1]) for n in range(earliest, 512)], "what is left")
    with Connection(context) as c:
        gone = fetch(c, 11, [(topic, [(0, 0)])])[2][topic, 0]
        equal((gone["error"], gone["records"]), (1, b""), "a fetch below the earliest offset")
    reset = read_from(context, topic, 0, 0, 1, auto_offset_reset="earliest")[0]
    equal(reset.offset(), earliest, "a reader at a removed offset starts at the earliest")


@check("retention: by time, old records go and new ones stay")
def by_time(context):
    topic = unique("by-time")
    create(context, topic, 1, segment_bytes=MIB, retention_ms=600_000)
    old = int(time.time() * 1000) - 3_600_000
    writer = producer(context)
    send(writer, topic, [(k, v, None, old) for k, v in incompressible(160)], 0)
    until("every old record is gone", lambda: start_of(context, topic) == 160)
    fresh = [(None, f"fresh {n}".encode()) for n in range(20)]
    send(writer, topic, fresh, 0)
    got = read_from(context, topic, 0, 160, 20)
    equal([(m.offset(), m.value()) for m in got], [(160 + n, fresh[n][1]) for n in range(20)], "new records")
    reset = read_from(context, topic, 0, 0, 20, auto_offset_reset="earliest")
    equal([m.offset() for m in reset], list(range(160, 180)), "a reader from the beginning")
    equal(start_of(context, topic), 160, "the new records stay")


@check("retention: what is within the limits stays")
def nothing_too_early(context):
    topic = unique("stays")
    create(context, topic, 1, segment_bytes=MIB, retention_ms=-1, retention_bytes=-1)
    old = int(time.time() * 1000) - 400 * 86_400_000
    send(producer(context), topic, [(k, v, None, old) for k, v in incompressible(160)], 0)
    expire(context)
    expire(context)
    equal(start_of(context, topic), 0, "earliest offset")
    equal(len(read_from(context, topic, 0, 0, 160)), 160, "records")
