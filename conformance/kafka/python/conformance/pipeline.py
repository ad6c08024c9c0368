"""The event pipeline of a shop: one idempotent producer, a fulfilment group and an independent analytics group."""

import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from .clients import create
from .harness import check, equal, that, unique

CUSTOMERS = 40
ORDERS_FIRST = 1_200
ORDERS_SECOND = 1_200
ORDERS_THIRD = 600
PARTITIONS = 6
# What a member's commit may meet while another comes or goes: what it read then is given to somebody again.
REBALANCING = (KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.UNKNOWN_MEMBER_ID)


def make_producer(context):
    return Producer({
        'bootstrap.servers': context.bootstrap,
        'acks': 'all',
        'enable.idempotence': True,
        'max.in.flight.requests.per.connection': 5,
        'compression.type': 'lz4',
    })


def publish(producer, topic, first, count):
    """Publishes `count` orders; every customer's orders carry their place in that customer's own order."""
    errors = []
    for number in range(first, first + count):
        producer.produce(
            topic=topic,
            key=str(number % CUSTOMERS),
            value=json.dumps({'event': 'order.placed', 'order_id': number, 'items': ['book'] * (number % 4), 'total': number}),
            on_delivery=lambda error, message: errors.append(error) if error else None,
        )
        producer.poll(0)
    equal(producer.flush(30), 0, "orders not acknowledged")
    equal(errors, [], "delivery errors")


def fulfilment_settings(bootstrap, group):
    return {
        'bootstrap.servers': bootstrap,
        'group.id': group,
        'auto.offset.reset': 'earliest',
        'enable.auto.commit': False,
        'partition.assignment.strategy': 'cooperative-sticky',
    }


def commit(consumer, message):
    """Commits as far as `message`, unless the group is being shared out anew."""
    try:
        consumer.commit(message, asynchronous=False)
    except KafkaException as refused:
        if refused.args[0].code() not in REBALANCING:
            raise


class Fulfilment(threading.Thread):
    """One member of the fulfilment group: reads, remembers, commits after each message."""

    def __init__(self, context, topic, group):
        super().__init__(daemon=True)
        self.consumer = Consumer(fulfilment_settings(context.bootstrap, group))
        self.topic = topic
        self.seen = []
        self.assigned = set()
        self.lost = 0
        self.halt = threading.Event()
        self.error = None

    def run(self):
        def on_assign(_, partitions):
            self.assigned |= {p.partition for p in partitions}

        def on_revoke(_, partitions):
            self.assigned -= {p.partition for p in partitions}

        try:
            self.consumer.subscribe([self.topic], on_assign=on_assign, on_revoke=on_revoke)
            while not self.halt.is_set():
                message = self.consumer.poll(timeout=0.2)
                if message is None:
                    continue
                if message.error():
                    raise AssertionError(str(message.error()))
                order = (message.partition(), message.offset(), message.key(), json.loads(message.value())['order_id'])
                if order not in self.seen:
                    self.seen.append(order)
                commit(self.consumer, message)
            self.consumer.close()
        except Exception as error:
            self.error = error


def wait(what, condition, members, third=None, seconds=40):
    deadline = time.monotonic() + seconds
    while not condition():
        for member in members:
            if member.error:
                raise AssertionError(f"{what}: a consumer stopped: {member.error}")
        if third is not None and third.poll() is not None:
            raise AssertionError(f"{what}: the third member stopped")
        that(time.monotonic() < deadline, f"not within {seconds} s: {what}; assigned {[sorted(m.assigned) for m in members]}")
        time.sleep(0.05)  # tidy: pacing


def per_key_order(seen):
    """Every key is on one partition and its orders came in the order they were placed."""
    by_key = collections.defaultdict(list)
    partitions = collections.defaultdict(set)
    for partition, offset, key, order in seen:
        by_key[key].append((offset, order))
        partitions[key].add(partition)
    for key, orders in by_key.items():
        equal(len(partitions[key]), 1, f"partitions of key {key}")
        equal([o for _, o in sorted(orders)], sorted(o for _, o in orders), f"orders of key {key} by offset")


@check("pipeline: idempotent lz4 producer, two independent groups, a member joins and dies")
def pipeline(context):
    topic, fulfilment, analytics = unique("orders"), unique("fulfillment-service"), unique("analytics-pipeline")
    create(context, topic, PARTITIONS)
    producer = make_producer(context)
    publish(producer, topic, 0, ORDERS_FIRST)

    members = [Fulfilment(context, topic, fulfilment) for _ in range(2)]
    for member in members:
        member.start()
    everything = set(range(PARTITIONS))
    shared = lambda: (all(m.assigned for m in members) and members[0].assigned | members[1].assigned == everything
                      and not members[0].assigned & members[1].assigned)
    wait("two members share the partitions", shared, members)
    orders_seen = lambda: {order for m in members for _, _, _, order in m.seen}
    wait("the first orders are read", lambda: len(orders_seen()) == ORDERS_FIRST, members)
    for member in members:
        offsets = collections.defaultdict(list)
        for partition, offset, _, _ in member.seen:
            offsets[partition].append(offset)
        for partition, got in offsets.items():
            equal(got, sorted(got), f"order in partition {partition} for one member")
    per_key_order({entry for m in members for entry in m.seen})

    # A third member, a process of its own, takes partitions over, reads some, and is killed without a word.
    third = subprocess.Popen(
        [sys.executable, "-m", "conformance.third_member", context.bootstrap, fulfilment, topic],
        cwd=pathlib.Path(__file__).resolve().parents[1], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE, text=True)
    third_lines = []
    reader = threading.Thread(target=lambda: third_lines.extend(iter(third.stdout.readline, "")), daemon=True)
    reader.start()
    try:
        wait("the third member is given partitions",
             lambda: sum(len(m.assigned) for m in members) < PARTITIONS and any(l.startswith("assigned") for l in list(third_lines)),
             members, third)
        publish(producer, topic, ORDERS_FIRST, ORDERS_SECOND)
        wait("the third member reads", lambda: sum(l.startswith("read") for l in list(third_lines)) >= 20, members, third)
    finally:
        os.kill(third.pid, signal.SIGKILL)
        third.wait()
    reader.join(5)
    wait("the partitions of the dead member are taken over", shared, members)
    by_third = set()
    for line in third_lines:
        words = line.split()
        if len(words) == 5 and words[0] == "read":
            by_third.add((int(words[1]), int(words[2]), words[3].encode(), int(words[4])))
    that(by_third, "the third member read nothing")
    publish(producer, topic, ORDERS_FIRST + ORDERS_SECOND, ORDERS_THIRD)
    total = ORDERS_FIRST + ORDERS_SECOND + ORDERS_THIRD
    third_orders = {order for _, _, _, order in by_third}
    wait("nothing is lost", lambda: len(orders_seen() | third_orders) == total, members)
    per_key_order({entry for m in members for entry in m.seen} | by_third)
    for member in members:
        member.halt.set()
    for member in members:
        member.join(20)
        that(not member.is_alive(), "a member did not close")

    # The analytics group knows nothing of all that and reads everything by itself.
    analytics_consumer = Consumer({'bootstrap.servers': context.bootstrap, 'group.id': analytics, 'auto.offset.reset': 'earliest'})
    analytics_consumer.subscribe([topic])
    seen, deadline = [], time.monotonic() + 40
    while len(seen) < total and time.monotonic() < deadline:
        for message in analytics_consumer.consume(500, timeout=0.5):
            that(not message.error(), f"analytics: {message.error()}")
            seen.append((message.partition(), message.offset(), message.key(), json.loads(message.value())['order_id']))
    equal(sorted(order for _, _, _, order in seen), list(range(total)), "orders that analytics read")
    per_key_order(seen)
    ends = [analytics_consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(PARTITIONS)]
    equal(sum(ends), total, "records in the topic (no duplicates written)")
    analytics_consumer.close()

    # Committed offsets are where they were left, and a new member starts there.
    late = Consumer(fulfilment_settings(context.bootstrap, fulfilment))
    committed = late.committed([TopicPartition(topic, p) for p in range(PARTITIONS)], timeout=10)
    equal([c.offset for c in committed], ends, "committed offsets of the fulfilment group")
    late.subscribe([topic])
    publish(producer, topic, total, 1)
    message, deadline = None, time.monotonic() + 30
    while message is None and time.monotonic() < deadline:
        message = late.poll(0.5)
    that(message is not None and not message.error(), "a member that comes back reads the new order")
    equal(json.loads(message.value())['order_id'], total, "the first order that a returning member reads")
    late.close()
