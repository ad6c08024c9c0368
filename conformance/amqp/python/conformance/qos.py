"""Prefetch and fairness."""

import pika

from .harness import check, deliveries, equal, quiet, that, unique


def consumer(channel, queue, received, **more):
    return channel.basic_consume(queue, lambda ch, method, properties, body: received.append((method, body)), **more)


def filled(channel, n, **more):
    queue = unique("qos")
    channel.queue_declare(queue, **more)
    for i in range(n):
        channel.basic_publish("", queue, b"%d" % i)
    return queue


@check("a consumer has as many messages as its prefetch, and one more for each that it settles")
def prefetch(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = filled(channel, 10)
        got = []
        channel.basic_qos(prefetch_count=3)
        consumer(channel, queue, got)
        deliveries(connection, got, 3)
        quiet(connection, got, 3)
        channel.basic_ack(got[0][0].delivery_tag)
        deliveries(connection, got, 4)
        quiet(connection, got, 4)
        channel.basic_ack(got[3][0].delivery_tag, multiple=True)
        deliveries(connection, got, 7)
        quiet(connection, got, 7)
        equal([body for _, body in got], [b"%d" % n for n in range(7)])
        channel.queue_delete(queue)


@check("each consumer has a prefetch of its own; a global one is the channel's")
def shared(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = filled(channel, 20)
        first, second = [], []
        channel.basic_qos(prefetch_count=4)
        consumer(channel, queue, first)
        channel.basic_qos(prefetch_count=2)
        consumer(channel, queue, second)
        deliveries(connection, first, 4)
        deliveries(connection, second, 2)
        quiet(connection, first, 4)
        equal(len(second), 2)
        channel.close()
        channel = connection.channel()
        got = []
        channel.basic_qos(prefetch_count=3, global_qos=True)
        consumer(channel, queue, got)
        consumer(channel, queue, got)
        deliveries(connection, got, 3)
        quiet(connection, got, 3)
        channel.queue_delete(queue)


@check("a channel's prefetch is shared in turns, by its queues and by the consumers of one")
def in_turns(context):
    with context.connect() as connection:
        channel = connection.channel()
        queues = [filled(channel, 20) for _ in range(3)]
        channel.basic_qos(prefetch_count=1, global_qos=True)
        got = []
        for queue in [*queues, queues[0]]:
            channel.basic_consume(queue, lambda ch, method, properties, body: got.append((method.delivery_tag, method.consumer_tag)))
        for n in range(40):
            deliveries(connection, got, n + 1)
            channel.basic_ack(got[n][0])
        by_consumer = {tag: sum(1 for _, of in got[:40] if of == tag) for _, tag in got}
        that(len(by_consumer) == 4 and min(by_consumer.values()) >= 3, f"{by_consumer}")
        for queue in queues:
            channel.queue_delete(queue)


@check("without a prefetch everything comes, and without acknowledgement nothing is kept")
def unlimited(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = filled(channel, 500)
        got = []
        consumer(channel, queue, got, auto_ack=True)
        deliveries(connection, got, 500)
        equal([body for _, body in got], [b"%d" % n for n in range(500)])
        channel.close()
        channel = connection.channel()
        equal(channel.queue_declare(queue, passive=True).method.message_count, 0)
        channel.queue_delete(queue)


@check("without acknowledgement a long queue comes whole")
def long_queue(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = unique("long")
        channel.queue_declare(queue, durable=True)
        channel.tx_select()
        for n in range(10_000):
            channel.basic_publish("", queue, b"%d " % n + b"x" * (n % 300), pika.BasicProperties(delivery_mode=2))
            if n % 10 == 9:
                channel.tx_commit()
        got = []
        consumer(channel, queue, got, auto_ack=True)
        deliveries(connection, got, 10_000)
        equal([int(body.split()[0]) for _, body in got], list(range(10_000)))
        channel.queue_delete(queue)


@check("two consumers share a queue fairly")
def fair(context):
    with context.connect() as connection, context.connect() as other:
        channel, theirs = connection.channel(), other.channel()
        queue = unique("fair")
        channel.queue_declare(queue)
        mine, yours = [], []
        for ch, got in [(channel, mine), (theirs, yours)]:
            ch.basic_qos(prefetch_count=100)
            consumer(ch, queue, got)
        for n in range(100):
            channel.basic_publish("", queue, b"%d" % n)
        def both():
            connection.process_data_events(time_limit=0.02)
            other.process_data_events(time_limit=0.02)
            return len(mine) + len(yours)
        for _ in range(200):
            if both() == 100:
                break
        equal(len(mine) + len(yours), 100)
        that(abs(len(mine) - len(yours)) <= 2, f"{len(mine)} and {len(yours)}")
        channel.queue_delete(queue)


@check("a prefetch in bytes is not served")
def bytes_not_served(context):
    from .harness import refused
    with context.connect() as connection:
        channel = connection.channel()
        refused(540, "NOT_IMPLEMENTED - prefetch_size!=0", lambda: channel.basic_qos(prefetch_size=10))
