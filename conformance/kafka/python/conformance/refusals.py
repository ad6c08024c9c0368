"""What is not there is refused in words that clients understand: transactions, compaction, broker-made timestamps."""

import time

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from .clients import NewTopic, admin, code_of, consumer, create, read_from, watermarks
from .harness import check, equal, that, unique
from .records import batch
from .requests import init_producer_id, produce
from .wire import Connection

TRANSACTIONAL = 0x10
CONTROL = 0x20


@check("refusals: init_transactions ends with a clear error and does not hang", peer="millstream")
def transactions(context):
    client = Producer({"bootstrap.servers": context.bootstrap, "transactional.id": unique("tx"), "log_level": 0})
    began = time.monotonic()
    try:
        client.init_transactions(20)
    except KafkaException as error:
        that(error.args[0].code() not in (-185, -192), f"it timed out: {error}")  # _TIMED_OUT, _MSG_TIMED_OUT
        that(time.monotonic() - began < 15, "it took as long as a hang")
        return
    raise AssertionError("init_transactions ended well")


@check("refusals: InitProducerId with a transactional id is refused", peer="millstream")
def transactional_id(context):
    with Connection(context) as c:
        for version in range(5):
            error, producer, _ = init_producer_id(c, version, transactional_id=unique("tx"))
            that(error > 0 and error not in (14, 15, 16), f"error {error}, version {version}: no client may try again")
            equal(producer, -1, f"no identity, version {version}")


@check("refusals: transactional and control batches are refused, and nothing of them is stored")
def transactional_batches(context):
    topic = unique("tx")
    create(context, topic)
    with Connection(context) as c:
        _, who, epoch = init_producer_id(c)
        error, _ = produce(c, topic, batch([b"x"], who, epoch, 0, attributes=TRANSACTIONAL), transactional_id=unique("tx"))
        that(error != 0, "a transactional batch with a transactional id was taken")
        error, _ = produce(c, topic, batch([b"x"], who, epoch, 0, attributes=TRANSACTIONAL | CONTROL))
        that(error != 0, "a control batch was taken")
        equal(produce(c, topic, batch([b"plain"], who, epoch, 0)), (0, 0), "a plain batch of the same producer")
    reader = consumer(context, "unused")
    equal(watermarks(reader, topic), (0, 1), "watermarks")
    reader.close()
    equal([m.value() for m in read_from(context, topic, 0, 0, 1)], [b"plain"], "records")


@check("refusals: compaction and broker-made timestamps get 40, at creation and later", peer="millstream")
def configurations(context):
    client = admin(context)
    plain = unique("plain")
    create(context, plain)
    for name, value in [("cleanup.policy", "compact"), ("cleanup.policy", "compact,delete"), ("message.timestamp.type", "LogAppendTime")]:
        topic = unique("refused")
        new = NewTopic(topic, 1, 1, config={name: value})
        equal(code_of(lambda: client.create_topics([new])[topic].result(20)), 40, f"creation with {name}={value}")
        that(topic not in client.list_topics(timeout=10).topics, "it was created")
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, plain, incremental_configs=[entry])
        equal(code_of(lambda: client.incremental_alter_configs([resource])[resource].result(20)), 40, f"{name}={value} later")
