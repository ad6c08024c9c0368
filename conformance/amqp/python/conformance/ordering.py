"""Queues that go by keys: arguments of ours, and what they do. RabbitMQ has nothing like them."""

import pika

from .harness import bodies, check, count, deliveries, equal, quiet, refused, take, unique, until

KEYED = {"x-ordering": "key"}


def publish(channel, queue, key, body, **properties):
    headers = {} if key is None else {"x-partition-key": key}
    channel.basic_publish("", queue, body, pika.BasicProperties(headers=headers, **properties))


class Taker:
    """A consumer on a channel of its own."""

    def __init__(self, connection, queue, prefetch):
        self.channel, self.got = connection.channel(), []
        self.channel.basic_qos(prefetch_count=prefetch)
        self.channel.basic_consume(queue, lambda _, method, properties, body: self.got.append((method, body)))

    def bodies(self):
        return [body for _, body in self.got]

    def ack(self, n):
        self.channel.basic_ack(self.got[n][0].delivery_tag)


@check("of a key one consumer at a time has messages, in their order, and other keys flow past", peer="millstream")
def one_holder(context):
    queue = unique("keyed")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, arguments=KEYED)
        first, second = Taker(connection, queue, 2), Taker(connection, queue, 10)
        for key, body in [("a", b"a1"), ("a", b"a2"), ("a", b"a3"), ("b", b"b1"), ("b", b"b2"), (None, b"none")]:
            publish(channel, queue, key, body)
        takers = [first, second]
        first_of_each = {b"a1", b"b1", b"none"}
        until("the first of each key is out", lambda: connection.process_data_events(0.02) or first_of_each <= {*first.bodies(), *second.bodies()})
        quiet(connection, first.got + second.got, sum(len(t.got) for t in takers), 0.2)
        # Whoever has a key has all that is out of it, in its order.
        for key in [b"a", b"b"]:
            having = [[body for body in t.bodies() if body.startswith(key)] for t in takers]
            equal(sum(1 for had in having if had), 1, f"holders of {key}: {having}")
            had = sum(having, [])
            equal(had, sorted(had), "order")
        # What is left of a key waits until its holder has done with all that it has.
        done = set()
        while len(done) < 6:
            for taker in takers:
                for n, (_, body) in enumerate(taker.got):
                    if body not in done:
                        taker.ack(n)
                        done.add(body)
            connection.process_data_events(0.02)
        for taker in takers:
            for key in [b"a", b"b"]:
                had = [body for body in taker.bodies() if body.startswith(key)]
                equal(had, sorted(had), "order")
        until("all are acknowledged", lambda: count(channel, queue) == 0)
        channel.queue_delete(queue)


@check("a message that is given back goes out again before what follows of its key", peer="millstream")
def given_back(context):
    queue = unique("keyed")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, arguments=KEYED)
        for body in [b"1", b"2", b"3"]:
            publish(channel, queue, "a", body)
        publish(channel, queue, "b", b"other")
        method, _, body = take(channel, queue)
        equal(body, b"1")
        # The key is closed: what is next is another's.
        other, _, body = take(channel, queue)
        equal(body, b"other")
        equal(channel.basic_get(queue)[0], None)
        channel.basic_nack(method.delivery_tag, requeue=True)
        for want in [b"1", b"2", b"3"]:
            method, _, body = take(channel, queue)
            equal(body, want)
            channel.basic_ack(method.delivery_tag)
        channel.basic_ack(other.delivery_tag)
        channel.queue_delete(queue)


@check("a key whose message has used up its attempts is closed where such messages are parked, and others flow", peer="millstream", admin=True)
def parked(context):
    queue = unique("keyed")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, arguments={**KEYED, "x-delivery-limit": 1, "x-on-exhausted": "park"})
        for key, body in [("a", b"a1"), ("a", b"a2"), ("b", b"b1")]:
            publish(channel, queue, key, body)
        for _ in range(2):
            method, _, body = take(channel, queue)
            equal(body, b"a1")
            channel.basic_nack(method.delivery_tag, requeue=True)
        equal(bodies(channel, queue, 1), [b"b1"])
        equal(channel.basic_get(queue)[0], None)
        context.command("queue", "unpark", queue)
        equal(bodies(channel, queue, 2), [b"a1", b"a2"])
        # One that is taken away for good opens its key as well.
        publish(channel, queue, "a", b"a3")
        publish(channel, queue, "a", b"a4")
        for _ in range(2):
            method, _, body = take(channel, queue)
            equal(body, b"a3")
            channel.basic_nack(method.delivery_tag, requeue=True)
        equal(channel.basic_get(queue)[0], None)
        context.command("queue", "unpark", queue, "--discard")
        equal(bodies(channel, queue, 1), [b"a4"])
        channel.queue_delete(queue)


@check("a key whose message has used up its attempts flows on where such messages are dead-lettered", peer="millstream")
def dead_lettered(context):
    queue, dead = unique("keyed"), unique("dead")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(dead)
        channel.queue_declare(queue, arguments={**KEYED, "x-delivery-limit": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
        for body in [b"1", b"2"]:
            publish(channel, queue, "a", body)
        method, _, _ = take(channel, queue)
        channel.basic_nack(method.delivery_tag, requeue=True)
        method, properties, body = take(channel, dead)
        equal((body, properties.headers["x-death"][0]["reason"]), (b"1", "delivery_limit"))
        equal(properties.headers["x-partition-key"], "a")
        equal(bodies(channel, queue, 1), [b"2"])
        channel.queue_delete(queue)
        channel.queue_delete(dead)


@check("the key is taken from the routing key, the correlation id or a header where a queue says so", peer="millstream")
def key_from(context):
    for source in ["routing-key", "correlation-id", "header:customer"]:
        queue, exchange = unique("keyed"), unique("exchange")
        with context.connect() as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.exchange_declare(exchange, "topic")
            channel.queue_declare(queue, arguments={**KEYED, "x-key-from": source})
            plain = unique("plain")
            channel.queue_declare(plain)
            for name in [queue, plain]:
                channel.queue_bind(name, exchange, "#")
            for key, body in [("a", b"a1"), ("a", b"a2"), ("b", b"b1")]:
                properties = pika.BasicProperties(correlation_id=key if source == "correlation-id" else None,
                                                  headers={"customer": key} if source == "header:customer" else None)
                channel.basic_publish(exchange, key if source == "routing-key" else "k", body, properties)
            tags = [take(channel, queue) for _ in range(2)]
            equal([body for _, _, body in tags], [b"a1", b"b1"], source)
            equal(channel.basic_get(queue)[0], None, source)
            for method, _, _ in tags:
                channel.basic_ack(method.delivery_tag)
            equal(bodies(channel, queue, 1), [b"a2"], source)
            # The same messages in a queue that has no order.
            equal(bodies(channel, plain, 3), [b"a1", b"a2", b"b1"], source)
            # A key of its own counts before.
            equal(count(channel, queue), 0)
            for body in [b"1", b"2"]:
                channel.basic_publish(exchange, body.decode(), body, pika.BasicProperties(
                    correlation_id=body.decode(), headers={"x-partition-key": "same", "customer": body.decode()}))
            method, _, body = take(channel, queue)
            equal((body, channel.basic_get(queue)[0]), (b"1", None), source)
            for name in [queue, plain]:
                channel.queue_delete(name)
            channel.exchange_delete(exchange)


@check("in a fair queue a key with many messages out stands back while others have something", peer="millstream")
def fair(context):
    queue = unique("fair")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, arguments={"x-ordering": "fair"})
        for n in range(20):
            publish(channel, queue, "busy", b"busy %d" % n)
        for n in range(3):
            publish(channel, queue, "quiet", b"quiet %d" % n)
        taker = Taker(connection, queue, 14)
        deliveries(connection, taker.got, 14)
        equal([b for b in taker.bodies() if b.startswith(b"quiet")], [b"quiet 0", b"quiet 1", b"quiet 2"])
        channel.queue_delete(queue)


@check("what a queue is ordered by is compared, and what cannot be is refused", peer="millstream")
def arguments(context):
    queue = unique("keyed")
    all_of_them = {"x-ordering": "key", "x-key-from": "routing-key", "x-on-exhausted": "park", "x-delivery-limit": 3}
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, arguments=all_of_them)
        channel.queue_declare(queue, arguments=all_of_them)
        for name, other in [("x-ordering", "fair"), ("x-key-from", "correlation-id"), ("x-on-exhausted", "drop")]:
            text = f"PRECONDITION_FAILED - inequivalent arg '{name}' for queue '{queue}' in vhost '/': received '{other}' but current is '{all_of_them[name]}'"
            refused(406, text, lambda: connection.channel().queue_declare(queue, arguments={**all_of_them, name: other}))
        for wrong in [{"x-ordering": "fifo"}, {"x-ordering": 1}, {"x-key-from": "routing-key"}, {**KEYED, "x-key-from": "value"},
                      {"x-on-exhausted": "park"}, {"x-on-exhausted": "wait", "x-delivery-limit": 1}]:
            refused(406, "PRECONDITION_FAILED - invalid arg 'x-", lambda: connection.channel().queue_declare(unique("q"), arguments=wrong))
        channel.queue_delete(queue)
