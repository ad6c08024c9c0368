"""aiokafka, a client written in Python from the protocol up: produce, consume, groups, seeking, times."""

import asyncio
import logging
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import (KafkaError, MessageSizeTooLargeError, OffsetOutOfRangeError, TopicAlreadyExistsError,
                             UnknownTopicOrPartitionError)

from .clients import create
from .harness import check, equal, text_lines, that, unique

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def in_loop(function):
    """Runs an async check in an event loop of its own, at most a minute."""

    def run(context):
        asyncio.run(asyncio.wait_for(function(context), 60))

    return run


async def take(consumer, count, seconds=30):
    """`count` messages, in the order they came."""
    messages = []
    deadline = time.monotonic() + seconds
    while len(messages) < count:
        batch = await consumer.getmany(timeout_ms=500, max_records=count - len(messages))
        for found in batch.values():
            messages.extend(found)
        that(time.monotonic() < deadline, f"read {len(messages)} of {count} messages in {seconds} s")
    return messages


async def text_through(context, compression):
    topic = unique(f"aio-{compression}")
    create(context, topic)
    lines = text_lines()
    producer = AIOKafkaProducer(bootstrap_servers=context.bootstrap, compression_type=compression, enable_idempotence=True, linger_ms=20)
    await producer.start()
    try:
        waiting = [await producer.send(topic, line, key=str(n).encode(), partition=0, headers=[("n", str(n).encode())])
                   for n, line in enumerate(lines)]
        offsets = [(await w).offset for w in waiting]
    finally:
        await producer.stop()
    equal(offsets, list(range(len(lines))), "offsets")
    consumer = AIOKafkaConsumer(bootstrap_servers=context.bootstrap, check_crcs=True, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        got = await take(consumer, len(lines))
    finally:
        await consumer.stop()
    equal(b"\n".join(m.value for m in got), b"\n".join(lines), "text")
    equal([(m.key, m.headers) for m in got], [(str(n).encode(), (("n", str(n).encode()),)) for n in range(len(lines))], "keys and headers")


def register(compression):
    check(f"aiokafka: a public text there and back, idempotent, {compression or 'none'}")(
        in_loop(lambda context: text_through(context, compression)))


for name in [None, "gzip", "snappy", "lz4", "zstd"]:
    register(name)


@check("aiokafka: group members share partitions, commit, leave, and a new one goes on")
@in_loop
async def groups(context):
    topic, group = unique("aio-group"), unique("aio-group")
    create(context, topic, 4)
    settings = {"bootstrap_servers": context.bootstrap, "group_id": group, "auto_offset_reset": "earliest", "enable_auto_commit": False,
                "heartbeat_interval_ms": 300, "session_timeout_ms": 6_000}
    first, second = AIOKafkaConsumer(topic, **settings), AIOKafkaConsumer(topic, **settings)
    producer = AIOKafkaProducer(bootstrap_servers=context.bootstrap)
    await producer.start()
    await first.start()
    await second.start()
    try:
        deadline = time.monotonic() + 30
        while {len(c.assignment()) for c in (first, second)} != {2}:
            await asyncio.gather(first.getmany(timeout_ms=100), second.getmany(timeout_ms=100))
            that(time.monotonic() < deadline, "two members share four partitions")
        for n in range(40):
            await producer.send_and_wait(topic, str(n).encode(), partition=n % 4)
        got = await asyncio.gather(take(first, 20), take(second, 20))
        equal(sorted(int(m.value) for part in got for m in part), list(range(40)), "values")
        await first.commit()
        await second.commit()
        equal([await first.committed(TopicPartition(topic, p)) for p in range(4)], [10] * 4, "committed")
    finally:
        await asyncio.gather(first.stop(), second.stop())
    await producer.send_and_wait(topic, b"late", partition=3)
    await producer.stop()
    third = AIOKafkaConsumer(topic, **settings)
    await third.start()
    try:
        got = await take(third, 1)
        equal([(m.partition, m.offset, m.value) for m in got], [(3, 10, b"late")], "where a new member goes on")
    finally:
        await third.stop()


@check("aiokafka: seek, positions, beginning and end offsets, offsets for times, out of range")
@in_loop
async def seeking(context):
    topic = unique("aio-seek")
    create(context, topic, 1, retention_ms=-1)
    base = 1_700_000_000_000
    producer = AIOKafkaProducer(bootstrap_servers=context.bootstrap, compression_type="gzip", linger_ms=50)
    await producer.start()
    for waiting in [await producer.send(topic, str(n).encode(), partition=0, timestamp_ms=base + 1_000 * n) for n in range(60)]:
        await waiting
    await producer.stop()
    where = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=context.bootstrap, enable_auto_commit=False, auto_offset_reset="none")
    await consumer.start()
    try:
        consumer.assign([where])
        equal(await consumer.beginning_offsets([where]), {where: 0}, "beginning")
        equal(await consumer.end_offsets([where]), {where: 60}, "end")
        found = (await consumer.offsets_for_times({where: base + 30_500}))[where]
        equal((found.offset, found.timestamp), (31, base + 31_000), "offset for a time")
        equal((await consumer.offsets_for_times({where: base + 90_000}))[where], None, "offset for a time past the end")
        consumer.seek(where, 42)
        equal([(m.offset, m.timestamp) for m in await take(consumer, 2)], [(42, base + 42_000), (43, base + 43_000)], "after seek")
        equal(await consumer.position(where), 44, "position")
        consumer.seek(where, 1_000)
        try:
            await asyncio.wait_for(consumer.getone(), 20)
            raise AssertionError("a record beyond the end")
        except OffsetOutOfRangeError:
            pass
        await consumer.seek_to_end(where)
        equal(await consumer.position(where), 60, "position at the end")
    finally:
        await consumer.stop()


@check("aiokafka: admin: topics, partitions, groups, errors")
@in_loop
async def admin(context):
    topic = unique("aio-admin")
    client = AIOKafkaAdminClient(bootstrap_servers=context.bootstrap)
    await client.start()
    try:
        answer = await client.create_topics([NewTopic(topic, 2, 1, topic_configs={"retention.ms": "100000"})])
        equal([e[1] for e in answer.topic_errors], [0], "creation")
        try:
            answer = await client.create_topics([NewTopic(topic, 2, 1)])
            equal([e[1] for e in answer.topic_errors], [36], "creation of an existing topic")
        except TopicAlreadyExistsError:
            pass
        await client.create_partitions({topic: NewPartitions(3)})
        deadline = time.monotonic() + 20
        while len((await client.describe_topics([topic]))[0]["partitions"]) != 3:
            that(time.monotonic() < deadline, "three partitions")
            await asyncio.sleep(0.05)  # tidy: pacing
        that(topic in await client.list_topics(), "listed")
        await client.delete_topics([topic])
        try:
            answer = await client.delete_topics([unique("unknown")])
            equal([e[1] for e in answer.topic_error_codes], [3], "deletion of an unknown topic")
        except UnknownTopicOrPartitionError:
            pass
        that(isinstance(await client.list_consumer_groups(), list), "groups are listed")
    finally:
        await client.close()


@check("aiokafka: a record that is too large is refused by the broker, the next one is stored")
@in_loop
async def too_large(context):
    topic = unique("aio-large")
    create(context, topic, 1, max_message_bytes=2_000)
    producer = AIOKafkaProducer(bootstrap_servers=context.bootstrap, max_request_size=5_000_000)
    await producer.start()
    try:
        try:
            await producer.send_and_wait(topic, b"x" * 10_000, partition=0)
            raise AssertionError("a large record was taken")
        except MessageSizeTooLargeError:
            pass
        equal((await producer.send_and_wait(topic, b"small", partition=0)).offset, 0, "offset of the small record")
    except KafkaError as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error
    finally:
        await producer.stop()
