"""Record batches (magic 2) made and taken apart by hand."""

import gzip
import struct
import time


def _table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


_CRC = _table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _varint(value):
    value = value << 1 ^ value >> 63
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def batch(values, producer=-1, epoch=-1, sequence=-1, base_timestamp=None, deltas=None, attributes=0, compress=False,
          magic=2, crc_xor=0, count=None, last_delta=None):
    """One batch of records with these values; the odd parameters make it wrong on purpose."""
    now = int(time.time() * 1000) if base_timestamp is None else base_timestamp
    deltas = deltas or [0] * len(values)
    records = b""
    for index, value in enumerate(values):
        record = b"\x00" + _varint(deltas[index]) + _varint(index) + _varint(-1) + _varint(len(value)) + value + _varint(0)
        records += _varint(len(record)) + record
    if compress:
        attributes |= 1
        records = gzip.compress(records)
    tail = struct.pack(">hiqqqhii", attributes, len(values) - 1 if last_delta is None else last_delta, now,
                       now + max(deltas, default=0), producer, epoch, sequence, len(values) if count is None else count) + records
    checked = struct.pack(">iBI", 0, magic, crc32c(tail) ^ crc_xor) + tail
    return struct.pack(">qi", 0, len(checked)) + checked


def headers(data):
    """The header fields of each whole batch in a Fetch response: dictionaries in order."""
    found = []
    at = 0
    while at + 61 <= len(data):
        base, length = struct.unpack_from(">qi", data, at)
        if at + 12 + length > len(data):
            break
        epoch, magic, crc = struct.unpack_from(">iBI", data, at + 12)
        attributes, last, first_time, max_time, producer, pepoch, sequence, count = struct.unpack_from(">hiqqqhii", data, at + 21)
        found.append({"base": base, "length": length, "leader_epoch": epoch, "magic": magic, "attributes": attributes,
                      "last": base + last, "max_time": max_time, "producer": producer, "epoch": pepoch, "sequence": sequence,
                      "count": count, "crc_right": crc == crc32c(data[at + 21:at + 12 + length])})
        at += 12 + length
    return found
