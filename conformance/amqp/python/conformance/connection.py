"""What is agreed when a connection opens, and what may be said on it afterwards: tune, secrets, flow, calls without an answer."""

import struct

from .frames import Wire, short
from .harness import check, deliveries, equal, quiet, refused, that, unique, until


def greeted(context):
    """A wire that was told what the broker proposes: most channels, largest frame, heartbeat."""
    wire = Wire(context)
    wire.raw(b"AMQP\x00\x00\x09\x01")
    wire.expect(10, 10)
    response = b"\0guest\0guest"
    wire.method(0, 10, 11, struct.pack(">I", 0) + b"\x05PLAIN" + struct.pack(">I", len(response)) + response + b"\x05en_US")
    return wire, struct.unpack(">HIH", wire.expect(10, 30))


def opened(wire, channels, frame, heartbeat=0):
    wire.method(0, 10, 31, struct.pack(">HIH", channels, frame, heartbeat))
    wire.method(0, 10, 40, b"\x01/\0\0")
    return wire


@check("a client may ask for less than the broker proposes, and gets no frame above it")
def less(context):
    queue = unique("tune")
    wire, (channels, frame, heartbeat) = greeted(context)
    that(channels >= 2 and frame == 131072 and heartbeat > 0, f"proposed {channels} {frame} {heartbeat}")
    opened(wire, 2, 4096).expect(10, 41)
    wire.channel()
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue)
        channel.basic_publish("", queue, b"x" * 10_000)
    wire.method(1, 60, 70, b"\0\0" + short(queue) + b"\1")
    wire.expect(60, 71)
    equal(wire.receive()[0], 2, "a header")
    body = b""
    while len(body) < 10_000:
        kind, _, piece = wire.receive()
        equal(kind, 3, "a body")
        that(len(piece) + 8 <= 4096, f"a frame of {len(piece) + 8} bytes")
        body += piece
    equal(body, b"x" * 10_000)
    wire.method(1, 50, 40, b"\0\0" + short(queue) + b"\0")
    wire.expect(50, 41)
    # A third channel was not agreed on.
    wire.channel(2).method(3, 20, 10, b"\0")
    equal(wire.code(), 530)


@check("a client that asks for more than is proposed, or for too little, is refused with 530")
def more(context):
    for ask in [lambda c, f: (c, f + 1), lambda c, f: (c + 1, f), lambda c, f: (c, 1000), lambda c, f: (c, 0), lambda c, f: (0, f)]:
        wire, (channels, frame, _) = greeted(context)
        opened(wire, *ask(channels, frame))
        # RabbitMQ 3.10 does not say why.
        that(wire.code() in ((530, None) if context.peer == "rabbitmq" else (530,)), f"asked for {ask(channels, frame)} of {channels}, {frame}")


@check("a frame above what was agreed closes the connection with 501, and no other")
def too_large(context):
    with context.connect() as other:
        wire, (channels, _, _) = greeted(context)
        opened(wire, channels, 4096).expect(10, 41)
        wire.channel()
        wire.frame(3, 1, b"\0" * 4200)
        equal(wire.code(), 501)
        other.channel().queue_declare("", exclusive=True)


@check("bytes of a body beyond what its header said are refused, and no other connection is disturbed", peer="millstream")
def beyond(context):
    with context.connect() as other:
        wire = Wire(context).open().channel()
        wire.method(1, 60, 40, b"\0\0\0\1k\0")
        wire.frame(2, 1, struct.pack(">HHQH", 60, 0, 3, 0))
        wire.frame(3, 1, b"four")
        that(wire.code() in (501, 505), "taken")
        other.channel().queue_declare("", exclusive=True)


@check("a new secret is taken")
def secret(context):
    wire = Wire(context).open()
    wire.method(0, 10, 70, struct.pack(">I", 5) + b"guest" + b"\x05later")
    wire.expect(10, 71)
    wire.channel()


@check("channel.flow with active is answered")
def flow(context):
    wire = Wire(context).open().channel()
    wire.method(1, 20, 20, b"\1")
    equal(wire.expect(20, 21), b"\1")


@check("a client may stop its deliveries with channel.flow", peer="millstream")
def flow_off(context):
    queue = unique("flow")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue)
        received = []
        channel.basic_consume(queue, lambda *m: received.append(m))
        channel.flow(False)
        publishing = connection.channel()
        publishing.confirm_delivery()
        publishing.basic_publish("", queue, b"x")
        quiet(connection, received, 0)
        channel.flow(True)
        deliveries(connection, received, 1)
        channel.queue_delete(queue)


@check("calls that want no answer get none, and are done")
def no_wait(context):
    queue, exchange = unique("nowait"), unique("exchange")
    wire = Wire(context).open().channel()
    none = struct.pack(">I", 0)
    wire.method(1, 40, 10, b"\0\0" + short(exchange) + short("direct") + b"\x10" + none)
    wire.method(1, 50, 10, b"\0\0" + short(queue) + b"\x10" + none)
    wire.method(1, 50, 20, b"\0\0" + short(queue) + short(exchange) + short("k") + b"\1" + none)
    wire.method(1, 85, 10, b"\1")
    wire.method(1, 60, 40, b"\0\0" + short(exchange) + short("k") + b"\0")
    wire.frame(2, 1, struct.pack(">HHQH", 60, 0, 1, 0))
    wire.frame(3, 1, b"x")
    wire.expect(60, 80)
    wire.method(1, 60, 20, b"\0\0" + short(queue) + short("tag") + b"\x0a" + none)
    wire.expect(60, 60)
    equal([wire.receive()[0] for _ in range(2)], [2, 3])
    wire.method(1, 60, 30, short("tag") + b"\1")
    with context.connect() as connection:
        channel = connection.channel()
        until("its consumer is gone", lambda: channel.queue_declare(queue, passive=True).method.consumer_count == 0)
    wire.method(1, 50, 30, b"\0\0" + short(queue) + b"\1")
    wire.method(1, 50, 40, b"\0\0" + short(queue) + b"\4")
    wire.method(1, 40, 20, b"\0\0" + short(exchange) + b"\2")
    wire.method(1, 20, 40, struct.pack(">H", 200) + short("bye") + b"\0\0\0\0")
    wire.expect(20, 41)
    with context.connect() as connection:
        refused(404, "NOT_FOUND", lambda: connection.channel().queue_declare(queue, passive=True))
        refused(404, "NOT_FOUND", lambda: connection.channel().exchange_declare(exchange, passive=True))


@check("no-local changes nothing: a connection gets its own messages")
def no_local(context):
    queue = unique("local")
    with context.connect() as connection:
        connection.channel().queue_declare(queue)
        wire = Wire(context).open().channel()
        wire.method(1, 60, 20, b"\0\0" + short(queue) + short("tag") + b"\1" + struct.pack(">I", 0))
        wire.expect(60, 21)
        wire.method(1, 60, 40, b"\0\0\0" + short(queue) + b"\0")
        wire.frame(2, 1, struct.pack(">HHQH", 60, 0, 1, 0))
        wire.frame(3, 1, b"x")
        wire.expect(60, 60)
        connection.channel().queue_delete(queue)


@check("streams are not served, and say so with 540", peer="millstream")
def streams(context):
    with context.connect() as connection:
        channel = connection.channel()
        refused(540, "NOT_IMPLEMENTED", lambda: channel.queue_declare(unique("q"), durable=True, arguments={"x-queue-type": "stream"}))
