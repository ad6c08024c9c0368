"""The protocol on a bare socket: greetings, wrong frames, silence."""

import socket
import struct
import time

from .harness import check, equal, that, unique

CLOSE = (10, 50)


def short(text):
    """A short string."""
    return bytes([len(text)]) + text.encode()


def published(queue, body):
    """The frames of a persistent message to a queue, on channel 1."""
    method = struct.pack(">HH", 60, 40) + b"\0\0\0" + short(queue) + b"\0"
    header = struct.pack(">HHQHB", 60, 0, len(body), 1 << 12, 2)
    return b"".join(struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce" for kind, payload in ((1, method), (2, header), (3, body)))


class Wire:
    """A socket that speaks frames."""

    def __init__(self, context):
        self.socket = socket.create_connection(context.address, timeout=20)

    def raw(self, data):
        self.socket.sendall(data)

    def frame(self, kind, channel, payload, end=0xCE):
        self.raw(struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([end]))

    def method(self, channel, class_, method, arguments=b""):
        self.frame(1, channel, struct.pack(">HH", class_, method) + arguments)

    def exactly(self, n):
        data = b""
        while len(data) < n:
            more = self.socket.recv(n - len(data))
            if not more:
                return None
            data += more
        return data

    def receive(self):
        """The next frame but heartbeats: kind, channel, payload; None at the end."""
        while True:
            head = self.exactly(7)
            if head is None:
                return None
            kind, channel, size = struct.unpack(">BHI", head)
            payload = self.exactly(size + 1)
            if payload is None:
                return None
            if kind != 8:
                return kind, channel, payload[:-1]

    def expect(self, class_, method):
        frame = self.receive()
        that(frame is not None, "the connection ended")
        equal(struct.unpack(">HH", frame[2][:4]), (class_, method), "method")
        return frame[2][4:]

    def code(self):
        """The reply code that the connection, or a channel, is closed with; None if it just ends."""
        while True:
            try:
                frame = self.receive()
            except ConnectionResetError:
                return None
            if frame is None:
                return None
            ids = struct.unpack(">HH", frame[2][:4])
            if ids in ((10, 50), (20, 40)):
                return struct.unpack(">H", frame[2][4:6])[0]

    def open(self, heartbeat=0, channels=2047, capabilities=()):
        """Logs in; `capabilities` are those that the client says it has."""
        self.raw(b"AMQP\x00\x00\x09\x01")
        self.expect(10, 10)
        response = b"\0guest\0guest"
        has = b"".join(bytes([len(name)]) + name.encode() + b"t\x01" for name in capabilities)
        properties = b"\x0ccapabilitiesF" + struct.pack(">I", len(has)) + has
        self.method(0, 10, 11, struct.pack(">I", len(properties)) + properties + b"\x05PLAIN" + struct.pack(">I", len(response)) + response + b"\x05en_US")
        self.expect(10, 30)
        self.method(0, 10, 31, struct.pack(">HIH", channels, 131072, heartbeat))
        self.method(0, 10, 40, b"\x01/\0\0")
        self.expect(10, 41)
        return self

    def channel(self, n=1):
        self.method(n, 20, 10, b"\0")
        self.expect(20, 11)
        return self


@check("another protocol is answered with ours, and closed")
def greeting(context):
    for hello in [b"GET / HTTP/1.1\r\n\r\n", b"AMQP\x01\x01\x00\x0a", b"AMQP\x00\x00\x08\x00"]:
        wire = Wire(context)
        wire.raw(hello)
        equal(wire.exactly(8), b"AMQP\x00\x00\x09\x01")
        try:
            equal(wire.exactly(1), None)
        except ConnectionResetError:
            pass


@check("server properties name the capabilities")
def capabilities(context):
    wire = Wire(context)
    wire.raw(b"AMQP\x00\x00\x09\x01")
    start = wire.expect(10, 10)
    equal(start[:2], b"\x00\x09")
    for name in [b"publisher_confirms", b"exchange_exchange_bindings", b"basic.nack", b"consumer_cancel_notify", b"connection.blocked",
                 b"consumer_priorities", b"authentication_failure_close", b"per_consumer_qos", b"direct_reply_to", b"product", b"version", b"PLAIN"]:
        that(name in start, name.decode())


@check("frames that cannot be read close the connection with 501")
def frame_errors(context):
    for send in [
        lambda w: w.frame(1, 1, b"\x00\x14\x00\x0a\x00", end=0),
        lambda w: w.raw(struct.pack(">BHI", 1, 1, 131_073 + 8)),
    ]:
        wire = Wire(context).open()
        send(wire)
        equal(wire.code(), 501)


@check("methods that do not exist, or are cut short, close the connection")
def method_errors(context):
    for class_, method in [(50, 999), (999, 10)]:
        wire = Wire(context).open().channel()
        wire.method(1, class_, method)
        # RabbitMQ 3.10 just ends the connection.
        equal(wire.code(), 540 if context.peer == "millstream" else None, f"{class_}.{method}")
    wire = Wire(context).open().channel()
    wire.method(1, 50, 10, b"\0\0\xffshort")
    equal(wire.code(), 502 if context.peer == "millstream" else 501)


@check("methods on a channel that is not open close the connection with 504")
def channel_errors(context):
    wire = Wire(context).open()
    wire.method(5, 50, 10, b"\0\0\x01q\0" + struct.pack(">I", 0))
    equal(wire.code(), 504)
    wire = Wire(context).open().channel()
    wire.method(1, 20, 10, b"\0")
    equal(wire.code(), 504)


@check("content out of sequence closes the connection with 505")
def content_errors(context):
    publish = b"\0\0\0\x01q\0"
    for then in [
        lambda w: w.method(1, 50, 10, b"\0\0\x01q\0" + struct.pack(">I", 0)),
        lambda w: w.frame(3, 1, b"body"),
        lambda w: w.frame(2, 1, struct.pack(">HHQH", 50, 0, 1, 0)),
    ]:
        wire = Wire(context).open().channel()
        wire.method(1, 60, 40, publish)
        then(wire)
        equal(wire.code(), 505)
    wire = Wire(context).open().channel()
    wire.frame(8, 1, b"")
    equal(wire.code(), 505, "a heartbeat on a channel")


@check("more channels than agreed are refused")
def too_many_channels(context):
    wire = Wire(context).open(channels=2).channel(1).channel(2)
    wire.method(3, 20, 10, b"\0")
    equal(wire.code(), 530)


@check("a client that falls silent is closed after two heartbeats, and another is not disturbed")
def silence(context):
    other = Wire(context).open()
    wire = Wire(context).open(heartbeat=1)
    began = time.monotonic()
    equal(wire.code(), None)
    that(time.monotonic() - began < 15, "within a while")
    other.channel()


@check("a nested table is refused or taken, and another connection is not disturbed", peer="millstream")
def nested(context):
    table = b""
    for _ in range(5_000):
        table = b"\x01nF" + struct.pack(">I", len(table)) + table
    wire, other = Wire(context).open().channel(), Wire(context).open()
    name = unique("nested").encode()
    wire.method(1, 50, 10, b"\0\0" + bytes([len(name)]) + name + b"\0" + struct.pack(">I", len(table)) + table)
    equal(wire.code(), 502)
    other.channel()


@check("methods of connection that do not belong there close it with 504, and content on its channel with 505")
def connection_state(context):
    for method, arguments in [(40, b"\x01/\0\0"), (31, b"\0\0\0\2\0\0\0\0"), (60, b"\0")]:
        wire = Wire(context).open()
        wire.method(0, 10, method, arguments)
        equal(wire.code(), 504, f"10.{method}")
    wire = Wire(context).open()
    wire.frame(2, 0, struct.pack(">HHQH", 60, 0, 1, 0))
    equal(wire.code(), 505, "content")


@check("a ticket of AMQP 0-8 is given to whoever asks for one")
def ticket(context):
    wire = Wire(context).open().channel()
    wire.method(1, 30, 10, short("/data") + b"\x1f")
    wire.expect(30, 11)


@check("a message that is too large closes its channel alone, however much of it still comes")
def too_large(context):
    size, piece = (128 << 20) + 1, b"\0" * (131_072 - 8)
    wire = Wire(context).open().channel(1).channel(2)
    wire.method(1, 60, 40, b"\0\0\0\1k\0")
    # What announces it and the first of it are read together.
    frames = [(2, struct.pack(">HHQH", 60, 0, size, 0)), (3, b"\0"), (3, b"\0")]
    wire.raw(b"".join(struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce" for kind, payload in frames))
    for sent in range(2, size, len(piece)):
        wire.frame(3, 1, piece[:size - sent])
    wire.method(1, 60, 40, b"\0\0\0\1k\0")
    wire.frame(2, 1, struct.pack(">HHQH", 60, 0, 0, 0))
    closed = wire.expect(20, 40)
    equal(struct.unpack(">H", closed[:2])[0], 406)
    that(b"is larger than configured max size" in closed, closed)
    wire.method(1, 20, 41)
    wire.method(2, 20, 40, struct.pack(">H", 200) + b"\0\0\0\0\0")
    wire.expect(20, 41)
    wire.channel(1)


@check("a client may still be writing when its close is answered")
def writing_on(context):
    wire = Wire(context).open().channel()
    wire.method(0, *CLOSE, b"\0\xc8\0\0\0\0\0")
    # More than the sockets hold: it goes through only if it is read.
    more = published(unique("writing-on"), b"x" * 100_000)
    for _ in range(160):
        wire.raw(more)
    wire.expect(10, 51)
    wire.raw(more)
