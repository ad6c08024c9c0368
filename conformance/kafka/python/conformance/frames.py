"""What bad frames get: the connection closes or the protocol's error comes; the broker goes on, and nobody else notices."""

import os
import socket
import struct

from .clients import consumer, create, watermarks
from .harness import check, equal, that, unique, until
from .records import batch
from .requests import api_versions, fetch_body, fetch_response, produce, produce_body, produce_response
from .wire import Closed, Connection, Reader, Writer, body


def goes_on(context):
    with Connection(context) as c:
        that(api_versions(c), "the broker goes on")


def end_offset(context, topic):
    reader = consumer(context, "unused")
    try:
        return watermarks(reader, topic)[1]
    finally:
        reader.close()


@check("frames: an unknown ApiVersions version gets a version 0 body with error 35 and the ranges")
def api_versions_unknown(context):
    with Connection(context) as c:
        for version in (99, 32_767):
            correlation = c.send_request("ApiVersions", version, Writer(True).string("x").string("1").tags())
            r = Reader(c.receive_frame())
            equal(r.i32(), correlation, "correlation id")
            equal(r.i16(), 35, "error")
            keys = {key: (low, high) for key, low, high in r.array(lambda: (r.i16(), r.i16(), r.i16()))}
            r.end()
            that(18 in keys, "the ranges name ApiVersions")
        that(api_versions(c), "the connection goes on")


@check("frames: the ApiVersions response header is version 0 in every version")
def api_versions_all(context):
    with Connection(context) as c:
        highest = api_versions(c)[18][1]
        for version in range(highest + 1):
            w = body("ApiVersions", version)
            if version >= 3:
                w.string("conformance").string("1.0").tags()
            r = c.call("ApiVersions", version, w)
            equal(r.i16(), 0, f"error, version {version}")

            def entry():
                key, low, high = r.i16(), r.i16(), r.i16()
                r.tags()
                return key, (low, high)

            keys = dict(r.array(entry))
            that(keys[18][1] == highest and keys[0][0] == 0, f"ranges, version {version}: {keys.get(18)}, Produce {keys.get(0)}")


@check("frames: oversized, negative and garbage lengths close the connection")
def lengths(context):
    for what, data in {
        "2 GiB - 1": b"\x7f\xff\xff\xff" + b"x" * 100,
        "1 GiB": b"\x40\x00\x00\x00" + b"x" * 100,
        "negative": b"\xff\xff\xff\xff" + b"x" * 100,
        "the lowest": b"\x80\x00\x00\x00",
        "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(80),
    }.items():
        with Connection(context) as c:
            c.send(data)
            that(c.closed_by_broker(), f"{what}: the connection is not closed")
    goes_on(context)


@check("frames: garbage inside a frame closes the connection")
def garbage(context):
    for what, payload in {
        "nothing": b"",
        "one byte": b"\x00",
        "a header cut short": struct.pack(">hhi", 3, 1, 1),
        "an unknown API": struct.pack(">hhih", 9_999, 0, 1, -1),
        "a negative API": struct.pack(">hhih", -3, 0, 1, -1),
        "a client id past the end": struct.pack(">hhih", 3, 1, 1, 30_000) + b"abc",
        "random bytes": b"\x55" * 300,
        "a negative version": struct.pack(">hhih", 3, -1, 1, -1) + struct.pack(">i", 0),
    }.items():
        with Connection(context) as c:
            c.send(struct.pack(">i", len(payload)) + payload)
            that(c.closed_by_broker(), f"{what}: the connection is not closed")
    goes_on(context)


@check("frames: a frame that stops in the middle hurts nobody")
def truncated(context):
    topic = unique("truncated")
    create(context, topic)
    with Connection(context) as c:
        whole = c.frame("Produce", 7, produce_body(7, topic, 0, batch([b"never"])))
    for cut in (1, 3, 4, 10, len(whole) // 2, len(whole) - 1):
        with Connection(context) as c:
            c.send(whole[:cut])
            c.socket.shutdown(socket.SHUT_WR)
            that(c.closed_by_broker(), f"cut at {cut}: not closed after the client's end")
    equal(end_offset(context, topic), 0, "end offset")
    goes_on(context)


@check("frames: a body shorter than its version says closes the connection, and nothing of it is done")
def short_bodies(context):
    topic = unique("short")
    create(context, topic)
    produce_whole = produce_body(7, topic, 0, batch([b"never"]))
    fetch_whole = fetch_body(11, [(topic, [(0, 0)])])
    for api, version, whole in (("Produce", 7, produce_whole), ("Fetch", 11, fetch_whole)):
        for cut in (1, 5, len(whole.data) // 2):
            with Connection(context) as c:
                c.send_request(api, version, Writer().raw(bytes(whole.data)[:-cut]))
                that(c.closed_by_broker(), f"{api} cut by {cut}: not closed")
    equal(end_offset(context, topic), 0, "end offset")


def refused(context, api, version, data, what):
    """The connection closes, or an answer comes that takes nothing for granted; never more than ten seconds."""
    with Connection(context, seconds=10) as c:
        c.send_request(api, version, Writer().raw(data))
        try:
            return c.receive_frame()
        except Closed:
            return None
        except TimeoutError:
            raise AssertionError(f"{what}: neither closed nor answered") from None


@check("frames: hostile array and string lengths are refused before memory is taken")
def hostile(context):
    most = struct.pack(">i", 2**31 - 1)
    huge = bytes([0xFF] * 4 + [0x0F])  # the uvarint of 2^32 - 1
    endless = bytes([0xFF] * 12)
    cases = [
        ("Metadata", 1, most, "2^31-1 topics"),
        ("Metadata", 1, most + struct.pack(">h", 3) + b"abc", "2^31-1 topics, one given"),
        ("Metadata", 1, struct.pack(">ih", 1, 32_767), "a string past the end"),
        ("Metadata", 1, struct.pack(">ih", 1, -5), "a string of length -5"),
        ("Metadata", 12, huge, "2^32-2 topics, flexible"),
        ("Metadata", 12, endless, "a varint without end"),
        ("Metadata", 12, b"\x01\x00\x00" + huge, "2^32-1 tagged fields"),
        ("Fetch", 11, struct.pack(">iiiibii", -1, 0, 1, 1 << 20, 0, 0, -1) + most, "2^31-1 topics in Fetch"),
        ("Produce", 7, struct.pack(">hhi", -1, -1, 1_000) + most, "2^31-1 topics in Produce"),
        ("Produce", 7, struct.pack(">hhiih", -1, -1, 1_000, 1, 1) + b"t" + struct.pack(">iii", 1, 0, 2**31 - 1), "2 GiB of records"),
        ("OffsetFetch", 1, struct.pack(">h", 1) + b"g" + most, "2^31-1 topics in OffsetFetch"),
        ("CreateTopics", 2, most, "2^31-1 topics in CreateTopics"),
        ("DeleteTopics", 1, most, "2^31-1 topics in DeleteTopics"),
        ("JoinGroup", 5, struct.pack(">h", 1) + b"g" + struct.pack(">iihhh", 6_000, 6_000, 0, -1, 8) + b"consumer" + most,
         "2^31-1 protocols in JoinGroup"),
        ("DescribeGroups", 0, most, "2^31-1 groups"),
    ]
    for api, version, data, what in cases:
        answer = refused(context, api, version, data, what)
        that(answer is None or len(answer) < 10_000, f"{what}: a big answer")
    goes_on(context)


@check("frames: versions outside the table are not served")
def unserved_versions(context):
    topic = unique("unserved")
    create(context, topic)
    cases = [("Produce", v, produce_body(3, topic, 0, batch([b"never"])).data) for v in (0, 1, 2)]
    cases += [("Fetch", v, fetch_body(4, [(topic, [(0, 0)])]).data) for v in (0, 3, 90)]
    cases += [("Metadata", 60, struct.pack(">i", 0)), ("JoinGroup", 60, b"\x00\x01g"), ("ListOffsets", 60, b"")]
    for api, version, data in cases:
        answer = refused(context, api, version, bytes(data), f"{api} {version}")
        # closed, or answered with error 35 somewhere in it
        that(answer is None or b"\x00\x23" in answer[4:], f"{api} version {version} was answered: {answer and answer[:40]!r}")
    equal(end_offset(context, topic), 0, "end offset")
    goes_on(context)


@check("frames: acks 0 gets no response, and its error closes the connection")
def no_acks(context):
    topic = unique("no-acks")
    create(context, topic)
    with Connection(context) as c:
        for n in range(3):
            c.send_request("Produce", 7, produce_body(7, topic, 0, batch([str(n).encode()]), acks=0))
        that(api_versions(c), "the next response belongs to the next request")
        equal(produce(c, topic, batch([b"3"])), (0, 3), "stored before what came after")
    with Connection(context) as c:
        c.send_request("Produce", 7, produce_body(7, topic, 0, batch([b"x"], crc_xor=1), acks=0))
        that(c.closed_by_broker(), "an error under acks 0 closes the connection")
    with Connection(context) as c:
        c.send_request("Produce", 7, produce_body(7, topic, 9, batch([b"x"]), acks=0))
        that(c.closed_by_broker(), "an unknown partition under acks 0 closes the connection")
    with Connection(context) as c:
        that(produce(c, topic, batch([b"x"]), acks=2)[0] == 21, "acks 2 gets 21")
    equal(end_offset(context, topic), 4, "end offset")


@check("frames: responses come in the order of the requests")
def in_order(context):
    topic = unique("in-order")
    create(context, topic)
    with Connection(context) as c:
        slow = c.frame("Fetch", 11, fetch_body(11, [(topic, [(0, 0)])], wait_ms=700, min_bytes=1_000_000))
        first = c.correlation
        versions = c.frame("ApiVersions", 0, body("ApiVersions", 0))
        second = c.correlation
        writes = [c.frame("Produce", 7, produce_body(7, topic, 0, batch([str(n).encode()]))) for n in range(20)]
        c.send(slow + versions + b"".join(writes))  # in one go
        fetch_response(c.receive("Fetch", 11, first), 11)
        equal(c.receive("ApiVersions", 0, second).i16(), 0, "ApiVersions error")
        for n in range(20):
            equal(produce_response(c.receive("Produce", 7, second + 1 + n), 7), (0, n), f"produce {n}")


@check("frames: requests in single bytes, odd client ids and unknown tagged fields are read")
def odd_but_right(context):
    topic = unique("odd-right")
    create(context, topic)
    with Connection(context) as c:
        for byte in c.frame("Produce", 7, produce_body(7, topic, 0, batch([b"slowly"]))):
            c.send(bytes([byte]))
        equal(produce_response(c.receive("Produce", 7, c.correlation), 7), (0, 0), "byte by byte")
        for client in (None, "", "ü" * 100, "x" * 5_000):
            c.send(c.frame("ApiVersions", 0, body("ApiVersions", 0), client))
            equal(c.receive("ApiVersions", 0, c.correlation).i16(), 0, "ApiVersions error")
        tagged = Writer(True).string("conformance").string("1").uvarint(2).uvarint(70).uvarint(3).raw(b"abc").uvarint(71).uvarint(0)
        equal(c.call("ApiVersions", 3, tagged).i16(), 0, "with unknown tagged fields")


@check("frames: two hundred connections at once, each closed in its own way")
def many_connections(context):
    connections = [Connection(context) for _ in range(200)]
    try:
        for n, c in enumerate(connections):
            if n % 3 == 0:
                c.send_request("ApiVersions", 0, body("ApiVersions", 0))
            elif n % 3 == 1:
                c.send(b"\x00\x00")
        for c in connections[::3]:
            equal(c.receive("ApiVersions", 0, 1).i16(), 0, "ApiVersions error")
    finally:
        for c in connections:
            c.close()
    until("the broker goes on", lambda: goes_on(context) is None, 10)
