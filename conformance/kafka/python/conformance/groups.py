"""Consumer groups as confluent-kafka's consumers and admin client see them."""

import logging
import threading

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, TopicPartition

from .clients import code_of, consumer, create, producer, read, send
from .harness import check, equal, that, unique, until


class Polled:
    """A consumer polled by a thread of its own until it is stopped."""

    def __init__(self, context, group, topics, **settings):
        self.consumer = consumer(context, group, **settings)
        self.assigned = set()
        self.revocations = []
        self.seen = []
        self.error = None
        self.halt = threading.Event()
        incremental = settings.get("partition_assignment_strategy") == "cooperative-sticky"

        def on_assign(_, partitions):
            pairs = {(p.topic, p.partition) for p in partitions}
            self.assigned = self.assigned | pairs if incremental else pairs

        def on_revoke(_, partitions):
            pairs = {(p.topic, p.partition) for p in partitions}
            self.revocations.append(pairs)
            self.assigned = self.assigned - pairs

        self.consumer.subscribe(topics, on_assign=on_assign, on_revoke=on_revoke, on_lost=on_revoke)
        self.thread = threading.Thread(target=self._poll, daemon=True)
        self.thread.start()

    def _poll(self):
        while not self.halt.is_set():
            message = self.consumer.poll(0.1)
            if message is None:
                continue
            if message.error():
                self.error = message.error()
                if self.error.fatal() or self.error.code() in (-150, 82):  # _FATAL, FENCED_INSTANCE_ID
                    return
            else:
                self.seen.append((message.topic(), message.partition(), message.offset()))

    def stop(self):
        self.halt.set()
        self.thread.join(20)
        self.consumer.close()


def counts(members):
    return sorted(len(m.assigned) for m in members)


def complete(members, want):
    union = set().union(*(m.assigned for m in members))
    return union == want and sum(len(m.assigned) for m in members) == len(want)


def assignor(context, strategy):
    group, topics = unique(strategy), [unique(strategy) for _ in range(2)]
    for topic in topics:
        create(context, topic, 3)
    want = {(t, p) for t in topics for p in range(3)}
    members = [Polled(context, group, topics, partition_assignment_strategy=strategy)]
    try:
        until("one member has everything", lambda: complete(members, want))
        members.append(Polled(context, group, topics, partition_assignment_strategy=strategy))
        spread = [2, 4] if strategy == "range" else [3, 3]
        until(f"two members share {spread}", lambda: complete(members, want) and counts(members) == spread)
        if strategy == "cooperative-sticky":
            equal(sorted(len(r) for r in members[0].revocations), [3], "partitions taken from the first member")
        writer = producer(context)
        for topic, partition in sorted(want):
            send(writer, topic, [(None, b"x")] * 5, partition)
        until("everything is read", lambda: len(set(members[0].seen + members[1].seen)) == 30)
        equal(len(members[0].seen + members[1].seen), 30, "records read")
        members.pop().stop()
        until("the one left has everything again", lambda: complete(members, want))
        equal([m.error for m in members], [None], "errors")
    finally:
        for m in members:
            m.stop()


def register(strategy):
    check(f"groups: the {strategy} assignor shares partitions out, a member comes and goes")(lambda context: assignor(context, strategy))


for name in ["range", "roundrobin", "cooperative-sticky"]:
    register(name)


def described(client, group):
    return client.describe_consumer_groups([group])[group].result(20)


@check("groups: a static member restarts and keeps its partitions without a rebalance; its twin is fenced")
def static(context):
    group, topic = unique("static"), unique("static")
    client = create(context, topic, 4)
    want = {(topic, p) for p in range(4)}
    silent = logging.Logger("fenced", logging.CRITICAL + 1)  # librdkafka shouts when it is fenced, which is wanted here
    settings = {"session_timeout_ms": 20_000, "logger": silent}
    one = Polled(context, group, [topic], group_instance_id="one", **settings)
    two = Polled(context, group, [topic], group_instance_id="two", **settings)
    until("both have partitions", lambda: complete([one, two], want) and counts([one, two]) == [2, 2])
    had, rebalances = set(two.assigned), len(one.revocations)
    two.stop()  # a static member closes without leaving
    again = Polled(context, group, [topic], group_instance_id="two", **settings)
    until("the restarted member has its partitions", lambda: again.assigned == had)
    equal(len(one.revocations), rebalances, "rebalances that the other member saw")
    members = described(client, group).members
    equal(sorted(m.group_instance_id for m in members), ["one", "two"], "instance ids in the description")
    twin = Polled(context, group, [topic], group_instance_id="two", **settings)
    until("the older twin is fenced", lambda: again.error)
    that(again.error.code() in (-150, 82) and "fenced" in str(again.error).lower(), f"{again.error}")
    equal(twin.error, None, "error of the newer twin")
    for m in (one, again, twin):
        m.stop()


@check("groups: a dead member's partitions go to the others after the session timeout")
def takeover(context):
    group, topic = unique("takeover"), unique("takeover")
    create(context, topic, 2)
    # a member that stops polling beyond max.poll.interval leaves by itself; one that is gone is noticed by the broker only
    lively = Polled(context, group, [topic])
    stuck = Polled(context, group, [topic], max_poll_interval_ms=6_000)
    until("both have one", lambda: counts([lively, stuck]) == [1, 1])
    stuck.halt.set()
    stuck.thread.join(10)
    until("the lively one has both", lambda: len(lively.assigned) == 2, 30)
    lively.stop()
    stuck.consumer.close()


@check("groups: list and describe while members are there and after they left, delete (68 while not empty)")
def administration(context):
    group, topic = unique("adm"), unique("adm")
    client = create(context, topic, 2)
    send(producer(context), topic, [(None, b"x")] * 3, 0)
    member = Polled(context, group, [topic], client_id="a-client", partition_assignment_strategy="range",
                    enable_auto_commit="true")
    until("it has partitions", lambda: len(member.assigned) == 2)
    until("it has read", lambda: len(member.seen) == 3)

    found = described(client, group)
    equal((found.group_id, found.state, found.is_simple_consumer_group, found.partition_assignor),
          (group, ConsumerGroupState.STABLE, False, "range"), "description")
    equal(len(found.members), 1, "members")
    equal(found.members[0].client_id, "a-client", "client id")
    that(found.members[0].host, "the member's host")
    equal({(p.topic, p.partition) for p in found.members[0].assignment.topic_partitions}, {(topic, 0), (topic, 1)}, "assignment")

    def listing(**options):
        answer = client.list_consumer_groups(**options).result(20)
        equal(answer.errors, [], "errors of the listing")
        return {g.group_id: g for g in answer.valid}

    equal(listing()[group].is_simple_consumer_group, False, "listed")
    that(group in listing(states={ConsumerGroupState.STABLE}), "listed among the stable")
    that(group not in listing(states={ConsumerGroupState.EMPTY}), "not listed among the empty")
    equal(code_of(lambda: client.delete_consumer_groups([group])[group].result(20)), 68, "deleting it with a member")
    member.stop()
    until("it is empty", lambda: described(client, group).state == ConsumerGroupState.EMPTY)
    that(group in listing(states={ConsumerGroupState.EMPTY}), "listed among the empty")
    equal(code_of(lambda: client.delete_consumer_groups([group])[group].result(20)), 0, "deleting it")
    that(group not in listing(), "it is listed no more")
    equal(code_of(lambda: client.delete_consumer_groups([group])[group].result(20)), 69, "deleting an unknown group")
    answer = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(20)
    equal(answer.topic_partitions, [], "offsets of a deleted group")


@check("groups: committed offsets: sync, async, listed and altered by the admin client, kept per group")
def committed(context):
    topic = unique("committed")
    client = create(context, topic, 3)
    writer = producer(context)
    for p in range(3):
        send(writer, topic, [(None, str(n).encode()) for n in range(10)], p)
    groups = [unique("committed") for _ in range(2)]
    for number, group in enumerate(groups):
        reader = consumer(context, group)
        reader.subscribe([topic])
        read(reader, 30)
        reader.commit(offsets=[TopicPartition(topic, 0, 3 + number)], asynchronous=False)
        reader.commit(offsets=[TopicPartition(topic, 1, 7 + number, "why not")], asynchronous=True)
        reader.close()

    def listed(group, partitions=None):
        asked = ConsumerGroupTopicPartitions(group, partitions)
        answer = client.list_consumer_group_offsets([asked])[group].result(20).topic_partitions
        return {(p.partition, p.offset) for p in answer}

    for number, group in enumerate(groups):
        until("both commits", lambda: listed(group) == {(0, 3 + number), (1, 7 + number)})
        equal(listed(group, [TopicPartition(topic, 1)]), {(1, 7 + number)}, "one partition")
        equal(listed(group, [TopicPartition(topic, 2)]), {(2, -1001)}, "a partition without a commit")
    asked = [ConsumerGroupTopicPartitions(groups[0], [TopicPartition(topic, 0, 1)])]
    client.alter_consumer_group_offsets(asked)[groups[0]].result(20)
    equal(listed(groups[0]), {(0, 1), (1, 7)}, "after altering")
    reader = consumer(context, groups[0])
    reader.subscribe([topic])
    first = {}
    for message in read(reader, 9 + 3 + 10):
        first.setdefault(message.partition(), message.offset())
    equal(first, {0: 1, 1: 7, 2: 0}, "where the group goes on")
    refused = client.alter_consumer_group_offsets(asked)[groups[0]].result(20).topic_partitions[0].error
    equal(refused and refused.code(), 25, "altering while the group has members")
    reader.close()


@check("groups: seek, pause, resume, position and offsets of the past")
def moving(context):
    topic = unique("moving")
    create(context, topic)
    send(producer(context), topic, [(None, str(n).encode()) for n in range(50)], 0)
    reader = consumer(context, unique("moving"))
    reader.assign([TopicPartition(topic, 0, 40)])
    equal(read(reader, 1)[0].offset(), 40, "assigned offset")
    reader.seek(TopicPartition(topic, 0, 5))
    equal([m.offset() for m in read(reader, 3)], [5, 6, 7], "after seek")
    equal(reader.position([TopicPartition(topic, 0)])[0].offset, 8, "position")
    reader.pause([TopicPartition(topic, 0)])
    equal(reader.poll(0.5), None, "paused")
    reader.resume([TopicPartition(topic, 0)])
    equal(read(reader, 1)[0].offset(), 8, "resumed")
    reader.close()


@check("groups: automatic commits are where the consumer was when it closed")
def automatic(context):
    topic, group = unique("auto-commit"), unique("auto-commit")
    create(context, topic)
    send(producer(context), topic, [(None, b"x")] * 25, 0)
    reader = consumer(context, group, enable_auto_commit="true")
    reader.subscribe([topic])
    read(reader, 25)
    reader.close()
    other = consumer(context, group)
    equal(other.committed([TopicPartition(topic, 0)], timeout=10)[0].offset, 25, "committed")
    other.close()


@check("groups: a subscription by pattern finds a topic made later")
def pattern(context):
    prefix = unique("pattern")
    create(context, f"{prefix}.a")
    member = Polled(context, unique("pattern"), [f"^{prefix}.*"], topic_metadata_refresh_interval_ms=500)
    until("the first topic", lambda: {t for t, _ in member.assigned} == {f"{prefix}.a"})
    create(context, f"{prefix}.b")
    until("the second topic", lambda: {t for t, _ in member.assigned} == {f"{prefix}.a", f"{prefix}.b"})
    member.stop()
