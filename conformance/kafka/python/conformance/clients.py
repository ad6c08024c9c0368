"""The confluent-kafka clients that the checks use, with short waits. The pipeline check makes its own, as users do."""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from .harness import until
from .requests import list_offset
from .wire import Connection

QUIET = {"log_level": 2}


def admin(context):
    return AdminClient({"bootstrap.servers": context.bootstrap, **QUIET})


def producer(context, **settings):
    config = {"bootstrap.servers": context.bootstrap, "linger.ms": 5, **QUIET}
    config.update({key.replace("_", "."): value for key, value in settings.items()})
    return Producer(config)


def consumer(context, group, **settings):
    config = {
        "bootstrap.servers": context.bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 300,
        "topic.metadata.refresh.interval.ms": 2000,
        **QUIET,
    }
    config.update({key.replace("_", "."): value for key, value in settings.items()})
    return Consumer(config)


def code_of(function):
    """The error code that the call ended with, 0 if it ended well."""
    try:
        function()
    except KafkaException as error:
        return error.args[0].code()
    return 0


def create(context, topic, partitions=1, **config):
    """Creates the topic and waits until its partitions answer."""
    client = admin(context)
    new = NewTopic(topic, partitions, 1, config={k.replace("_", "."): str(v) for k, v in config.items()})
    client.create_topics([new])[topic].result(20)
    ready = lambda: [p for p in client.list_topics(topic, timeout=10).topics[topic].partitions.values() if p.leader >= 0]
    until(f"metadata of {topic}", lambda: len(ready()) == partitions)
    with Connection(context) as connection:  # the metadata may be ahead of the partitions themselves
        for partition in range(partitions):
            until(f"partition {partition} of {topic}", lambda: list_offset(connection, topic, -1, partition)[0] == 0)
    return client


def send(client, topic, records, partition=None):
    """Produces (key, value, headers, timestamp) records, each shorter tuple allowed; returns their messages in order."""
    acknowledged = [None] * len(records)
    errors = []
    for index, record in enumerate(records):
        key, value, headers, timestamp = (tuple(record) + (None, None, None, None))[:4]

        def delivered(error, message, index=index):
            if error is not None:
                errors.append(error)
            acknowledged[index] = message

        options = {"key": key, "value": value, "on_delivery": delivered}
        if headers is not None:
            options["headers"] = headers
        if timestamp is not None:
            options["timestamp"] = timestamp
        if partition is not None:
            options["partition"] = partition
        while True:
            try:
                client.produce(topic, **options)
                break
            except BufferError:
                client.poll(0.1)
    left = client.flush(30)
    if errors:
        raise KafkaException(errors[0])
    if left:
        raise AssertionError(f"{left} records were not acknowledged within 30 s")
    return acknowledged


def read(client, count, seconds=30.0):
    """Polls until `count` messages came."""
    messages = []
    deadline = time.monotonic() + seconds
    while len(messages) < count:
        for message in client.consume(min(500, count - len(messages)), timeout=0.2):
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
        if time.monotonic() > deadline:
            raise AssertionError(f"read {len(messages)} of {count} messages in {seconds:g} s")
    return messages


def read_from(context, topic, partition, offset, count, **settings):
    """Reads `count` messages of one partition from an offset, outside any group's assignment."""
    client = consumer(context, "unused", **settings)
    try:
        client.assign([TopicPartition(topic, partition, offset)])
        return read(client, count)
    finally:
        client.close()


def watermarks(client, topic, partition=0):
    return client.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)


__all__ = ["KafkaError", "KafkaException", "NewTopic", "TopicPartition", "admin", "code_of", "consumer", "create",
           "producer", "read", "read_from", "send", "watermarks"]
