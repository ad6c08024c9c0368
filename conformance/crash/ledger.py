"""What clients were told, and what the log says: the judge of the crash tests.

A record is known by its writer and the writer's count in one partition. Writers that live through the crashes retry until they
are told, so theirs must stand there as 0, 1, 2, ... without a hole. Writers that die with the broker leave some of unknown fate:
theirs must ascend, and hold what was acknowledged.
"""

import hashlib
import threading
from collections import defaultdict


def body(writer, count, size):
    """The bytes of a record: its name, and filling that follows from it."""
    name = b"%s %d %d " % (writer.encode(), count, size)
    filling = hashlib.sha256(name).hexdigest().encode()
    return name + (filling * (size // len(filling) + 1))[:size]


def name_of(value):
    """(writer, count) of a record, or None where its bytes are not what a writer made."""
    try:
        writer, count, size = value.split(b" ", 3)[:3]
        writer, count = writer.decode(), int(count)
        return (writer, count) if value == body(writer, count, int(size)) else None
    except (ValueError, UnicodeDecodeError):
        return None


class Ledger:
    """Shared by all threads of a test."""

    def __init__(self):
        self.lock = threading.Lock()
        self.acknowledged = defaultdict(dict)  # partition -> {offset: (writer, count)}
        self.seen = defaultdict(dict)          # the same, by the consumer that reads along
        self.broken = []                       # what is wrong whatever comes: a writer told two things, a torn record
        self.acknowledgements = 0

    def acknowledge(self, partition, offset, writer, count):
        with self.lock:
            self.acknowledgements += 1
            self._put(self.acknowledged, "acknowledged", partition, offset, (writer, count))

    def see(self, partition, offset, value):
        name = name_of(value)
        with self.lock:
            if name is None:
                self.broken.append("partition %d offset %d: torn bytes %r" % (partition, offset, value[:40]))
            else:
                self._put(self.seen, "seen", partition, offset, name)

    def _put(self, book, word, partition, offset, name):
        before = book[partition].setdefault(offset, name)
        if before != name:
            self.broken.append("partition %d offset %d was %s as %s and as %s" % (partition, offset, word, before, name))

    def snapshot(self, partition, start):
        """What was acknowledged and seen from `start` on, as of now."""
        with self.lock:
            return tuple({offset: name for offset, name in book[partition].items() if offset >= start}
                         for book in (self.acknowledged, self.seen))


def missing(there, told):
    """Faults: offsets of `told` that hold something else, or nothing, in `there`."""
    for offset, name in sorted(told.items()):
        found = there.get(offset)
        if found != name:
            yield "offset %d held %s %d, now %s" % (offset, *name, "%s %d" % found if found else "nothing")


def out_of_order(there, lasting):
    """Faults in a partition read from its start: a writer's counts that do not ascend, or, of a lasting one, leave a hole."""
    last = {}
    for offset, (writer, count) in sorted(there.items()):
        before = last.get(writer, -1)
        if count <= before:
            yield "offset %d: %s %d again after %d" % (offset, writer, count, before)
        elif writer in lasting and count != before + 1:
            yield "offset %d: %s %d right after %d" % (offset, writer, count, before)
        last[writer] = max(before, count)
