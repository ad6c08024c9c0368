"""Dead letters: why, from where, how often; cycles; what goes along."""

import pika

from .harness import check, count, equal, refused, take, that, unique, until


def pair(channel, key=None, **arguments):
    """A queue and the queue of its dead."""
    queue, dead = unique("work"), unique("dead")
    channel.queue_declare(dead)
    channel.queue_declare(queue, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": key or dead, **arguments})
    return queue, dead


def death(properties, n=0):
    return properties.headers["x-death"][n]


@check("an expired message says so, and its expiration is taken off")
def expired(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue, dead = pair(channel)
        channel.basic_publish("", queue, b"x", pika.BasicProperties(expiration="20", message_id="m", headers={"mine": 1}))
        _, properties, body = take(channel, dead)
        equal((body, properties.message_id, properties.expiration, properties.headers["mine"]), (b"x", "m", None, 1))
        entry = death(properties)
        equal((entry["reason"], entry["queue"], entry["count"], entry["exchange"], entry["routing-keys"], entry["original-expiration"]),
              ("expired", queue, 1, "", [queue], "20"))
        that("time" in entry, "the time of its death")
        equal([properties.headers[f"x-first-death-{what}"] for what in ["reason", "queue", "exchange"]], ["expired", queue, ""])
        for name in [queue, dead]:
            channel.queue_delete(name)


@check("a message pushed out by length says so")
def maxlen(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue, dead = pair(channel, **{"x-max-length": 1})
        channel.basic_publish("", queue, b"first")
        channel.basic_publish("", queue, b"second")
        _, properties, body = take(channel, dead)
        equal((body, death(properties)["reason"]), (b"first", "maxlen"))
        for name in [queue, dead]:
            channel.queue_delete(name)


@check("without a key of its own the dead keep theirs, and go through the exchange")
def own_keys(context):
    with context.connect() as connection:
        channel = connection.channel()
        exchange, queue, dead = unique("dlx"), unique("work"), unique("dead")
        channel.exchange_declare(exchange, "direct")
        channel.queue_declare(queue, arguments={"x-dead-letter-exchange": exchange})
        channel.queue_declare(dead)
        channel.queue_bind(dead, exchange, queue)
        channel.basic_publish("", queue, b"x")
        method, _, _ = take(channel, queue)
        channel.basic_reject(method.delivery_tag, requeue=False)
        method, properties, _ = take(channel, dead)
        equal((method.exchange, method.routing_key, death(properties)["exchange"]), (exchange, queue, ""))
        for name in [queue, dead]:
            channel.queue_delete(name)
        channel.exchange_delete(exchange)


@check("deaths of one kind in one queue are counted, others listed before them")
def counted(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue, waiting = unique("work"), unique("waiting")
        channel.queue_declare(queue, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": waiting})
        channel.queue_declare(waiting, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue, "x-message-ttl": 20})
        channel.basic_publish("", queue, b"x")
        for round_ in range(3):
            method, properties, _ = take(channel, queue)
            if round_:
                equal([(d["queue"], d["reason"], d["count"]) for d in properties.headers["x-death"]],
                      [(waiting, "expired", round_), (queue, "rejected", round_)])
                equal(properties.headers["x-first-death-queue"], queue)
            channel.basic_reject(method.delivery_tag, requeue=round_ == 2)
        for name in [queue, waiting]:
            channel.queue_delete(name)


@check("a cycle without a rejection ends the message")
def cycle(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = unique("cycle")
        channel.queue_declare(queue, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue, "x-message-ttl": 20})
        channel.confirm_delivery()
        channel.basic_publish("", queue, b"x")
        until("it is gone", lambda: count(channel, queue) == 0)
        channel.queue_delete(queue)


@check("without an exchange to go to the dead are dropped")
def no_target(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = unique("work")
        channel.queue_declare(queue, arguments={"x-dead-letter-exchange": unique("no-such")})
        channel.basic_publish("", queue, b"x")
        method, _, _ = take(channel, queue)
        channel.basic_reject(method.delivery_tag, requeue=False)
        equal(channel.basic_get(queue)[0], None)
        channel.queue_delete(queue)


@check("a cycle with a rejection in it goes on")
def rejected_cycle(context):
    queue, back = unique("q"), unique("back")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": back})
        channel.queue_declare(back, arguments={"x-message-ttl": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue})
        channel.basic_publish("", queue, b"x")
        for n in range(4):
            method, properties, _ = take(channel, queue)
            if n:
                equal([(d["queue"], d["reason"], d["count"]) for d in properties.headers["x-death"]],
                      [(back, "expired", n), (queue, "rejected", n)])
            channel.basic_nack(method.delivery_tag, requeue=False)
        take(channel, queue)
        channel.queue_delete(queue)
        channel.queue_delete(back)


@check("what dies keeps its further keys, and is routed by them too")
def further_keys(context):
    queue, exchange, first, second = unique("q"), unique("dlx"), unique("first"), unique("second")
    with context.connect() as connection:
        channel = connection.channel()
        channel.exchange_declare(exchange, "direct")
        channel.queue_declare(queue, arguments={"x-dead-letter-exchange": exchange})
        for name, key in [(first, queue), (second, "other")]:
            channel.queue_declare(name)
            channel.queue_bind(name, exchange, key)
        channel.basic_publish("", queue, b"x", pika.BasicProperties(headers={"CC": ["other"]}))
        method, _, _ = take(channel, queue)
        channel.basic_reject(method.delivery_tag, requeue=False)
        for name in [first, second]:
            _, properties, _ = take(channel, name)
            equal(properties.headers["x-death"][0]["routing-keys"], [queue, "other"])
            equal([properties.headers[f"x-first-death-{what}"] for what in ["queue", "reason", "exchange"]], [queue, "rejected", ""])
            if context.peer == "millstream":  # RabbitMQ has these since 3.13
                equal([properties.headers[f"x-last-death-{what}"] for what in ["queue", "reason", "exchange"]], [queue, "rejected", ""])
        for name in [queue, first, second]:
            channel.queue_delete(name)
        channel.exchange_delete(exchange)


@check("dead letters that are to come at least once come, and the strategy is compared")
def at_least_once(context):
    queue, dead = unique("q"), unique("dead")
    arguments = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-dead-letter-strategy": "at-least-once",
                 "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(dead, durable=True)
        channel.queue_declare(queue, durable=True, arguments=arguments)
        refused(406, "inequivalent arg 'x-dead-letter-strategy'", lambda: connection.channel().queue_declare(
            queue, durable=True, arguments={**arguments, "x-dead-letter-strategy": "at-most-once"}))
        channel.basic_publish("", queue, b"x")
        method, _, _ = take(channel, queue)
        channel.basic_nack(method.delivery_tag, requeue=False)
        _, properties, body = take(channel, dead)
        equal((body, properties.headers["x-death"][0]["reason"]), (b"x", "rejected"))
        channel.queue_delete(queue)
        channel.queue_delete(dead)


@check("what dies tells of its CC, and of its BCC nobody")
def hidden_keys(context):
    queue, other, hidden, dead = unique("q"), unique("cc"), unique("bcc"), unique("dead")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(dead)
        for name in [queue, other, hidden]:
            channel.queue_declare(name, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
        channel.basic_publish("", queue, b"x", pika.BasicProperties(headers={"CC": [other], "BCC": [hidden]}))
        for name in [queue, other, hidden]:
            method, _, _ = take(channel, name)
            channel.basic_reject(method.delivery_tag, requeue=False)
            method, properties, _ = take(channel, dead)
            channel.basic_ack(method.delivery_tag)
            equal((death(properties)["queue"], death(properties)["routing-keys"]), (name, [queue, other]))
            that("BCC" not in properties.headers, f"headers {properties.headers}")
        for name in [queue, other, hidden, dead]:
            channel.queue_delete(name)
