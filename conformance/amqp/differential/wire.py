"""One AMQP connection on a bare socket: pika's codec for methods, and table fields that keep their type. Start at `Wire`.

A client library would hide what is compared here: which channel closed and why, what came before a confirm, delivery tags. Field values
are pairs of the type's letter and a value, so that a whole number that comes back in another width is seen."""

import collections
import select
import socket
import struct
import time

import pika
import pika.data
from pika import spec
from pika.compat import as_bytes

REPLY_SECONDS_MAX = 20.0
BODY_FRAME_BYTES = 100_000
NUMBERS = {"b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "f": ">f", "d": ">d", "T": ">Q"}


class Lost(Exception):
    """The broker ended the connection without a word, or did not answer."""


def _encode_value(pieces, value):
    kind, content = value
    if kind in NUMBERS:
        data = struct.pack(NUMBERS[kind], content)
    elif kind == "t":
        data = bytes([content])
    elif kind == "D":
        data = struct.pack(">Bi", *content)
    elif kind in "Sx":
        raw = as_bytes(content)
        data = struct.pack(">I", len(raw)) + raw
    elif kind == "A":
        inner = []
        for one in content:
            _encode_value(inner, one)
        raw = b"".join(inner)
        data = struct.pack(">I", len(raw)) + raw
    elif kind == "F":
        inner = []
        pika.data.encode_table(inner, content)
        data = b"".join(inner)
    else:
        data = b""
    pieces.append(kind.encode() + data)
    return 1 + len(data)


def _decode_value(encoded, offset):
    kind = chr(encoded[offset])
    offset += 1
    if kind in NUMBERS:
        size = struct.calcsize(NUMBERS[kind])
        return (kind, struct.unpack_from(NUMBERS[kind], encoded, offset)[0]), offset + size
    if kind == "t":
        return (kind, encoded[offset] != 0), offset + 1
    if kind == "D":
        return (kind, struct.unpack_from(">Bi", encoded, offset)), offset + 5
    if kind == "V":
        return (kind, None), offset
    if kind == "F":
        table, offset = pika.data.decode_table(encoded, offset)
        return (kind, table), offset
    size = struct.unpack_from(">I", encoded, offset)[0]
    offset, end = offset + 4, offset + 4 + size
    if kind in "Sx":
        raw = encoded[offset:end]
        return (kind, raw if kind == "x" else raw.decode("utf-8", "backslashreplace")), end
    if kind != "A":
        raise ValueError(f"a field of type {kind!r}")
    items = []
    while offset < end:
        item, offset = _decode_value(encoded, offset)
        items.append(item)
    return (kind, items), end


pika.data.encode_value = _encode_value
pika.data.decode_value = _decode_value


def encode_frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


class Channel:
    """What came on one channel since it was opened, and has not been taken."""

    def __init__(self):
        self.closed = None
        self.replies = collections.deque()
        self.deliveries = {}
        self.returns = []
        self.confirms = {}
        self.cancels = []
        self.unacked = {}  # tag: consumer and body's name
        self.withheld = {}  # settled in a transaction that is not committed
        self.transactional = False
        self.confirming = False
        self.published = 0
        self.no_ack = set()
        self.tags = set()
        self.confirmed_bodies = set()
        self.tag_bodies = {}
        self.pending = None


class Wire:
    """A connection. `call` for methods that are answered, `send` for others, `barrier` before looking at what came."""

    def __init__(self, address, user="guest", password="guest"):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=REPLY_SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.out = []
        self.closed = None
        self.channels = {}
        self.control = collections.deque()
        self.socket.sendall(b"AMQP\0\0\x09\x01")
        self._control(spec.Connection.Start)
        told = {"capabilities": ("F", {name: ("t", True) for name in (
            "consumer_cancel_notify", "publisher_confirms", "basic.nack", "exchange_exchange_bindings", "authentication_failure_close")})}
        self.send(0, spec.Connection.StartOk(client_properties=told, mechanism="PLAIN", response=f"\0{user}\0{password}", locale="en_US"))
        self._control(spec.Connection.Tune)
        self.send(0, spec.Connection.TuneOk(channel_max=2047, frame_max=131072, heartbeat=0))
        self.send(0, spec.Connection.Open(virtual_host="/"))
        self._control(spec.Connection.OpenOk)

    def channel(self, number):
        """The channel of this number, opened if it is not."""
        channel = self.channels.get(number)
        if channel is None or channel.closed:
            channel = self.channels[number] = Channel()
            self.call(number, spec.Channel.Open())
        return channel

    def send(self, number, method, properties=None, body=b""):
        pieces = [encode_frame(1, number, struct.pack(">HH", method.INDEX >> 16, method.INDEX & 0xFFFF) + b"".join(method.encode()))]
        if properties is not None:
            header = struct.pack(">HHQ", 60, 0, len(body)) + b"".join(properties.encode())
            pieces.append(encode_frame(2, number, header))
            for at in range(0, len(body), BODY_FRAME_BYTES):
                pieces.append(encode_frame(3, number, body[at:at + BODY_FRAME_BYTES]))
        self.out.append(b"".join(pieces))

    def flush(self):
        data, self.out = b"".join(self.out), []
        if data and self.closed is None:
            try:
                self.socket.sendall(data)
            except OSError:
                self._read_all()
                self.closed = self.closed or ("lost",)

    def call(self, number, method):
        """Sends a method; its answer, or None if the channel or the connection was closed instead."""
        channel = self.channels[number]
        self.send(number, method)
        return self.reply(channel)

    def reply(self, channel):
        self.flush()
        deadline = time.monotonic() + REPLY_SECONDS_MAX
        while not channel.replies:
            if channel.closed or self.closed:
                return None
            self.read(deadline)
        return channel.replies.popleft()

    def _control(self, kind):
        self.flush()
        deadline = time.monotonic() + REPLY_SECONDS_MAX
        while not self.control:
            if self.closed:
                raise Lost(str(self.closed))
            self.read(deadline)
        method = self.control.popleft()
        if not isinstance(method, kind):
            raise Lost(f"{method} where {kind.__name__} was to come")
        return method

    def close(self):
        """Closes in order; what the broker says to that."""
        if self.closed is None:
            self.send(0, spec.Connection.Close(200, "bye", 0, 0))
            self._control(spec.Connection.CloseOk)
            self.closed = ("bye",)
        self.socket.close()

    def read(self, deadline):
        """Takes in what there is, waiting for something until the deadline."""
        ready, _, _ = select.select([self.socket], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise Lost("no answer")
        try:
            data = self.socket.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            self.closed = self.closed or ("lost",)
            return
        self.buffer += data
        self._frames()

    def _read_all(self):
        try:
            while not self.closed and select.select([self.socket], [], [], 0.2)[0]:
                self.read(time.monotonic() + 0.2)
        except (OSError, Lost):
            pass

    def _frames(self):
        at, data = 0, self.buffer
        while len(data) - at >= 8:
            kind, number, size = struct.unpack_from(">BHI", data, at)
            if len(data) - at < size + 8:
                break
            self._frame(kind, number, data[at + 7:at + 7 + size])
            at += size + 8
        self.buffer = data[at:]

    def _frame(self, kind, number, payload):
        if kind == 8:
            return
        if kind == 1:
            method = spec.methods[struct.unpack_from(">I", payload)[0]]()
            method.decode(payload, 4)
            if number == 0:
                self._connection_method(method)
            elif number in self.channels:
                self._method(number, self.channels[number], method)
            return
        channel = self.channels.get(number)
        if channel is None or channel.pending is None:
            return
        pending = channel.pending
        if kind == 2:
            pending[2] = struct.unpack_from(">Q", payload, 4)[0]
            pending[1] = spec.BasicProperties()
            pending[1].decode(payload, 12)
        else:
            pending[3] += payload
        if len(pending[3]) >= pending[2]:
            channel.pending = None
            self._content(channel, pending[0], pending[1], pending[3])

    def _connection_method(self, method):
        if isinstance(method, spec.Connection.Close):
            self.closed = ("connection", method.reply_code, method.reply_text, method.class_id, method.method_id)
            self.send(0, spec.Connection.CloseOk())
            data, self.out = b"".join(self.out), []
            try:
                self.socket.sendall(data)
            except OSError:
                pass
        else:
            self.control.append(method)

    def _method(self, number, channel, method):
        if isinstance(method, (spec.Basic.Deliver, spec.Basic.Return, spec.Basic.GetOk)):
            channel.pending = [method, None, 0, b""]
        elif isinstance(method, spec.Channel.Close):
            channel.closed = (method.reply_code, method.reply_text, method.class_id, method.method_id)
            self.send(number, spec.Channel.CloseOk())
            self.flush()
        elif isinstance(method, (spec.Basic.Ack, spec.Basic.Nack)):
            self._confirm(channel, method)
        elif isinstance(method, spec.Basic.Cancel):
            channel.cancels.append(method.consumer_tag)
        elif not isinstance(method, spec.Channel.CloseOk):
            channel.replies.append(method)

    @staticmethod
    def _confirm(channel, method):
        outcome = type(method).__name__
        tags = range(1, method.delivery_tag + 1) if method.multiple else [method.delivery_tag]
        for tag in tags:
            if channel.tag_bodies.pop(tag, None) is not None:
                channel.confirms[tag] = outcome
            elif not method.multiple:
                channel.confirms[tag] = f"{outcome}, and not the first time"

    @staticmethod
    def _content(channel, method, properties, body):
        if isinstance(method, spec.Basic.GetOk):
            channel.replies.append((method, properties, body))
        elif isinstance(method, spec.Basic.Return):
            channel.returns.append((method, properties, body, body_name(body) in channel.tag_bodies.values()))
        else:
            channel.deliveries.setdefault(method.consumer_tag, []).append((method, properties, body))
            if method.consumer_tag not in channel.no_ack:
                channel.unacked[method.delivery_tag] = (method.consumer_tag, body_name(body))


def body_name(body):
    """What tells a body from others; the rest is padding."""
    return body.split(b".")[0].decode("utf-8", "replace")
