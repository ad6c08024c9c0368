"""Giving messages back: their places, the mark, the count."""

from .harness import check, count, deliveries, equal, refused, take, that, unique, until


def filled(channel, n, **more):
    queue = unique("requeue")
    channel.queue_declare(queue, **more)
    channel.confirm_delivery()
    for i in range(n):
        channel.basic_publish("", queue, b"%d" % i)
    return queue


@check("a message that is given back takes its old place")
def old_place(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = filled(channel, 5)
        tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(3)]
        channel.basic_nack(tags[1], requeue=True)
        channel.basic_nack(tags[0], requeue=True)
        until("both are back", lambda: count(channel, queue) == 4)
        got = [channel.basic_get(queue) for _ in range(4)]
        equal([(body, method.redelivered) for method, _, body in got], [(b"0", True), (b"1", True), (b"3", False), (b"4", False)])
        channel.queue_delete(queue)


@check("nack with multiple gives back all up to the tag")
def multiple(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = filled(channel, 5)
        tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(4)]
        channel.basic_nack(tags[2], multiple=True, requeue=True)
        until("three are back", lambda: count(channel, queue) == 4)
        channel.basic_reject(tags[3], requeue=False)
        got = [channel.basic_get(queue) for _ in range(4)]
        equal([body for _, _, body in got], [b"0", b"1", b"2", b"4"])
        channel.queue_delete(queue)


@check("recover gives everything back")
def recover(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = filled(channel, 3)
        for _ in range(3):
            channel.basic_get(queue)
        channel.basic_recover(requeue=True)
        until("all are back", lambda: count(channel, queue) == 3)
        method, _, body = channel.basic_get(queue)
        equal((body, method.redelivered), (b"0", True))
        channel.queue_delete(queue)


@check("a tag that is unknown, or settled, closes the channel")
def unknown_tag(context):
    with context.connect() as connection:
        queue = filled(connection.channel(), 3)
        for settle, tag in [("basic_ack", 7), ("basic_nack", 7), ("basic_reject", 7)]:
            channel = connection.channel()
            getattr(channel, settle)(tag)
            refused(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}", lambda channel=channel: channel.queue_declare(queue, passive=True))
        channel = connection.channel()
        method, _, _ = channel.basic_get(queue)
        channel.basic_ack(method.delivery_tag)
        channel.basic_ack(method.delivery_tag)
        refused(406, "unknown delivery tag 1", lambda: channel.queue_declare(queue, passive=True))
        connection.channel().queue_delete(queue)


@check("a quorum queue counts deliveries that failed, and gives up at its limit")
def delivery_limit(context):
    dead = unique("dead")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(dead, durable=True)
        queue = unique("limit")
        channel.queue_declare(queue, durable=True, arguments={
            "x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
        channel.basic_publish("", queue, b"x")
        counts = []
        for _ in range(3):
            method, properties, _ = take(channel, queue)
            counts.append((properties.headers or {}).get("x-delivery-count", 0))
            channel.basic_nack(method.delivery_tag, requeue=True)
        equal(counts, [0, 1, 2])
        _, properties, body = take(channel, dead)
        equal((body, properties.headers["x-death"][0]["reason"], properties.headers["x-death"][0]["queue"]), (b"x", "delivery_limit", queue))
        for name in [queue, dead]:
            channel.queue_delete(name)


@check("what a connection had is delivered to another when it goes")
def gone(context):
    with context.connect() as keeper:
        channel = keeper.channel()
        queue = filled(channel, 4)
        with context.connect() as other:
            got = []
            theirs = other.channel()
            theirs.basic_consume(queue, lambda ch, method, properties, body: got.append(body))
            deliveries(other, got, 4)
        mine = []
        channel.basic_consume(queue, lambda ch, method, properties, body: mine.append((body, method.redelivered)))
        deliveries(keeper, mine, 4)
        that(mine == [(b"%d" % n, True) for n in range(4)], f"{mine}")
        channel.queue_delete(queue)


@check("recover without requeue is not served")
def recover_in_place(context):
    with context.connect() as connection:
        channel = connection.channel()
        refused(540, "NOT_IMPLEMENTED - requeue=false", lambda: channel.basic_recover(requeue=False))
