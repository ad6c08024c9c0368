"""strace on a running broker: every sync is held back, and known afterwards; operations, and whether a sync covers their answers.

An operation is covered at a moment if a sync *began after it was sent* and *returned before that moment*. The clocks are one clock, so
nothing here depends on a sleep being long enough."""

import re
import signal
import subprocess
import threading
import time

WITHIN_S = 30
SYNCS = "fdatasync,fsync,sync_file_range,syncfs,sync,msync"
LINE = re.compile(r"^(?P<pid>\d+)\s+(?P<at>\d+\.\d+) (?P<rest>.*)$")
TOOK = re.compile(r"<(?P<seconds>\d+\.\d+)>$")


class Trace:
    """strace on the broker: holds its syncs back, and knows them afterwards."""

    def __init__(self, pid, path, hold_ms):
        self.path = path
        micros = hold_ms * 1000
        self.process = subprocess.Popen(
            ["strace", "-f", "-ttt", "-T", "-e", "trace=" + SYNCS, "-e", "inject=%s:delay_enter=%d" % (SYNCS, micros),
             "-o", path, "-p", str(pid)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = self.process.stderr.readline()
        if "attached" not in said:
            raise RuntimeError("strace did not attach: %s" % said)
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=WITHIN_S)

    def syncs(self):
        """[(began, returned)] of the syncs that succeeded."""
        began, found = {}, []
        with open(self.path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                match = LINE.match(line.strip())
                if not match or not match["rest"].split("(")[0].replace("<... ", "").split(" ")[0] in SYNCS.split(","):
                    continue
                pid, at, rest = match["pid"], float(match["at"]), match["rest"]
                if rest.endswith("<unfinished ...>"):
                    began[pid] = at
                    continue
                took = TOOK.search(rest)
                if not took or "= 0" not in rest:
                    continue
                seconds = float(took["seconds"])
                # a resumed line carries the moment of return, a whole line the moment it began
                found.append((began.pop(pid), at) if rest.startswith("<...") and pid in began else (at, at + seconds))
        return sorted(found)


class Operation:
    """Something that the broker must make durable: when it was sent, answered, and first seen by another client."""

    def __init__(self, name, key):
        self.name, self.key = name, key
        self.sent = time.time()
        self.answered = None
        self.seen = None
        self.error = None


def covered(operation, moment, syncs):
    return any(operation.sent <= began and returned <= moment for began, returned in syncs)


class SideBySide:
    """Kinds of operations side by side, a thread each, every operation `TIMES` in turn. `one` is a test's: it readies
    an operation and has it `measured`."""

    TIMES = 3

    def __init__(self, broken):
        self.broken = broken
        self.operations, self.lock = [], threading.Lock()

    def run(self, kinds):
        threads = [threading.Thread(target=self.kind, args=(name, kind)) for name, kind in kinds.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.operations

    def kind(self, name, kind):
        for n in range(self.TIMES):
            title = "%s, %d" % (name, n)
            try:
                self.one(title, name, kind, n)
            except self.broken as error:  # before it was sent
                self.note(Operation(title, title), error)

    def measured(self, operation, begin):
        """Sends it and notes the moment of its answer."""
        try:
            begin()
            operation.answered = time.time()
            self.note(operation)
        except self.broken as error:
            self.note(operation, error)

    def note(self, operation, error=None):
        operation.error = error and "%s: %s" % (type(error).__name__, error)
        with self.lock:
            self.operations.append(operation)


def uncovered(moments, word, syncs):
    """Faults: operations whose moment, of `(operation, moment)`, no sync covers."""
    for operation, moment in moments:
        if operation.error:
            yield "%s: %s" % (operation.name, operation.error)
        elif moment is None:
            yield "%s was never %s" % (operation.name, word)
        elif not covered(operation, moment, syncs):
            yield "%s was %s %.1f ms after it was sent, before a sync of it returned" % (
                operation.name, word, (moment - operation.sent) * 1000)


def held_back(checks, syncs, hold_ms):
    """The check that the syncs were held at all."""
    late = [returned - began for began, returned in syncs if returned - began >= hold_ms / 1000]
    checks.that("held sync: the syncs were really held back", [] if late else ["none of %d took %d ms" % (len(syncs), hold_ms)],
                "%d syncs, each %d ms longer" % (len(late), hold_ms))
