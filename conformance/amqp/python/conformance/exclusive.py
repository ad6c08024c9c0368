"""Exclusive queues and consumers; auto-delete."""

from .harness import check, deliveries, equal, refused, take, unique, until

LOCKED = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue"


def there(connection, queue):
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except Exception as error:
        equal(error.reply_code, 404)
        return False
    channel.close()
    return True


@check("an exclusive queue is its connection's own, and goes with it")
def of_connection(context):
    queue = unique("exclusive")
    with context.connect() as other:
        with context.connect() as connection:
            channel = connection.channel()
            channel.queue_declare(queue, exclusive=True)
            connection.channel().queue_declare(queue, exclusive=True)
            for what in [lambda c: c.queue_declare(queue, exclusive=True), lambda c: c.queue_declare(queue, passive=True),
                         lambda c: c.queue_bind(queue, "amq.direct", "k"), lambda c: c.queue_purge(queue), lambda c: c.queue_delete(queue),
                         lambda c: c.basic_get(queue), lambda c: c.basic_consume(queue, lambda *_: None)]:
                theirs = other.channel()
                refused(405, LOCKED, lambda what=what, theirs=theirs: what(theirs))
            mine = connection.channel()
            refused(405, LOCKED, lambda: mine.queue_declare(queue))
        until("it is gone", lambda: not there(other, queue))


@check("an exclusive consumer is alone")
def consumer(context):
    queue = unique("alone")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue)
        tag = channel.basic_consume(queue, lambda *_: None, exclusive=True)
        other = connection.channel()
        refused(403, f"queue '{queue}' in vhost '/' in exclusive use", lambda: other.basic_consume(queue, lambda *_: None))
        channel.basic_cancel(tag)
        other = connection.channel()
        other.basic_consume(queue, lambda *_: None)
        refused(403, "in exclusive use", lambda: channel.basic_consume(queue, lambda *_: None, exclusive=True))
        other.queue_delete(queue)


@check("an auto-delete queue goes with its last consumer, not before the first")
def auto_delete(context):
    queue = unique("auto-delete")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, auto_delete=True)
        channel.basic_publish("", queue, b"x")
        first = channel.basic_consume(queue, lambda *_: None)
        second = channel.basic_consume(queue, lambda *_: None)
        channel.basic_cancel(first)
        equal(there(connection, queue), True)
        channel.basic_cancel(second)
        until("it is gone", lambda: not there(connection, queue))


@check("messages can be got beside an exclusive consumer")
def got_beside(context):
    queue = unique("alone")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue)
        channel.basic_qos(prefetch_count=1)
        received = []
        channel.basic_consume(queue, lambda ch, method, properties, body: received.append(body), exclusive=True)
        other = connection.channel()
        for body in [b"1", b"2"]:
            other.basic_publish("", queue, body)
        deliveries(connection, received, 1)
        equal((received, take(other, queue)[2]), ([b"1"], b"2"))
        other.queue_delete(queue)


@check("no consumer is exclusive where there is a single active one")
def exclusive_and_single(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True, arguments={"x-single-active-consumer": True}).method.queue
        refused(403, f"queue '{queue}' in vhost '/' in exclusive use", lambda: channel.basic_consume(queue, lambda *_: None, exclusive=True))
