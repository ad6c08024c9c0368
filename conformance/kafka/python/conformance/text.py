"""The public text through the broker and back, byte for byte; headers, nulls and timestamps with it."""

import time

from .clients import consumer, create, producer, read, read_from, send
from .harness import check, equal, text_lines, that, unique


def there_and_back(context, compression):
    topic = unique(f"text-{compression}")
    create(context, topic)
    lines = text_lines()
    client = producer(context, compression_type=compression, enable_idempotence=True, linger_ms=50, batch_num_messages=300)
    sent = send(client, topic, [(str(number), line, [("line", str(number).encode())]) for number, line in enumerate(lines)], 0)
    equal([m.offset() for m in sent], list(range(len(lines))), "offsets acknowledged")
    got = read_from(context, topic, 0, 0, len(lines), check_crcs="true")
    equal(b"\n".join(m.value() for m in got), b"\n".join(lines), "text")
    equal([m.key() for m in got], [str(n).encode() for n in range(len(lines))], "keys")
    equal([m.headers() for m in got], [[("line", str(n).encode())] for n in range(len(lines))], "headers")
    # and from the middle, which is inside a batch
    middle = read_from(context, topic, 0, 777, 100, check_crcs="true")
    equal([(m.offset(), m.value()) for m in middle], [(n, lines[n]) for n in range(777, 877)], "text from the middle")


def register(compression):
    check(f"text: a public text there and back, byte for byte, {compression}")(lambda context: there_and_back(context, compression))


for name in ["none", "gzip", "snappy", "lz4", "zstd"]:
    register(name)


@check("text: every compression in one partition")
def mixed(context):
    topic = unique("mixed")
    create(context, topic)
    lines = text_lines()[:500]
    for step, name in enumerate(["none", "gzip", "snappy", "lz4", "zstd"]):
        send(producer(context, compression_type=name), topic, [(None, line) for line in lines[step * 100:(step + 1) * 100]], 0)
    got = read_from(context, topic, 0, 0, 500, check_crcs="true")
    equal([m.value() for m in got], lines, "text")


@check("records: null keys, null and empty values, null and repeated headers, big values")
def odd_records(context):
    topic = unique("odd")
    create(context, topic)
    big = bytes(range(256)) * 3000
    records = [
        (None, b"no key"),
        (b"tombstone", None),
        (None, None),
        (b"", b""),
        (b"headers", b"v", [("a", b"1"), ("a", b"2"), ("b", None), ("", b"empty name"), ("c", b"")]),
        (b"\x00\xff", b"\xff\x00\n"),
        (b"big", big),
    ]
    send(producer(context, message_max_bytes=2_000_000), topic, records, 0)
    got = read_from(context, topic, 0, 0, len(records), check_crcs="true")
    equal([(m.key(), m.value()) for m in got], [(r[0], r[1]) for r in records], "records")
    equal(got[4].headers(), records[4][2], "headers")
    that(not got[0].headers(), "a record without headers has none")


@check("records: the producer's timestamps are kept")
def timestamps(context):
    topic = unique("stamps")
    create(context, topic)
    now = int(time.time() * 1000)
    stamps = [now, now - 5, now - 86_400_000, now + 1000, 1]
    send(producer(context, compression_type="lz4", linger_ms=100), topic, [(None, b"v", None, stamp) for stamp in stamps], 0)
    got = read_from(context, topic, 0, 0, len(stamps))
    equal([m.timestamp() for m in got], [(1, stamp) for stamp in stamps], "timestamps (1: made by the producer)")


@check("produce: acks 0, 1 and all store the records")
def acks(context):
    topic = unique("acks")
    create(context, topic)
    for value in ["0", "1", "all"]:
        client = producer(context, acks=value)
        send(client, topic, [(None, f"{value} {n}".encode()) for n in range(50)], 0)
    got = read_from(context, topic, 0, 0, 150)
    equal([m.value() for m in got], [f"{v} {n}".encode() for v in ["0", "1", "all"] for n in range(50)], "values")


@check("produce: the default partitioner spreads keys and a reader of all partitions gets each record once")
def spread(context):
    topic = unique("spread")
    create(context, topic, 5)
    lines = text_lines()
    sent = send(producer(context), topic, [(str(n), line) for n, line in enumerate(lines)])
    equal({m.partition() for m in sent}, set(range(5)), "partitions used")
    client = consumer(context, unique("spread"))
    client.subscribe([topic])
    got = read(client, len(lines))
    equal(sorted((m.partition(), m.offset()) for m in got), sorted((m.partition(), m.offset()) for m in sent), "records")
    equal({m.key(): m.value() for m in got}, {str(n).encode(): line for n, line in enumerate(lines)}, "text")
    client.close()
