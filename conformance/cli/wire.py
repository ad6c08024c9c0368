"""As much of Kafka's protocol as these checks need: Produce version 3, one record a batch, and Metadata version 0."""

import socket
import struct

_TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = (_byte >> 1) ^ (0x82F63B78 if _byte & 1 else 0)
    _TABLE.append(_byte)


def crc32c(data):
    """The checksum of Castagnoli."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def varint(number):
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def batch(value, timestamp_ms):
    """A record batch, version 2, of one record without a key."""
    record = b"\x00" + varint(0) + varint(0) + varint(-1) + varint(len(value)) + value + varint(0)
    record = varint(len(record)) + record
    rest = struct.pack(">hiqqqhii", 0, 0, timestamp_ms, timestamp_ms, -1, -1, -1, 1) + record
    rest = struct.pack(">ibI", -1, 2, crc32c(rest)) + rest
    return struct.pack(">qi", 0, len(rest)) + rest


def text(word):
    word = word.encode()
    return struct.pack(">h", len(word)) + word


class Connection:
    """One connection of a Kafka client."""

    def __init__(self, address, within_s=30):
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=within_s)
        self.sent = 0

    def produce(self, topic, partition, records, timeout_ms=10_000):
        """Sends one batch with acks=all: (error code, base offset)."""
        body = struct.pack(">hhi", -1, -1, timeout_ms)
        body += struct.pack(">i", 1) + text(topic) + struct.pack(">iii", 1, partition, len(records)) + records
        answer = self._ask(0, 3, body)
        at = 4 + 2 + len(topic.encode()) + 4
        _, error, base = struct.unpack_from(">ihq", answer, at)
        return error, base

    def brokers(self):
        """Where clients are told that brokers are: (host, port) of each."""
        answer = self._ask(3, 0, struct.pack(">i", 1) + text("t"))
        found, at = [], 4
        for _ in range(struct.unpack_from(">i", answer)[0]):
            length = struct.unpack_from(">h", answer, at + 4)[0]
            host = answer[at + 6:at + 6 + length].decode()
            found.append((host, struct.unpack_from(">i", answer, at + 6 + length)[0]))
            at += 6 + length + 4
        return found

    def _ask(self, api, version, body):
        """Sends a request; the body of its answer."""
        self.sent += 1
        request = struct.pack(">hhi", api, version, self.sent) + text("cli") + body
        self.socket.sendall(struct.pack(">i", len(request)) + request)
        answer = self._exactly(struct.unpack(">i", self._exactly(4))[0])
        assert struct.unpack_from(">i", answer)[0] == self.sent, "another request's answer"
        return answer[4:]

    def _exactly(self, count):
        found = b""
        while len(found) < count:
            more = self.socket.recv(count - len(found))
            assert more, "the broker closed the connection"
            found += more
        return found

    def close(self):
        self.socket.close()
