"""What SQS clients were told of messages, and what came of them: the judge of the crash tests of SQS.

A message is known by its sender and the sender's count, and is sent once. On a standard queue one of unknown fate may be there or not; on the
FIFO queue a sender repeats it, under its id, until it is told."""

import threading
from collections import Counter, defaultdict

CLOCK_S = 0.002  # the broker counts in milliseconds


class SqsLedger:
    """A queue, shared by all threads of a test."""

    def __init__(self):
        self.lock = threading.Lock()
        self.told = set()  # of (sender, count): sent, and answered
        self.delivered = Counter()
        self.counts = {}  # the receive count that was told last
        self.firsts = {}  # when it was first received, as it was told first
        self.rests_until = {}  # the moment before which nobody may get it
        self.deleted = set()  # the answer came while the message still rested
        self.asked = set()  # to be deleted; whether it was is not known
        self.broken = []  # what is wrong whatever comes

    def send(self, names):
        with self.lock:
            self.told |= set(names)

    def receive(self, messages, sent, answered, visibility):
        """`(name, receive count, first receive)` of each message of an answer, in its order."""
        with self.lock:
            for name, count, first in messages:
                if name is None:
                    self.broken.append("torn bytes")
                    continue
                self.one(name, count, answered)
                if first != self.firsts.setdefault(name, first):
                    self.broken.append("%s %d was first received at %d, and before at %d" % (*name, first, self.firsts[name]))
                self.rests_until[name] = sent + visibility
                self.delivered[name] += 1
                self.counts[name] = count

    def one(self, name, count, answered):
        if name in self.deleted:
            self.broken.append("%s %d came again after it was deleted" % name)
        early = self.rests_until.get(name, 0) - CLOCK_S - answered
        if early > 0:
            self.broken.append("%s %d came again %.2f s before its visibility ends" % (*name, early))
        if count <= self.counts.get(name, 0):
            self.broken.append("%s %d came again with the receive count %d after %d" % (*name, count, self.counts[name]))

    def ask(self, names):
        """They are about to be deleted."""
        with self.lock:
            self.asked |= set(names)

    def delete(self, names, answered):
        with self.lock:
            self.deleted |= {name for name in names if answered < self.rests_until.get(name, 0)}

    def changing(self, name, sent, visibility):
        """Its visibility is about to be changed: whether it is, is not known."""
        with self.lock:
            self.rests_until[name] = min(self.rests_until.get(name, 0), sent + visibility)

    def changed(self, name, sent, answered, before, visibility):
        """It was, and it rested until `before` before that."""
        with self.lock:
            if answered < before:
                self.rests_until[name] = sent + visibility


class FifoLedger(SqsLedger):
    """A FIFO queue: a sender is a message group, and sends one message after another."""

    def one(self, name, count, answered):
        super().one(name, count, answered)
        sender, number = name
        before = (sender, number - 1)
        if number and before not in self.asked and before not in self.in_turn:
            self.broken.append("%s %d came, and the one before it was not deleted" % name)

    def receive(self, messages, sent, answered, visibility):
        self.in_turn = set()
        for message in messages:
            super().receive([message], sent, answered, visibility)
            self.in_turn.add(message[0])


def lost(there, told):
    """Faults: messages that were told to be sent and never came."""
    for name in sorted(set(told) - set(there)):
        yield "%s %d was sent and never came" % name


def unnoticed():
    """Small histories with one thing wrong each: those that the judge does not notice."""
    a, b = ("a", 0), ("a", 1)

    def history(kind, *steps):
        ledger = kind()
        for action, *arguments in steps:
            getattr(ledger, action)(*arguments)
        return bool(ledger.broken)

    def got(name, at, count=1, visibility=5, first=1):
        return ("receive", [(name, count, first)], at, at + 0.1, visibility)

    cases = [
        ("nothing wrong", not history(SqsLedger, got(a, 10), got(a, 16, 2), ("delete", [a], 17), got(b, 18))),
        ("a lease that was cut short", history(SqsLedger, got(a, 10), got(a, 14, 2))),
        ("a lease that was given up", not history(SqsLedger, got(a, 10), ("changing", a, 11, 0), got(a, 11.1, 2))),
        ("a longer lease that was forgotten", history(
            SqsLedger, got(a, 10), ("changing", a, 11, 60), ("changed", a, 11, 11.2, 15, 60), got(a, 16, 2))),
        ("a longer lease of unknown fate", not history(SqsLedger, got(a, 10), ("changing", a, 11, 60), got(a, 16, 2))),
        ("a deleted message that comes again", history(SqsLedger, got(a, 10), ("delete", [a], 11), got(a, 16, 2))),
        ("a message deleted too late may come again", not history(SqsLedger, got(a, 10), ("delete", [a], 16), got(a, 16, 2))),
        ("a receive that was not counted", history(SqsLedger, got(a, 10), got(a, 16, 1))),
        ("torn bytes", history(SqsLedger, got(None, 10))),
        ("two messages the other way round", history(FifoLedger, got(b, 10), got(a, 10.2))),
        ("a group that does not wait", history(FifoLedger, got(a, 10), got(b, 10.2))),
        ("order", not history(FifoLedger, got(a, 10), ("ask", [a]), got(b, 10.2))),
        ("order in one answer", not history(FifoLedger, ("receive", [(a, 1, 1), (b, 1, 2)], 10, 10.1, 5))),
        ("a first receive that was forgotten", history(SqsLedger, got(a, 10), got(a, 16, 2, first=2))),
        ("a message that is gone", any(lost([a], [a, b])) and not any(lost([a, b], [a]))),
    ]
    return [name for name, noticed in cases if not noticed]
