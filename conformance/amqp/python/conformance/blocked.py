"""Publishers while the broker has no room: held by their sockets, told if they ask to be, and not taken for dead. What raises the alarm differs
by broker, so what is checked is in `held`."""

import select
import socket
import struct
import threading
import time

from .frames import Wire, published
from .harness import check, count, deliveries, equal, that, unique, until

BODY = b"m" * 60_000
# Far more than sockets and the broker's inboxes hold.
SENT_BYTES_MAX = 256 << 20
# Seconds; and how many come: each is half of it after the last, and a client that is silent for twice of it is dead.
HEARTBEAT = 2
HEARTBEATS = 5
BLOCKED, UNBLOCKED, ACK = (10, 60), (10, 61), (60, 80)


class Publisher(Wire):
    """Sends as much as its socket takes; notes what it is told."""

    def __init__(self, context, queue, capabilities):
        super().__init__(context)
        self.open(heartbeat=HEARTBEAT, capabilities=capabilities).channel()
        self.method(1, 85, 10, b"\0")
        self.expect(85, 11)
        self.message, self.rest, self.sent, self.confirmed, self.beats, self.told, self.lived = published(queue, BODY), b"", 0, 0, 0, [], 0.0

    def send(self):
        """As much as goes now of a message and of what was begun; whether anything went."""
        if not self.rest:
            self.rest, self.sent = self.message, self.sent + 1
        if not select.select([], [self.socket], [], 0.5)[1]:
            return False
        try:
            self.rest = self.rest[self.socket.send(self.rest, socket.MSG_DONTWAIT):]
        except BlockingIOError:
            pass
        return True

    def hear(self, seconds=0.0):
        """Takes what the broker said."""
        while select.select([self.socket], [], [], seconds)[0]:
            head = self.exactly(7)
            that(head is not None, "the connection ended")
            kind, _, size = struct.unpack(">BHI", head)
            payload = self.exactly(size + 1)
            that(payload is not None, "the connection ended")
            if kind == 8:
                self.beats += 1
                continue
            ids = struct.unpack(">HH", payload[:4])
            if ids == ACK:
                self.confirmed = struct.unpack(">Q", payload[4:12])[0] if payload[12] & 1 else self.confirmed + 1
            else:
                self.told.append(ids)
            seconds = 0.0

    def live(self):
        """A sign of life, if it is due and no message is half sent."""
        if not self.rest and time.monotonic() - self.lived > HEARTBEAT / 4:
            self.frame(8, 0, b"")
            self.lived = time.monotonic()


def meanwhile(publishers, work):
    """Has `work` done while the publishers show signs of life: whoever is not held must not be silent."""
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        for publisher in publishers:
            publisher.live()
            publisher.hear(0.05)
    thread.join()


def finish(publishers, seconds=60):
    """What was begun goes out, and all is confirmed."""
    deadline = time.monotonic() + seconds
    while any(publisher.rest or publisher.confirmed < publisher.sent for publisher in publishers):
        that(time.monotonic() < deadline, "all is confirmed")
        for publisher in publishers:
            if publisher.rest:
                publisher.send()
            publisher.live()
            publisher.hear(0.02)


def held(context, alarm, clear):
    """One publisher that asked to be told and one that did not, while `alarm` is on and until `clear`."""
    queue = unique("blocked")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True)
        publishers = [Publisher(context, queue, ["connection.blocked"]), Publisher(context, queue, [])]
        for publisher in publishers:
            publisher.send()
        finish(publishers)
        received = []
        meanwhile(publishers, alarm)
        try:
            # Until no socket takes anything for a while. In turns: whoever is not held yet must not be silent.
            while any([publisher.send() for publisher in publishers]):
                for publisher in publishers:
                    that(publisher.sent * len(BODY) < SENT_BYTES_MAX, "a publisher is not held")
                    publisher.hear()
            asked, other = publishers
            until("it is told", lambda: asked.hear(0.05) or asked.told)
            equal(asked.told, [BLOCKED])
            # Nothing comes from either meanwhile: their sockets are full.
            for publisher in publishers:
                publisher.beats = 0
            for publisher in publishers:
                until("heartbeats come", lambda publisher=publisher: publisher.hear(0.05) or publisher.beats >= HEARTBEATS, seconds=60)
            # Who does not publish is served.
            channel.basic_qos(prefetch_count=5)
            tag = channel.basic_consume(queue, lambda c, method, _p, body: (c.basic_ack(method.delivery_tag), received.append(body)))
            deliveries(connection, received, 2)
            equal(received, [BODY] * 2)
        finally:
            clear()
        finish(publishers)
        equal((asked.told, other.told), ([BLOCKED, UNBLOCKED], []))
        all_sent = sum(publisher.sent for publisher in publishers)
        deliveries(connection, received, all_sent, seconds=60)
        channel.basic_cancel(tag)
        equal(count(channel, queue), 0)
        channel.queue_delete(queue)
        return all_sent


@check("publishers are held while the disk is full, told so if they ask, and not taken for dead", peer="rabbitmq", admin=True)
def rabbitmq(context):
    def alarm(what):
        context.command("eval", "rabbit_alarm:%s." % what)

    held(context, lambda: alarm("set_alarm({{resource_limit, disk, node()}, []})"), lambda: alarm("clear_alarm({resource_limit, disk, node()})"))
