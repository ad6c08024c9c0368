"""Consumers that do not keep up: they settle nothing, or read nothing at all. Nothing of theirs is lost, and the broker does not hold it in memory."""

import glob
import os
import socket
import struct

from .frames import Wire, published, short
from .harness import check, count, deliveries, equal, quiet, take, that, unique, until

MIB = 1 << 20
BODY = b"m" * 4096
# Of a backlog that is several times as large: what the broker's caches may grow by meanwhile. RabbitMQ 3.10 holds all of it, and more.
RESIDENT_MIB_MAX = 96


def publish(wire, queue, n, body=BODY):
    """Publishes so many persistent messages at once, and waits until all are confirmed."""
    # Another check may have publishers held for a while.
    wire.socket.settimeout(60)
    wire.method(1, 85, 10, b"\0")
    wire.expect(85, 11)
    frames = published(queue, body)
    sent = confirmed = 0
    while confirmed < n:
        while sent < n and sent - confirmed < 1_000:
            some = min(100, n - sent)
            wire.raw(frames * some)
            sent += some
        answer = wire.expect(60, 80)
        confirmed = struct.unpack(">Q", answer[:8])[0] if answer[8] else confirmed + 1


def consume(wire, queue, prefetch=0):
    wire.method(1, 60, 10, struct.pack(">IHB", 0, prefetch, 0))
    wire.expect(60, 11)
    wire.method(1, 60, 20, b"\0\0" + short(queue) + short("slow") + b"\0" + struct.pack(">I", 0))
    wire.expect(60, 21)


def resident_mib(context):
    """Resident memory of the process that listens on the broker's port; `None` where that cannot be looked up."""
    port = "%04X" % context.address[1]
    try:
        with open("/proc/net/tcp") as table:
            rows = [line.split() for line in table]
        inodes = {"socket:[%s]" % r[9] for r in rows if r[1].endswith(":" + port) and r[3] == "0A"}
        for link in glob.glob("/proc/[0-9]*/fd/*"):
            try:
                found = os.readlink(link) in inodes
            except OSError:
                continue
            if found:
                with open(f"/proc/{link.split('/')[2]}/status") as status:
                    return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))
    except OSError:
        pass
    return None


@check("a consumer that never reads holds no more of a backlog than its socket, and what it was sent comes again when it dies")
def never_reads(context):
    n, queue = 40_000, unique("slow")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True)
        slow = Wire(context).open().channel()
        # So that the kernel holds little of what is sent.
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        consume(slow, queue)
        before = resident_mib(context)
        publish(Wire(context).open().channel(), queue, n)
        that(count(channel, queue) < n, "something was sent to it")
        if before is not None and context.peer == "millstream":
            grown = resident_mib(context) - before
            that(grown < RESIDENT_MIB_MAX, f"{n * len(BODY) // MIB} MiB of backlog made the broker {grown} MiB larger")
        # Others are served meanwhile.
        method, _, body = take(channel, queue)
        equal((method.redelivered, body), (False, BODY))
        channel.basic_nack(method.delivery_tag)
        slow.socket.close()
        until("all are back", lambda: count(channel, queue) == n, seconds=60)
        that(take(channel, queue)[0].redelivered, "the first was sent before")
        channel.queue_delete(queue)


@check("a consumer that settles nothing holds what it took, in order, until it dies")
def never_settles(context):
    n, queue = 5_000, unique("slow")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True)
        holder = Wire(context).open().channel()
        consume(holder, queue, prefetch=n)
        publishing = Wire(context).open().channel()
        publish(publishing, queue, n, b"first")
        for _ in range(n):
            holder.expect(60, 60)
            equal([holder.receive()[0] for _ in range(2)], [2, 3])
        equal(count(channel, queue), 0)
        received = []
        channel.basic_consume(queue, lambda _c, method, _p, body: received.append((method.redelivered, body)), auto_ack=True)
        quiet(connection, received, 0)
        publish(publishing, queue, 1, b"last")
        deliveries(connection, received, 1)
        equal(received, [(False, b"last")])
        holder.socket.close()
        deliveries(connection, received, n + 1, seconds=60)
        equal(set(received[1:]), {(True, b"first")})
        channel.queue_delete(queue)
