"""Queues: declaring, declaring again, names, deleting, purging."""

import pika

from .harness import check, count, equal, refused, take, that, unique, until


@check("declaring a queue again tells what is in it")
def again(context):
    queue = unique("again")
    with context.connect() as connection:
        channel = connection.channel()
        ok = channel.queue_declare(queue, durable=True).method
        equal((ok.queue, ok.message_count, ok.consumer_count), (queue, 0, 0))
        channel.basic_publish("", queue, b"x")
        until("the message is counted", lambda: count(channel, queue) == 1)
        tag = channel.basic_consume(queue, lambda *_: None)
        equal(channel.queue_declare(queue, durable=True).method.consumer_count, 1)
        channel.basic_cancel(tag)
        channel.queue_delete(queue)


@check("a queue declared otherwise is refused with the argument's name")
def inequivalent(context):
    queue = unique("inequivalent")
    arguments = {"x-message-ttl": 60_000, "x-max-length": 5, "x-dead-letter-exchange": "dlx"}
    with context.connect() as connection:
        connection.channel().queue_declare(queue, durable=True, arguments=arguments)
        for change, text in [
            ({"durable": False}, f"inequivalent arg 'durable' for queue '{queue}' in vhost '/': received 'false' but current is 'true'"),
            ({"auto_delete": True}, "inequivalent arg 'auto_delete'"),
            ({"arguments": {**arguments, "x-message-ttl": 1}},
             f"inequivalent arg 'x-message-ttl' for queue '{queue}' in vhost '/': received '1' but current is '60000'"),
            ({"arguments": {**arguments, "x-max-priority": 3}}, "inequivalent arg 'x-max-priority'"),
            ({"arguments": {k: v for k, v in arguments.items() if k != "x-max-length"}}, "received none but current is the value '5'"),
            ({"arguments": {**arguments, "x-dead-letter-exchange": "other"}}, "inequivalent arg 'x-dead-letter-exchange'"),
        ]:
            channel = connection.channel()
            refused(406, text, lambda channel=channel, change=change: channel.queue_declare(
                queue, **{"durable": True, "arguments": arguments, **change}))
        channel = connection.channel()
        channel.queue_declare(queue, durable=True, arguments={**arguments, "x-message-ttl": 60_000})
        channel.queue_delete(queue)


@check("an argument of a wrong type or value is refused")
def wrong_arguments(context):
    with context.connect() as connection:
        for arguments in [{"x-message-ttl": -1}, {"x-message-ttl": "1"}, {"x-expires": 0}, {"x-max-length": -1},
                          {"x-dead-letter-routing-key": "k"}, {"x-overflow": "nowhere"}]:
            [name] = arguments
            channel = connection.channel()
            refused(406, f"invalid arg '{name}'",
                    lambda channel=channel, arguments=arguments: channel.queue_declare(unique("wrong"), arguments=arguments))


@check("numbers among arguments have limits, and say what is wrong with them")
def limits_of_arguments(context):
    ten_years_ms = 315_360_000_000
    with context.connect() as connection:
        for arguments in [{"x-message-ttl": ten_years_ms}, {"x-expires": ten_years_ms}, {"x-max-priority": 255}, {"x-max-length": 1 << 40}]:
            connection.channel().queue_declare(unique("limit"), exclusive=True, arguments=arguments)
        for arguments, why in [
            ({"x-message-ttl": ten_years_ms + 1}, f"{{value_too_large,{ten_years_ms + 1}}}"),
            ({"x-expires": ten_years_ms + 1}, f"{{value_too_large,{ten_years_ms + 1}}}"),
            ({"x-max-priority": 256}, "{max_value_exceeded,256}"),
            ({"x-max-length": True}, '"expected integer, got bool"'),
            ({"x-expires": "1"}, '"expected integer, got longstr"'),
        ]:
            [name], queue, channel = arguments, unique("limit"), connection.channel()
            refused(406, f"invalid arg '{name}' for queue '{queue}' in vhost '/': {why}",
                    lambda queue=queue, channel=channel, arguments=arguments: channel.queue_declare(queue, exclusive=True, arguments=arguments))
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        refused(406, f"invalid arg 'x-priority' for queue '{queue}' in vhost '/': \"expected integer, got longstr\"",
                lambda: channel.basic_consume(queue, lambda *_: None, arguments={"x-priority": "1"}))


@check("a quorum queue whose delivery limit is below 0 has none")
def no_delivery_limit(context):
    queue = unique("no-limit")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": -1})
        channel.basic_publish("", queue, b"x")
        if context.peer == "millstream":  # RabbitMQ 3.10 takes the number, and gives up at once
            for _ in range(25):
                method, _, _ = take(channel, queue)
                channel.basic_nack(method.delivery_tag, requeue=True)
            equal(take(channel, queue)[1].headers["x-delivery-count"], 25)
        channel.queue_delete(queue)


@check("line ends are taken out of names")
def one_line(context):
    queue, exchange = unique("one-line"), unique("one-line")
    with context.connect() as connection:
        channel = connection.channel()
        # pika waits for an answer with the name that it sent
        channel._impl._send_method(pika.spec.Queue.Declare(queue=queue + "\r\n", nowait=True, arguments={}))
        channel.exchange_declare("\n" + exchange)
        channel.queue_bind(queue, exchange, "k")
        channel.exchange_delete(exchange + "\n")
        channel.queue_delete(queue)


@check("without a queue and a key a binding is of the queue declared last, by its name")
def bound_by_its_name(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind("", "amq.direct")
        channel.confirm_delivery()
        channel.basic_publish("amq.direct", "", b"to no name")
        channel.basic_publish("amq.direct", queue, b"to its name")
        equal([channel.basic_get(queue)[2], channel.basic_get(queue)[2]], [b"to its name", None])


@check("unknown arguments are taken")
def unknown_arguments(context):
    queue = unique("unknown")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, arguments={"x-colour": "green", "other": 5})
        channel.queue_declare(queue, arguments={"x-colour": "red"})
        channel.queue_delete(queue)


@check("passive declaring finds what is there, and says 404 of what is not")
def passive(context):
    queue = unique("passive")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue)
        equal(channel.queue_declare(queue, passive=True).method.queue, queue)
        channel.queue_delete(queue)
        refused(404, f"NOT_FOUND - no queue '{queue}' in vhost '/'", lambda: channel.queue_declare(queue, passive=True))


@check("a queue without a name is named by the server, and is the channel's last")
def server_named(context):
    with context.connect() as connection:
        channel = connection.channel()
        first = channel.queue_declare("").method.queue
        second = channel.queue_declare("").method.queue
        that(first.startswith("amq.gen-") and first != second, f"{first} and {second}")
        channel.basic_publish("", second, b"x")
        until("a message in the last queue", lambda: channel.basic_get("", auto_ack=True)[0])
        for queue in [first, second]:
            channel.queue_delete(queue)


@check("names that begin with amq. are the broker's own")
def reserved(context):
    with context.connect() as connection:
        channel = connection.channel()
        refused(403, "contains reserved prefix 'amq.*'", lambda: channel.queue_declare("amq.mine"))


@check("deleting what is not there succeeds, and if_unused and if_empty are kept")
def deleting(context):
    queue = unique("deleting")
    with context.connect() as connection:
        channel = connection.channel()
        equal(channel.queue_delete(queue).method.message_count, 0)
        channel.queue_declare(queue)
        channel.basic_publish("", queue, b"x")
        until("the message is counted", lambda: count(channel, queue) == 1)
        refused(406, f"queue '{queue}' in vhost '/' not empty", lambda: channel.queue_delete(queue, if_empty=True))
        channel = connection.channel()
        channel.basic_consume(queue, lambda *_: None)
        other = connection.channel()
        refused(406, f"queue '{queue}' in vhost '/' in use", lambda: other.queue_delete(queue, if_unused=True))
        channel.close()
        channel = connection.channel()
        until("the message is back", lambda: count(channel, queue) == 1)
        equal(channel.queue_delete(queue).method.message_count, 1)


@check("a queue of which all messages are out is deleted as an empty one")
def deleting_what_is_out(context):
    queue = unique("deleting-out")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue)
        channel.basic_publish("", queue, b"x")
        until("the message is counted", lambda: count(channel, queue) == 1)
        that(channel.basic_get(queue)[0] is not None, "a message")
        equal(channel.queue_delete(queue, if_empty=True).method.message_count, 0)


@check("a purge takes what is ready and leaves what is out")
def purging(context):
    queue = unique("purging")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue)
        for n in range(3):
            channel.basic_publish("", queue, b"%d" % n)
        until("all are counted", lambda: count(channel, queue) == 3)
        method, _, _ = channel.basic_get(queue)
        equal(channel.queue_purge(queue).method.message_count, 2)
        channel.basic_nack(method.delivery_tag, requeue=True)
        until("the one that was out is back", lambda: count(channel, queue) == 1)
        channel.queue_delete(queue)


@check("a quorum queue is durable and nobody's own")
def quorum(context):
    queue = unique("quorum")
    with context.connect() as connection:
        for wrong in [{"durable": False}, {"durable": True, "exclusive": True}]:
            channel = connection.channel()
            refused(406, "invalid property", lambda channel=channel, wrong=wrong: channel.queue_declare(
                queue, arguments={"x-queue-type": "quorum"}, **wrong))
        channel = connection.channel()
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_delete(queue)


@check("a queue that nobody uses goes after x-expires")
def expires(context):
    queue = unique("expires")
    with context.connect() as connection:
        connection.channel().queue_declare(queue, arguments={"x-expires": 300})

        def gone():
            # A look by name would count as use: a binding to it does not.
            channel = connection.channel()
            try:
                channel.queue_bind(queue, "amq.fanout")
            except Exception as error:
                equal(error.reply_code, 404)
                return True
            channel.close()
            return False

        until("the queue is gone", gone)


@check("what goes with its connection is declared again whatever is said of durable")
def exclusive_durable(context):
    with context.connect() as connection:
        channel, queue = connection.channel(), unique("own")
        channel.queue_declare(queue, durable=True, exclusive=True)
        equal(channel.queue_declare(queue, durable=False, exclusive=True).method.queue, queue)


@check("what an argument should be is said, with the type that it has")
def wrong_arguments(context):
    with context.connect() as connection:
        for kind, arguments, text in [
            ("classic", {"x-message-ttl": "abc"}, "invalid arg 'x-message-ttl' for queue '{}' in vhost '/': \"expected integer, got longstr\""),
            ("classic", {"x-max-length": True}, "invalid arg 'x-max-length' for queue '{}' in vhost '/': \"expected integer, got bool\""),
            ("classic", {"x-expires": 1 << 40}, "invalid arg 'x-expires' for queue '{}' in vhost '/': {{value_too_large,1099511627776}}"),
            ("classic", {"x-dead-letter-exchange": True}, "invalid type 'bool' for arg 'x-dead-letter-exchange' in queue '{}' in vhost '/'"),
            ("quorum", {"x-max-priority": 256}, "invalid arg 'x-max-priority' for queue '{}' in vhost '/' of queue type rabbit_quorum_queue"),
        ]:
            queue = unique("wrong")
            refused(406, text.format(queue), lambda queue=queue, kind=kind, arguments=arguments: connection.channel().queue_declare(
                queue, durable=True, arguments={"x-queue-type": kind, **arguments}))
        refused(406, "Cannot declare a server-named queue for type rabbit_quorum_queue", lambda: connection.channel().queue_declare(
            "", durable=True, arguments={"x-queue-type": "quorum"}))


@check("of a queue that is there, a wrong argument is one that differs")
def wrong_and_there(context):
    with context.connect() as connection:
        channel, queue = connection.channel(), unique("there")
        channel.queue_declare(queue, exclusive=True)
        refused(406, f"inequivalent arg 'x-max-priority' for queue '{queue}' in vhost '/': received the value '256'",
                lambda: channel.queue_declare(queue, exclusive=True, arguments={"x-max-priority": 256}))


# RabbitMQ 4 has it; in 3.10 such a limit is reached at once.
@check("a delivery limit below 0 is none", peer="millstream")
def no_limit(context):
    with context.connect() as connection:
        channel, queue = connection.channel(), unique("endless")
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": -1})
        channel.basic_publish("", queue, b"x")
        for _ in range(25):
            method, _, _ = take(channel, queue)
            channel.basic_nack(method.delivery_tag)
        take(channel, queue)
        channel.queue_delete(queue)
