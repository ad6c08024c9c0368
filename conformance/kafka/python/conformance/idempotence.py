"""Producer deduplication, said by hand: duplicates, gaps, epochs, the sequence's wrap. And what a wrong batch gets."""

import uuid

from .clients import consumer, create, producer, read_from, send, watermarks
from .harness import check, equal, that, unique
from .records import batch
from .requests import init_producer_id, produce, produce_body, produce_response, topic_id
from .wire import Connection


def identity(connection, **options):
    error, producer_id, epoch = init_producer_id(connection, **options)
    equal(error, 0, "InitProducerId error")
    return producer_id, epoch


def stored(context, topic, count):
    return [m.value() for m in read_from(context, topic, 0, 0, count, check_crcs="true")]


def end_offset(context, topic):
    reader = consumer(context, "unused")
    try:
        return watermarks(reader, topic)[1]
    finally:
        reader.close()


@check("idempotence: producer ids are never given twice")
def ids(context):
    with Connection(context) as one, Connection(context) as other:
        given = [identity(c)[0] for _ in range(10) for c in (one, other)]
    equal(len(set(given)), 20, "distinct ids")
    that(all(i >= 0 for i in given), "ids are not negative")


@check("idempotence: a duplicate gets its original offset and is not written again")
def duplicate(context):
    topic = unique("duplicate")
    create(context, topic)
    with Connection(context) as c:
        who, epoch = identity(c)
        batches = [batch([f"{n}a".encode(), f"{n}b".encode()], who, epoch, 2 * n) for n in range(5)]
        equal([produce(c, topic, b) for b in batches], [(0, 2 * n) for n in range(5)], "first time")
        equal([produce(c, topic, b) for b in batches], [(0, 2 * n) for n in range(5)], "second time")
        equal(produce(c, topic, batch([b"next"], who, epoch, 10)), (0, 10), "the next sequence")
    equal(stored(context, topic, 11), [f"{n}{s}".encode() for n in range(5) for s in "ab"] + [b"next"], "records")
    equal(end_offset(context, topic), 11, "end offset")


@check("idempotence: another connection's duplicate is known too")
def duplicate_elsewhere(context):
    topic = unique("elsewhere")
    create(context, topic)
    with Connection(context) as c:
        who, epoch = identity(c)
        first = batch([b"once"], who, epoch, 0)
        equal(produce(c, topic, first), (0, 0), "first time")
    with Connection(context) as c:
        equal(produce(c, topic, first), (0, 0), "after a reconnect")
        equal(produce(c, topic, batch([b"twice"], who, epoch, 1)), (0, 1), "the next sequence")
    equal(end_offset(context, topic), 2, "end offset")


@check("idempotence: a gap in the sequence gets 45, and the right one still works")
def gap(context):
    topic = unique("gap")
    create(context, topic)
    with Connection(context) as c:
        who, epoch = identity(c)
        equal(produce(c, topic, batch([b"0"], who, epoch, 0)), (0, 0), "sequence 0")
        equal(produce(c, topic, batch([b"2"], who, epoch, 2))[0], 45, "sequence 2")
        equal(produce(c, topic, batch([b"9"], who, epoch, 9))[0], 45, "sequence 9")
        equal(produce(c, topic, batch([b"1"], who, epoch, 1)), (0, 1), "sequence 1")
    equal(stored(context, topic, 2), [b"0", b"1"], "records")


@check("idempotence: a duplicate older than the last five batches is not written again")
def long_ago(context):
    topic = unique("long-ago")
    create(context, topic)
    with Connection(context) as c:
        who, epoch = identity(c)
        batches = [batch([str(n).encode()], who, epoch, n) for n in range(8)]
        equal([produce(c, topic, b) for b in batches], [(0, n) for n in range(8)], "first time")
        for n in range(8):
            error, base = produce(c, topic, batches[n])
            if n < 3:
                that(error in (45, 46), f"batch {n} of eight again: {error}")
            else:
                equal((error, base), (0, n), f"batch {n} of eight again")
    equal(end_offset(context, topic), 8, "end offset")


@check("idempotence: an older epoch gets 47, a newer one starts at sequence 0")
def epochs(context):
    topic = unique("epochs")
    create(context, topic)
    with Connection(context) as c:
        who, epoch = identity(c)
        equal(produce(c, topic, batch([b"0"], who, epoch, 0)), (0, 0), "first epoch")
        equal(produce(c, topic, batch([b"x"], who, epoch + 1, 5))[0], 45, "a newer epoch that does not start at 0")
        equal(produce(c, topic, batch([b"1"], who, epoch + 1, 0)), (0, 1), "a newer epoch")
        equal(produce(c, topic, batch([b"x"], who, epoch, 1))[0], 47, "the older epoch")
        equal(produce(c, topic, batch([b"2"], who, epoch + 1, 1)), (0, 2), "the newer epoch goes on")
    equal(stored(context, topic, 3), [b"0", b"1", b"2"], "records")


@check("idempotence: InitProducerId from version 3 on is answered for a known producer")
def bump(context):
    with Connection(context) as c:
        for version in (0, 1, 2, 3, 4):
            who, epoch = identity(c, version=version)
            equal(epoch, 0, f"first epoch, version {version}")
        error, producer_id, next_epoch = init_producer_id(c, 4, producer=who, epoch=epoch)
        equal(error, 0, "InitProducerId with an id")
        that((producer_id, next_epoch) != (who, epoch), "the answer is another identity: a newer epoch or another id")


@check("idempotence: the sequence wraps at 2^31-1, inside a batch and between batches")
def wrap(context):
    topic = unique("wrap")
    create(context, topic, 2)
    top = 2**31 - 1
    with Connection(context) as c:
        who, epoch = identity(c)
        inside = [batch([b"a", b"b"], who, epoch, top - 3), batch([b"c", b"d", b"e", b"f"], who, epoch, top - 1),
                  batch([b"g"], who, epoch, 2)]
        equal([produce(c, topic, b) for b in inside], [(0, 0), (0, 2), (0, 6)], "a batch across the wrap")
        equal([produce(c, topic, b) for b in inside], [(0, 0), (0, 2), (0, 6)], "again: duplicates")
        equal(produce(c, topic, batch([b"x"], who, epoch, 4))[0], 45, "a gap after the wrap")
        between = [batch([b"a"], who, epoch, top), batch([b"b"], who, epoch, 0), batch([b"c"], who, epoch, 1)]
        equal([produce(c, topic, b, partition=1) for b in between], [(0, 0), (0, 1), (0, 2)], "the wrap between batches")
    equal(stored(context, topic, 7), [b"a", b"b", b"c", b"d", b"e", b"f", b"g"], "records")


@check("idempotence: five requests in flight keep their order, a resent window is not written twice")
def window(context):
    topic = unique("window")
    create(context, topic)
    with Connection(context) as c:
        who, epoch = identity(c)
        for start in (0, 5, 0, 5):  # the first window is by then older than the last five batches, unless the last is resent
            batches = [batch([str(n).encode()], who, epoch, n) for n in range(start, start + 5)]
            ids = [c.send_request("Produce", 7, produce_body(7, topic, 0, b)) for b in batches]
            answers = [produce_response(c.receive("Produce", 7, i), 7) for i in ids]
            if answers[0][0] == 0:
                equal(answers, [(0, n) for n in range(start, start + 5)], f"window from {start}")
            else:
                that(all(e in (45, 46) for e, _ in answers), f"old window: {answers}")
    equal(stored(context, topic, 10), [str(n).encode() for n in range(10)], "records")
    equal(end_offset(context, topic), 10, "end offset")


@check("produce: a batch with a wrong CRC gets 2 and is not stored")
def crc(context):
    topic = unique("crc")
    create(context, topic)
    with Connection(context) as c:
        equal(produce(c, topic, batch([b"bad"], crc_xor=0x10))[0], 2, "code")
        flipped = bytearray(batch([b"a longer value to flip a bit of"]))
        flipped[-8] ^= 4
        equal(produce(c, topic, bytes(flipped))[0], 2, "code for a flipped bit in a value")
        equal(produce(c, topic, batch([b"good"])), (0, 0), "a good batch afterwards, same connection")
    equal(stored(context, topic, 1), [b"good"], "records")


@check("produce: batches that lie about themselves are refused and nothing of them is stored")
def liars(context):
    topic = unique("liars")
    create(context, topic)
    good = batch([b"good"])
    two_batches = good + good
    cases = {
        "fewer records than the count": batch([b"x"], count=5, last_delta=4),
        "a count and a last delta that differ": batch([b"x", b"y"], last_delta=7),
        "a length past the end": good[:8] + (len(good) + 100).to_bytes(4, "big") + good[12:],
        "cut short": good[:-3],
        "a length below the header's": good[:8] + (10).to_bytes(4, "big") + good[12:],
        "magic 7": batch([b"x"], magic=7),
        "unknown compression": batch([b"x"], attributes=7),
        "two batches": two_batches,
    }
    for what, records in cases.items():
        with Connection(context) as c:
            error, _ = produce(c, topic, records)
            that(error in (-1, 2, 42, 43, 76, 87), f"{what}: code {error}")
    equal(end_offset(context, topic), 0, "end offset")
    with Connection(context) as c:
        equal(produce(c, topic, good), (0, 0), "a good batch afterwards")


@check("produce: an unknown topic or partition gets 3, an unknown topic id 100")
def unknown(context):
    topic = unique("partition")
    create(context, topic)
    with Connection(context) as c:
        equal(produce(c, topic, batch([b"x"]), partition=5)[0], 3, "code for partition 5")
        equal(produce(c, unique("never-made"), batch([b"x"]))[0], 3, "code for an unknown topic")
        equal(produce(c, uuid.uuid4(), batch([b"x"]), version=13)[0], 100, "code for an unknown topic id")
        equal(produce(c, topic_id(context, topic), batch([b"x"]), version=13), (0, 0), "by topic id")


@check("idempotence: confluent-kafka's idempotent producer writes 5,000 records once, in order")
def confluent(context):
    topic = unique("idempotent")
    create(context, topic)
    values = [str(n).encode() for n in range(5_000)]
    client = producer(context, enable_idempotence=True, linger_ms=0, batch_num_messages=7, compression_type="snappy")
    send(client, topic, [(None, v) for v in values], 0)
    equal(stored(context, topic, 5_000), values, "records")
    equal(end_offset(context, topic), 5_000, "end offset")
