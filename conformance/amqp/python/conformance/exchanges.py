"""Exchanges: types, bindings between them, alternates, and what may not be done."""

import datetime

import pika

from .harness import bodies, check, count, equal, refused, that, unique, until


def routed(channel, exchange, key, queues, headers=None):
    """Which of the queues get a message."""
    channel.basic_publish(exchange, key, b"x", pika.BasicProperties(headers=headers) if headers is not None else None)
    got = []
    for name, queue in queues.items():
        if channel.basic_get(queue, auto_ack=True)[0]:
            got.append(name)
    return "".join(got)


@check("direct, fanout, topic and headers exchanges route as their names say")
def types(context):
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        queues = {name: channel.queue_declare(unique(name), exclusive=True).method.queue for name in "ab"}

        def exchange(kind, a, b):
            name = unique(kind)
            channel.exchange_declare(name, kind, auto_delete=True)
            for queue, (key, arguments) in zip(queues.values(), (a, b)):
                channel.queue_bind(queue, name, key, arguments=arguments)
            return name

        name = exchange("direct", ("k", None), ("l", None))
        equal([routed(channel, name, key, queues) for key in "klm"], ["a", "b", ""], "direct")
        name = exchange("fanout", ("k", None), ("", None))
        equal(routed(channel, name, "anything", queues), "ab", "fanout")
        name = exchange("topic", ("a.*.c", None), ("a.#", None))
        equal([routed(channel, name, key, queues) for key in ["a.b.c", "a", "a.b.c.d", "b.a"]], ["ab", "b", "b", ""], "topic")
        name = exchange("headers", ("", {"x-match": "all", "p": 1, "q": "z"}), ("", {"x-match": "any", "p": 1, "q": "z"}))
        equal([routed(channel, name, "", queues, h) for h in [{"p": 1, "q": "z"}, {"p": 1}, {"p": 2}]], ["ab", "b", ""], "headers")


@check("exchanges are bound to exchanges, and a queue gets a message once")
def chained(context):
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        first, second = unique("first"), unique("second")
        for name in [first, second]:
            channel.exchange_declare(name, "fanout")
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.exchange_bind(second, first)
        channel.queue_bind(queue, first)
        channel.queue_bind(queue, second)
        channel.basic_publish(first, "", b"x")
        equal(count(channel, queue), 1)
        channel.exchange_unbind(second, first)
        channel.queue_unbind(queue, first)
        channel.basic_publish(first, "", b"y")
        equal(count(channel, queue), 1)
        for name in [first, second]:
            channel.exchange_delete(name)


@check("what an exchange routes nowhere goes through its alternate")
def alternate(context):
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        name, other = unique("main"), unique("alternate")
        channel.exchange_declare(other, "fanout")
        channel.exchange_declare(name, "direct", arguments={"alternate-exchange": other})
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, other)
        channel.basic_publish(name, "nowhere", b"x", mandatory=True)
        equal(bodies(channel, queue, 1), [b"x"])
        for exchange in [name, other]:
            channel.exchange_delete(exchange)


@check("an exchange declared otherwise is refused with what differs")
def inequivalent(context):
    name = unique("inequivalent")
    with context.connect() as connection:
        connection.channel().exchange_declare(name, "direct", durable=True)
        for change, text in [
            ({"exchange_type": "fanout"}, f"inequivalent arg 'type' for exchange '{name}' in vhost '/': received 'fanout' but current is 'direct'"),
            ({"durable": False}, "inequivalent arg 'durable'"),
            ({"auto_delete": True}, "inequivalent arg 'auto_delete'"),
            ({"internal": True}, "inequivalent arg 'internal'"),
            ({"arguments": {"alternate-exchange": "x"}}, "inequivalent arg 'alternate-exchange'"),
        ]:
            channel = connection.channel()
            refused(406, text, lambda channel=channel, change=change: channel.exchange_declare(
                name, **{"exchange_type": "direct", "durable": True, **change}))
        connection.channel().exchange_delete(name)
        connection.channel().exchange_declare(name, "direct", arguments={"alternate-exchange": "one"})
        for other, text in [("two", "received 'two' but current is 'one'"), (None, "received none but current is the value 'one' of type 'longstr'")]:
            arguments = {"alternate-exchange": other} if other else {}
            channel = connection.channel()
            refused(406, f"inequivalent arg 'alternate-exchange' for exchange '{name}' in vhost '/': {text}",
                    lambda channel=channel, arguments=arguments: channel.exchange_declare(name, "direct", arguments=arguments))
        connection.channel().exchange_delete(name)


@check("words of topic patterns stand between dots and may be empty, and an empty key has none")
def words(context):
    keys = ["", "a", "a.b", "a..c", ".a", "a.", ".", "a.b.c"]
    exchange = unique("topic")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.exchange_declare(exchange, "topic")
        for pattern, matched in [("", [""]), ("#", keys), ("*", ["a"]), ("*.#", keys[1:]), ("*.*", ["a.b", ".a", "a.", "."]),
                                 ("a.*.c", ["a..c", "a.b.c"]), ("a.#.c", ["a..c", "a.b.c"]), (".", ["."]), ("a.", ["a."]), ("**", []), ("#.*.#", keys[1:])]:
            queue = channel.queue_declare(unique("words"), exclusive=True).method.queue
            channel.queue_bind(queue, exchange, pattern)
            equal([key for key in keys if routed(channel, exchange, key, {"it": queue})], matched, pattern)
            channel.queue_delete(queue)
        channel.exchange_delete(exchange)


@check("exchanges that are always there can be declared as they are, and not deleted")
def predeclared(context):
    with context.connect() as connection:
        channel = connection.channel()
        for name, kind in [("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"), ("amq.headers", "headers"), ("amq.match", "headers")]:
            channel.exchange_declare(name, kind, durable=True)
            channel.exchange_declare(name, passive=True)
        refused(403, "ACCESS_REFUSED", lambda: channel.exchange_delete("amq.topic"))
        channel = connection.channel()
        refused(403, "contains reserved prefix 'amq.*'", lambda: channel.exchange_declare("amq.mine"))
        channel = connection.channel()
        refused(403, "operation not permitted on the default exchange", lambda: channel.queue_bind(channel.queue_declare("", exclusive=True).method.queue, "", "k"))


@check("if_unused keeps an exchange with bindings; auto-delete goes with the last")
def unused(context):
    name = unique("unused")
    with context.connect() as connection:
        channel = connection.channel()
        channel.exchange_declare(name, "direct", auto_delete=True)
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, name, "k")
        other = connection.channel()
        refused(406, f"exchange '{name}' in vhost '/' in use", lambda: other.exchange_delete(name, if_unused=True))
        channel.queue_unbind(queue, name, "k")
        refused(404, f"no exchange '{name}' in vhost '/'", lambda: channel.exchange_declare(name, passive=True))
        channel = connection.channel()
        channel.exchange_delete(name)


@check("nobody publishes to an internal exchange")
def internal(context):
    name = unique("internal")
    with context.connect() as connection:
        channel = connection.channel()
        channel.exchange_declare(name, "fanout", internal=True)
        channel.basic_publish(name, "", b"x")
        refused(403, f"cannot publish to internal exchange '{name}' in vhost '/'", lambda: channel.queue_declare("", exclusive=True))
        connection.channel().exchange_delete(name)


@check("binding what is not there is refused, unbinding it is not")
def absent(context):
    with context.connect() as connection:
        for bind, text in [(lambda c, q: c.queue_bind(q, unique("no")), "no exchange"), (lambda c, q: c.queue_bind(unique("no"), "amq.direct"), "no queue")]:
            channel = connection.channel()
            queue = channel.queue_declare("", exclusive=True).method.queue
            refused(404, text, lambda bind=bind, channel=channel, queue=queue: bind(channel, queue))
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_unbind(queue, "amq.direct", "never")
        channel.exchange_unbind("amq.topic", "amq.direct", "never")


@check("CC and BCC are further routing keys, and BCC is taken off")
def further_keys(context):
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        queues = [channel.queue_declare(unique(n), exclusive=True).method.queue for n in ["to", "cc", "bcc"]]
        channel.basic_publish("", queues[0], b"x", pika.BasicProperties(headers={"CC": [queues[1]], "BCC": [queues[2]], "h": 1}))
        for queue in queues:
            method, properties, _ = until("the message", lambda queue=queue: (lambda g: g if g[0] else None)(channel.basic_get(queue, auto_ack=True)))
            equal(method.routing_key, queues[0])
            that("BCC" not in properties.headers and properties.headers["CC"] == [queues[1]], f"headers {properties.headers}")
        channel.basic_publish("", queues[0], b"x", pika.BasicProperties(headers={"h": 2}))


@check("headers whose names begin with x- count where the binding says so")
def with_x(context):
    exchange = unique("headers")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.exchange_declare(exchange, "headers")
        # The binding that asks for nothing but an x- header takes everything where such headers do not count.
        queues = {}
        for match in ["all", "all-with-x", "any-with-x"]:
            queues[match] = unique("q")
            channel.queue_declare(queues[match])
            channel.queue_bind(queues[match], exchange, "", {"x-match": match, "x-kind": "a", "colour": "red"})
        for headers in [{"x-kind": "a", "colour": "red"}, {"colour": "red"}, {"x-kind": "a"}, {"x-kind": "b", "colour": "blue"}]:
            channel.basic_publish(exchange, "", repr(headers).encode(), pika.BasicProperties(headers=headers))
        for match, n in [("all", 2), ("all-with-x", 1), ("any-with-x", 3)]:
            equal(count(channel, queues[match]), n, match)
            channel.queue_delete(queues[match])
        channel.exchange_delete(exchange)


@check("further keys are an array, else the message is refused; what is no text in it is no key")
def further_keys_of_other_types(context):
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        queue = channel.queue_declare(unique("cc"), exclusive=True).method.queue
        for name in ["CC", "BCC"]:
            channel.basic_publish("", unique("nowhere"), b"x", pika.BasicProperties(headers={name: [1, queue, None]}))
            refusing = connection.channel()
            refusing.confirm_delivery()
            refused(406, f'invalid message: {{unacceptable_type_in_header,"{name}",longstr}}',
                    lambda name=name, refusing=refusing: refusing.basic_publish("", queue, b"x", pika.BasicProperties(headers={name: queue})))
        equal(count(channel, queue), 2)


@check("headers that are numbers are compared by value, whatever their type")
def numbers(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        then = datetime.datetime.fromtimestamp(1_500_000_000, datetime.timezone.utc)
        channel.queue_bind(queue, "amq.headers", arguments={"x-match": "all", "mine": queue, "n": 1_500_000_000})
        for n in [1_500_000_000, then, 1_500_000_001]:
            channel.basic_publish("amq.headers", "", str(n).encode(), pika.BasicProperties(headers={"mine": queue, "n": n}))
        equal(bodies(channel, queue, 2), [b"1500000000", str(then).encode()])
        equal(count(channel, queue), 0)


@check("if neither end of a binding is there, the source is what is missing")
def neither(context):
    with context.connect() as connection:
        name = unique("no-such")
        refused(404, f"no exchange '{name}' in vhost '/'", lambda: connection.channel().queue_bind(unique("q"), name, "k"))
        refused(403, "operation not permitted on the default exchange", lambda: connection.channel().queue_unbind(unique("q"), "", "k"))


@check("a wrong x-match is told, and so is a wrong alternate exchange")
def wrong_match(context):
    with context.connect() as connection:
        own = connection.channel()
        queue, name = own.queue_declare("", exclusive=True).method.queue, unique("x")
        for value, text in [("none", "Invalid x-match field value <<\"none\">>; expected all, any, all-with-x, or any-with-x"),
                            (True, "Invalid x-match field type bool (value true); expected longstr")]:
            refused(406, text, lambda value=value: connection.channel().queue_bind(queue, "amq.headers", arguments={"x-match": value}))
        refused(406, f"invalid type 'bool' for arg 'alternate-exchange' in exchange '{name}' in vhost '/'",
                lambda: connection.channel().exchange_declare(name, arguments={"alternate-exchange": True}))
        refused(406, "inequivalent arg 'alternate-exchange' for exchange 'amq.direct' in vhost '/': received the value 'x' of type 'longstr' but current is none",
                lambda: connection.channel().exchange_declare("amq.direct", durable=True, arguments={"alternate-exchange": "x"}))
        own.exchange_declare(name, arguments={"alternate-exchange": "a"})
        refused(406, f"inequivalent arg 'alternate-exchange' for exchange '{name}' in vhost '/': received 'b' but current is 'a'",
                lambda: connection.channel().exchange_declare(name, arguments={"alternate-exchange": "b"}))
        own.exchange_delete(name)


@check("an empty routing key has no words")
def no_words(context):
    with context.connect() as connection:
        channel, name = connection.channel(), unique("topic")
        channel.exchange_declare(name, "topic")
        queues = {pattern: channel.queue_declare("", exclusive=True).method.queue for pattern in ["*", "*.#", "#", ""]}
        for pattern, queue in queues.items():
            channel.queue_bind(queue, name, pattern)
        channel.confirm_delivery()
        channel.basic_publish(name, "", b"x")
        equal({pattern: count(channel, queue) for pattern, queue in queues.items()}, {"*": 0, "*.#": 0, "#": 1, "": 1})
        channel.exchange_delete(name)
