"""Topics, their configuration, and the cluster, through the admin client."""

from confluent_kafka.admin import (AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewPartitions, ResourceType)
from confluent_kafka import ConsumerGroupTopicPartitions, TopicCollection

from .clients import NewTopic, admin, code_of, consumer, create, producer, read, read_from, send, watermarks
from .harness import check, equal, that, unique, until


def creation(context, topic, partitions=1, replicas=1, config=None, **options):
    client = admin(context)  # it must outlive the future
    new = NewTopic(topic, partitions, replicas, config=config or {})
    return code_of(lambda: client.create_topics([new], **options)[topic].result(20))


def configuration(client, topic):
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return client.describe_configs([resource])[resource].result(20)


def incremental(client, topic, *changes, **options):
    entries = [ConfigEntry(name, value, incremental_operation=operation) for name, value, operation in changes]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    return code_of(lambda: client.incremental_alter_configs([resource], **options)[resource].result(20))


SET, DELETE, APPEND = AlterConfigOpType.SET, AlterConfigOpType.DELETE, AlterConfigOpType.APPEND


@check("admin: create, list, describe and delete a topic")
def life_of_a_topic(context):
    topic = unique("life")
    client = create(context, topic, 3)
    that(topic in client.list_topics(timeout=10).topics, "the topic is listed")
    described = client.describe_topics(TopicCollection([topic]))[topic].result(20)
    equal([p.id for p in described.partitions], [0, 1, 2], "partitions")
    that(all(p.leader is not None and len(p.replicas) == 1 and len(p.isr) == 1 for p in described.partitions), "leaders and replicas")
    that(not described.is_internal, "not internal")
    equal(code_of(lambda: client.delete_topics([topic])[topic].result(20)), 0, "deletion")
    until("the topic is gone from the list", lambda: topic not in client.list_topics(timeout=10).topics)


@check("admin: a topic made again under the same name has another id and is empty")
def made_again(context):
    topic = unique("again")
    client = create(context, topic)
    first = client.describe_topics(TopicCollection([topic]))[topic].result(20).topic_id
    send(producer(context), topic, [(None, b"old")] * 3, 0)
    client.delete_topics([topic])[topic].result(20)
    until("the topic is gone", lambda: topic not in client.list_topics(timeout=10).topics)
    until("the name is free", lambda: creation(context, topic) == 0)
    second = until("the new topic", lambda: client.describe_topics(TopicCollection([topic]))[topic].result(20)).topic_id
    that(str(first) != str(second), "the new topic has a new id")
    reader = consumer(context, "unused")
    until("the new topic is empty", lambda: watermarks(reader, topic) == (0, 0))
    reader.close()
    send(producer(context), topic, [(None, b"new")], 0)
    equal([m.value() for m in read_from(context, topic, 0, 0, 1)], [b"new"], "records of the new topic")


@check("admin: creating an existing topic gets 36")
def existing(context):
    topic = unique("existing")
    create(context, topic)
    equal(creation(context, topic), 36, "code")


@check("admin: invalid topic names get 17")
def names(context):
    for name in ["", ".", "..", "with space", "slash/ed", "ümlaut", "x" * 250, "semi;colon"]:
        equal(creation(context, name), 17, f"code for {name!r}")
    longest = unique("n") + "." + "y" * 200
    longest = (longest + "_-" + "z" * 249)[:249]
    equal(creation(context, longest), 0, "code for a name of 249 characters")


@check("admin: deleting an unknown topic gets 3")
def delete_unknown(context):
    topic = unique("unknown")
    client = admin(context)
    equal(code_of(lambda: client.delete_topics([topic])[topic].result(20)), 3, "code")


@check("admin: zero partitions get 37, three replicas get 38, one works, validate only creates nothing")
def creation_limits(context):
    equal(creation(context, unique("zero"), 0), 37, "code for zero partitions")
    equal(creation(context, unique("replicas"), 1, 3), 38, "code for three replicas")
    topic = unique("validated")
    equal(creation(context, topic, 2, 1, validate_only=True), 0, "code for validate only")
    that(topic not in admin(context).list_topics(timeout=10).topics, "validate only created a topic")
    equal(creation(context, topic, 2, 1), 0, "code for one replica")
    equal(creation(context, topic, 2, 1, validate_only=True), 36, "code for validate only on an existing topic")


@check("admin: partitions and replicas of -1 take the broker's defaults")
def defaults(context):
    topic = unique("defaults")
    equal(creation(context, topic, -1, -1), 0, "code")
    client = admin(context)
    until("the topic", lambda: topic in client.list_topics(timeout=10).topics
          and len(client.list_topics(timeout=10).topics[topic].partitions) >= 1)


@check("admin: partitions are added, and cannot become fewer (37) or of an unknown topic (3)")
def partitions(context):
    topic = unique("grow")
    client = create(context, topic, 2)
    send(producer(context), topic, [(None, b"before")], 1)
    more = lambda name, count: code_of(lambda: client.create_partitions([NewPartitions(name, count)])[name].result(20))
    equal(more(topic, 5), 0, "code for five")
    until("five partitions", lambda: len(client.list_topics(topic, timeout=10).topics[topic].partitions) == 5)
    equal(more(topic, 3), 37, "code for fewer")
    equal(more(topic, 5), 37, "code for as many")
    equal(more(unique("unknown"), 3), 3, "code for an unknown topic")
    writer = producer(context)
    until("the new partition takes records", lambda: 4 in writer.list_topics(topic, timeout=10).topics[topic].partitions)
    send(writer, topic, [(None, b"after")], 4)
    equal([m.value() for p in (1, 4) for m in read_from(context, topic, p, 0, 1)], [b"before", b"after"], "records")


@check("admin: producing to an unknown topic creates it")
def automatic(context):
    topic = unique("automatic")
    send(producer(context), topic, [(None, b"made")])
    reader = consumer(context, unique("automatic"))
    reader.subscribe([topic])
    equal([m.value() for m in read(reader, 1)], [b"made"], "value")
    reader.close()


@check("admin: asking for an unknown topic does not create it when not allowed (3)")
def not_automatic(context):
    topic = unique("absent")
    reader = consumer(context, unique("absent"), allow_auto_create_topics="false")
    reader.subscribe([topic])
    message = until("an answer", lambda: reader.poll(0.2), 20)
    equal(message.error() and message.error().code(), 3, "code")
    that(topic not in admin(context).list_topics(timeout=10).topics, "the topic was created")
    reader.close()


@check("admin: topic configuration is described with its sources")
def describe_configs(context):
    topic = unique("described")
    client = create(context, topic, 1, retention_ms=123456, max_message_bytes=65536)
    entries = configuration(client, topic)
    for name in ["cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "segment.bytes",
                 "message.timestamp.type", "compression.type"]:
        that(name in entries, f"{name} is described")
    equal(entries["retention.ms"].value, "123456", "retention.ms")
    equal(entries["max.message.bytes"].value, "65536", "max.message.bytes")
    equal(entries["cleanup.policy"].value, "delete", "cleanup.policy")
    equal(entries["retention.bytes"].value, "-1", "retention.bytes")
    equal(int(entries["retention.ms"].source), ConfigSource.DYNAMIC_TOPIC_CONFIG.value, "source of what was set")
    equal(entries["retention.ms"].is_default, False, "what was set is not a default")
    equal(entries["retention.bytes"].is_default, True, "what was not set is a default")
    equal(code_of(lambda: configuration(client, unique("unknown"))), 3, "code for an unknown topic")


@check("admin: configuration of a topic is altered by steps: set, delete, validate only")
def incremental_alter(context):
    topic = unique("altered")
    client = create(context, topic, 1, retention_bytes=5_000_000)
    value = lambda name: configuration(client, topic)[name].value
    equal(incremental(client, topic, ("retention.ms", "98765", SET)), 0, "code for set")
    until("retention.ms is set", lambda: value("retention.ms") == "98765")
    equal(value("retention.bytes"), "5000000", "the other setting stays")
    equal(incremental(client, topic, ("retention.ms", "1", SET), validate_only=True), 0, "code for validate only")
    equal(value("retention.ms"), "98765", "after validate only")
    equal(incremental(client, topic, ("retention.ms", None, DELETE)), 0, "code for delete")
    until("retention.ms is the default again", lambda: configuration(client, topic)["retention.ms"].is_default)
    equal(value("retention.bytes"), "5000000", "the other setting still stays")
    equal(incremental(client, unique("unknown"), ("retention.ms", "1", SET)), 3, "code for an unknown topic")


@check("admin: unknown and invalid configuration gets 40 and changes nothing")
def bad_configs(context):
    topic = unique("bad-config")
    client = create(context, topic)
    for name, value in [("no.such.setting", "1"), ("retention.ms", "soon"), ("max.message.bytes", "-5"),
                        ("cleanup.policy", "shred")]:
        equal(incremental(client, topic, (name, value, SET)), 40, f"code for {name}={value}")
        equal(creation(context, unique("bad-config"), config={name: value}), 40, f"code for creation with {name}={value}")
    equal(incremental(client, topic, ("retention.ms", "5000", SET), ("no.such.setting", "1", SET)), 40, "code for one of two")
    that(configuration(client, topic)["retention.ms"].is_default, "half of a refused change was kept")


@check("admin: a record larger than max.message.bytes gets 10, one below it is stored")
def too_large(context):
    topic = unique("large")
    client = create(context, topic, 1, max_message_bytes=20_000)
    writer = producer(context, message_max_bytes=5_000_000)
    equal(code_of(lambda: send(writer, topic, [(None, b"x" * 30_000)], 0)), 10, "code")
    send(writer, topic, [(None, b"y" * 15_000)], 0)
    equal(incremental(client, topic, ("max.message.bytes", "50000", SET)), 0, "code for raising it")

    def accepted():
        return code_of(lambda: send(writer, topic, [(None, b"x" * 30_000)], 0)) == 0

    until("the raised limit is in force", accepted)
    got = read_from(context, topic, 0, 0, 2)
    equal([len(m.value()) for m in got], [15_000, 30_000], "sizes stored")


@check("admin: the cluster is described")
def cluster(context):
    client = admin(context)
    described = client.describe_cluster().result(20)
    equal(len(described.nodes), 1, "nodes")
    that(described.cluster_id, "the cluster has an id")
    that(described.controller is not None, "there is a controller")
    equal(f"{described.nodes[0].host}:{described.nodes[0].port}", context.bootstrap, "advertised address")
    equal(client.list_topics(timeout=10).cluster_id, described.cluster_id, "cluster id in metadata")


@check("admin: deleting a topic removes the offsets that groups committed on it")
def offsets_go(context):
    topic, group = unique("gone"), unique("gone")
    client = create(context, topic)
    send(producer(context), topic, [(None, b"1")] * 4, 0)
    reader = consumer(context, group)
    reader.subscribe([topic])
    read(reader, 4)
    reader.commit(asynchronous=False)
    reader.close()
    listed = lambda: client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(20).topic_partitions
    equal([(p.topic, p.offset) for p in listed()], [(topic, 4)], "committed offsets")
    client.delete_topics([topic])[topic].result(20)
    until("the offsets are gone", lambda: not listed())


