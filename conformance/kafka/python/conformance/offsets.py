"""ListOffsets: earliest, latest, by timestamp (the record, not its batch), the largest timestamp. And leader epochs."""

from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from .clients import admin, consumer, create, producer, send
from .harness import check, equal, that, unique
from .records import batch, headers
from .requests import fetch, list_offset, produce
from .wire import Connection, body

HOUR = 3_600_000
BASE = 1_700_000_000_000


def fill(context, compression):
    """100 records ten seconds apart, in few batches."""
    topic = unique(f"times-{compression}")
    create(context, topic, 1, retention_ms=-1)
    client = producer(context, compression_type=compression, linger_ms=200, batch_num_messages=40)
    send(client, topic, [(None, str(n).encode(), None, BASE + n * 10_000) for n in range(100)], 0)
    return topic


def by_time(context, compression):
    topic = fill(context, compression)
    reader = consumer(context, "unused")
    try:
        for n in (0, 1, 17, 39, 40, 63, 99):
            for early in (0, 9_999):
                asked = TopicPartition(topic, 0, BASE + n * 10_000 - early)
                equal(reader.offsets_for_times([asked], timeout=10)[0].offset, n, f"offset for the time of record {n} less {early} ms")
        equal(reader.offsets_for_times([TopicPartition(topic, 0, 0)], timeout=10)[0].offset, 0, "offset for time 0")
        # past the last record librdkafka says END (-1)
        equal(reader.offsets_for_times([TopicPartition(topic, 0, BASE + 2_000_000)], timeout=10)[0].offset, -1, "offset past the end")
    finally:
        reader.close()


def register(compression):
    check(f"offsets: by timestamp inside a batch, {compression}")(lambda context: by_time(context, compression))


for name in ["none", "gzip", "snappy", "lz4", "zstd"]:
    register(name)


@check("offsets: earliest, latest, by timestamp and largest timestamp, every version")
def versions(context):
    topic = unique("specs")
    create(context, topic, 2, retention_ms=-1)
    with Connection(context) as c:
        equal(list_offset(c, topic, -2), (0, -1, 0), "earliest of an empty partition")
        equal(list_offset(c, topic, -1), (0, -1, 0), "latest of an empty partition")
        equal(list_offset(c, topic, BASE), (0, -1, -1), "by time in an empty partition")
        values = [str(n).encode() for n in range(10)]
        # the largest timestamp is inside the first batch, and times are not in order
        produce(c, topic, batch(values, base_timestamp=BASE, deltas=[0, 50, 20, 900, 30, 60, 70, 80, 90, 100], compress=True))
        produce(c, topic, batch(values, base_timestamp=BASE + 200, deltas=list(range(10))))
        for version in range(1, 11):
            equal(list_offset(c, topic, -2, version=version), (0, -1, 0), f"earliest, version {version}")
            equal(list_offset(c, topic, -1, version=version), (0, -1, 20), f"latest, version {version}")
            equal(list_offset(c, topic, BASE + 40, version=version), (0, BASE + 50, 1), f"first at or after 40, version {version}")
            equal(list_offset(c, topic, BASE + 51, version=version), (0, BASE + 900, 3), f"first at or after 51, version {version}")
            equal(list_offset(c, topic, BASE + 901, version=version), (0, -1, -1), f"after everything, version {version}")
            if version >= 7:
                equal(list_offset(c, topic, -3, version=version), (0, BASE + 900, 3), f"largest timestamp, version {version}")
        equal(list_offset(c, topic, -1, partition=9)[0], 3, "unknown partition")
        equal(list_offset(c, unique("nowhere"), -1)[0], 3, "unknown topic")


@check("offsets: the admin client lists earliest, latest, by timestamp and largest timestamp")
def admin_offsets(context):
    topic = fill(context, "lz4")
    client = admin(context)

    def ask(spec):
        answer = client.list_offsets({TopicPartition(topic, 0): spec})[TopicPartition(topic, 0)].result(20)
        return answer.offset, answer.timestamp

    equal(ask(OffsetSpec.earliest())[0], 0, "earliest")
    equal(ask(OffsetSpec.latest())[0], 100, "latest")
    equal(ask(OffsetSpec.max_timestamp()), (99, BASE + 990_000), "largest timestamp")
    equal(ask(OffsetSpec.for_timestamp(BASE + 123_456)), (13, BASE + 130_000), "by timestamp")
    equal(ask(OffsetSpec.for_timestamp(BASE + 100 * HOUR))[0], -1, "past the end")


@check("offsets: OffsetForLeaderEpoch gives the end of the current epoch and nothing for later ones")
def leader_epochs(context):
    topic = unique("epochs")
    create(context, topic)

    def ask(c, epoch, partition=0):
        w = body("OffsetForLeaderEpoch", 3).i32(-1)
        w.array([0], lambda _: w.string(topic).array([0], lambda _: w.i32(partition).i32(-1).i32(epoch)))
        r = c.call("OffsetForLeaderEpoch", 3, w)
        r.i32()
        answer = r.array(lambda: (r.string(), r.array(lambda: (r.i16(), r.i32(), r.i32(), r.i64()))))
        r.end()
        code, _, epoch, end = answer[0][1][0]
        return code, epoch, end

    with Connection(context) as c:
        for n in range(3):
            equal(produce(c, topic, batch([b"x", b"y"])), (0, 2 * n), "produce")
        stored = headers(fetch(c, 11, [(topic, [(0, 0)])])[2][topic, 0]["records"])
        current = stored[-1]["leader_epoch"]
        equal(ask(c, current), (0, current, 6), "the epoch that the last batch was written in")
        equal(ask(c, 1_000_000)[1:], (-1, -1), "a later epoch")
        equal(ask(c, 0, partition=8)[0], 3, "an unknown partition")
