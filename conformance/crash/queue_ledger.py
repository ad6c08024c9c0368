"""What AMQP clients were told of messages, and what came of them: the judge of the crash tests of queues.

A message is known by its publisher and the publisher's count; it is published once, so one of unknown fate may be there or not, and never
twice. Each goes through one exchange to the queue that is worked on and to one that nobody touches till the end: it is in both or in
neither."""

import threading
from collections import Counter


class QueueLedger:
    """Shared by all threads of a test."""

    def __init__(self):
        self.lock = threading.Lock()
        self.confirmed = set()  # of (publisher, count)
        self.delivered = Counter()
        self.settled = set()  # acknowledged, behind a barrier
        self.moved = set()  # taken from one queue and put into another, in a transaction that was answered
        self.broken = []  # what is wrong whatever comes

    def confirm(self, name):
        with self.lock:
            self.confirmed.add(name)

    def deliver(self, name, redelivered, where):
        with self.lock:
            if name is None:
                self.broken.append("%s: torn bytes" % where)
                return
            if name in self.settled:
                self.broken.append("%s: %s %d came again after its ack was settled" % (where, *name))
            if self.delivered[name] and not redelivered:
                self.broken.append("%s: %s %d came again and is not marked redelivered" % (where, *name))
            self.delivered[name] += 1

    def settle(self, names):
        with self.lock:
            self.settled |= set(names)

    def move(self, names):
        with self.lock:
            self.moved |= set(names)


def lost(there, told, word):
    """Faults: messages of `told` that are not `there`."""
    for name in sorted(set(told) - set(there)):
        yield "%s %d was %s and is not there" % (*name, word)


def disordered(messages):
    """Faults in a queue read from its head, that nothing was ever taken from: torn, twice, or not in its publisher's order."""
    last = {}
    for name in messages:
        if name is None:
            yield "torn bytes"
        elif name[1] <= last.get(name[0], -1):
            yield "%s %d after %d" % (*name, last[name[0]])
        else:
            last[name[0]] = name[1]


def unlike(here, there):
    """Faults: messages that only one of two queues got, though each went to both."""
    for name in sorted(set(here) ^ set(there)):
        yield "%s %d is in one of its two queues" % name


def doubled(messages):
    """Faults: messages that are there more than once."""
    for name, times in Counter(messages).items():
        if times > 1:
            yield "%s %d is there %d times" % (*(name or ("torn", 0)), times)


def unnoticed():
    """Small histories with one thing wrong each: those that the judge does not notice."""
    a, b, c = ("a", 0), ("a", 1), ("b", 0)

    def history(*deliveries, settled=()):
        ledger = QueueLedger()
        for name, redelivered in deliveries:
            ledger.deliver(name, redelivered, "here")
            ledger.settle([name] if name in settled else [])
        return bool(ledger.broken)

    cases = [
        ("nothing wrong", not history((a, False), (b, False), (b, True), settled=[a])),
        ("a settled message that comes again", history((a, False), (a, True), settled=[a])),
        ("a redelivery without the mark", history((a, False), (a, False))),
        ("torn bytes", history((None, False))),
        ("a confirmed message that is gone", any(lost([a, c], [a, b], "confirmed"))),
        ("nothing lost", not any(lost([a, b, c], [a, b], "confirmed"))),
        ("two messages the other way round", any(disordered([b, c, a]))),
        ("a message that is there twice", any(disordered([a, c, a])) and any(doubled([a, c, a]))),
        ("order", not any(disordered([a, c, b])) and not any(doubled([a, c, b]))),
        ("a message in one queue of two", any(unlike([a, b], [a])) and not any(unlike([a, b], [b, a]))),
    ]
    return [name for name, noticed in cases if not noticed]
