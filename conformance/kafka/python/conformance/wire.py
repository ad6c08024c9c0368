"""Just enough of the Kafka protocol on a plain socket to say what no client library would. Start at `Connection`."""

import socket
import struct
import uuid


class Writer:
    """Encodes one request body; `flexible` chooses compact strings and arrays and adds tagged fields."""

    def __init__(self, flexible=False):
        self.flexible = flexible
        self.data = bytearray()

    def i8(self, v):
        self.data += struct.pack(">b", v)
        return self

    def i16(self, v):
        self.data += struct.pack(">h", v)
        return self

    def i32(self, v):
        self.data += struct.pack(">i", v)
        return self

    def i64(self, v):
        self.data += struct.pack(">q", v)
        return self

    def uvarint(self, v):
        while v >= 0x80:
            self.data.append(v & 0x7F | 0x80)
            v >>= 7
        self.data.append(v)
        return self

    def raw(self, data):
        self.data += data
        return self

    def uuid(self, v):
        self.data += v.bytes
        return self

    def string(self, v):
        if self.flexible:
            if v is None:
                return self.uvarint(0)
            v = v.encode() if isinstance(v, str) else v
            return self.uvarint(len(v) + 1).raw(v)
        if v is None:
            return self.i16(-1)
        v = v.encode() if isinstance(v, str) else v
        return self.i16(len(v)).raw(v)

    def bytes(self, v):
        if self.flexible:
            return self.uvarint(0) if v is None else self.uvarint(len(v) + 1).raw(v)
        return self.i32(-1) if v is None else self.i32(len(v)).raw(v)

    def array(self, items, each):
        if items is None:
            return self.uvarint(0) if self.flexible else self.i32(-1)
        self.uvarint(len(items) + 1) if self.flexible else self.i32(len(items))
        for item in items:
            each(item)
        return self

    def tags(self):
        return self.uvarint(0) if self.flexible else self


class Reader:
    """Decodes one response body."""

    def __init__(self, data, flexible=False):
        self.data = data
        self.at = 0
        self.flexible = flexible

    def take(self, count):
        if count < 0 or self.at + count > len(self.data):
            raise AssertionError("the response is shorter than it says")
        self.at += count
        return self.data[self.at - count:self.at]

    def i8(self):
        return struct.unpack(">b", self.take(1))[0]

    def i16(self):
        return struct.unpack(">h", self.take(2))[0]

    def i32(self):
        return struct.unpack(">i", self.take(4))[0]

    def i64(self):
        return struct.unpack(">q", self.take(8))[0]

    def uvarint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def uuid(self):
        return uuid.UUID(bytes=bytes(self.take(16)))

    def string(self):
        length = self.uvarint() - 1 if self.flexible else self.i16()
        return None if length < 0 else bytes(self.take(length)).decode()

    def bytes(self):
        length = self.uvarint() - 1 if self.flexible else self.i32()
        return None if length < 0 else bytes(self.take(length))

    def array(self, each):
        length = self.uvarint() - 1 if self.flexible else self.i32()
        return None if length < 0 else [each() for _ in range(length)]

    def tags(self):
        if self.flexible:
            for _ in range(self.uvarint()):
                self.uvarint()
                self.take(self.uvarint())

    def end(self):
        if self.at != len(self.data):
            raise AssertionError(f"{len(self.data) - self.at} bytes of the response are left over")


# name: (api key, first flexible version)
APIS = {
    "Produce": (0, 9), "Fetch": (1, 12), "ListOffsets": (2, 6), "Metadata": (3, 9), "OffsetCommit": (8, 8),
    "OffsetFetch": (9, 6), "FindCoordinator": (10, 3), "JoinGroup": (11, 6), "Heartbeat": (12, 4), "LeaveGroup": (13, 4),
    "SyncGroup": (14, 4), "DescribeGroups": (15, 5), "ListGroups": (16, 3), "ApiVersions": (18, 3), "CreateTopics": (19, 5),
    "DeleteTopics": (20, 4), "InitProducerId": (22, 2), "OffsetForLeaderEpoch": (23, 4), "AddPartitionsToTxn": (24, 3),
    "EndTxn": (26, 3), "DescribeConfigs": (32, 4), "AlterConfigs": (33, 2), "CreatePartitions": (37, 2), "DeleteGroups": (42, 2),
    "IncrementalAlterConfigs": (44, 1), "DescribeCluster": (60, 0),
}


class Closed(Exception):
    """The broker closed the connection."""


class Connection:
    """One connection. `call` sends a request and returns a `Reader` at the response's body."""

    def __init__(self, context, seconds=15.0):
        self.socket = socket.create_connection(context.address, timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def frame(self, api, version, body, client="conformance"):
        """The bytes of a request, its length in front; takes the next correlation id."""
        key, flexible = APIS[api]
        self.correlation += 1
        header = Writer().i16(key).i16(version).i32(self.correlation).string(client)
        if version >= flexible:
            header.uvarint(0)
        payload = bytes(header.data) + bytes(body.data)
        return struct.pack(">i", len(payload)) + payload

    def send(self, data):
        self.socket.sendall(data)

    def send_request(self, api, version, body):
        self.send(self.frame(api, version, body))
        return self.correlation

    def receive_frame(self):
        size = struct.unpack(">i", self._exactly(4))[0]
        return self._exactly(size)

    def receive(self, api, version, correlation):
        flexible = version >= APIS[api][1]
        reader = Reader(self.receive_frame(), flexible)
        got = reader.i32()
        if got != correlation:
            raise AssertionError(f"correlation id {got}, want {correlation}")
        if api != "ApiVersions":
            reader.tags()
        return reader

    def call(self, api, version, body):
        return self.receive(api, version, self.send_request(api, version, body))

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionError as error:
                raise Closed(str(error)) from error
            if not more:
                raise Closed("end of stream")
            data += more
        return data

    def closed_by_broker(self, seconds=10.0):
        """True once the broker closes the connection without another byte."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


def body(api, version):
    return Writer(version >= APIS[api][1])
