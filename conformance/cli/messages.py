"""`produce` and `consume`: from arguments, files and standard input; from offsets, times and as a group member."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
import time

from harness import check, equal, holds, until
from program import environment
from settings import SMALL


def served(place, partitions=1):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "t", "--partitions", str(partitions))
    return server


def read(server, *more):
    return [json.loads(line) for line in server.ok("consume", "t", "--json", *more).lines()]


@check("produce takes messages from arguments, a file and standard input, in order")
def _(place):
    server = served(place)
    holds(server.ok("produce", "t", "one", "two").err, "2 messages")
    path = os.path.join(place.folder, "lines")
    with open(path, "w", encoding="utf-8") as file:
        file.write("three\nfour\n")
    server.ok("produce", "t", "--file", path)
    server.ok("produce", "t", stdin="five\nsix")
    equal(server.ok("consume", "t").lines(), ["one", "two", "three", "four", "five", "six"])
    equal(server.ok("produce", "t", "seven", "--json").json(), {"topic": "t", "messages": 1})


@check("a long file arrives whole, across many requests")
def _(place):
    server = served(place)
    lines = ["line %d %s" % (i, "x" * (i % 300)) for i in range(12_345)]
    path = os.path.join(place.folder, "long")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    holds(server.ok("produce", "t", "--file", path).err, "12345 messages")
    equal(server.ok("consume", "t").lines(), lines)


@check("a long file shows on a terminal how far it is, and nowhere else")
def _(place):
    server = served(place)
    path = os.path.join(place.folder, "long")
    with open(path, "wb") as file:
        file.write((b"x" * 1023 + b"\n") * 4096)
    holds(on_terminal(server, "produce", "t", "--file", path), "/4.00 MiB", "4096 messages")
    with open(path, "wb") as file:
        file.write(b"short\n")
    assert "iB" not in on_terminal(server, "produce", "t", "--file", path), "a bar for a short file"
    with open(path, "wb") as file:
        file.write((b"x" * 1023 + b"\n") * 4096)
    equal(server.ok("produce", "t", "--file", path).err.strip(), "4096 messages stored in t")


def on_terminal(server, *arguments):
    """Runs a command whose standard error is a terminal; what it says there."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    command = [server.place.binary, *arguments, "--server", server.http]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=its, env=environment({"TERM": "xterm"}))
    os.close(its)
    said = b""
    while True:
        try:
            more = os.read(ours, 65536)
        except OSError:  # so a terminal tells that nobody writes to it any more
            break
        if not more:
            break
        said += more
    os.close(ours)
    equal(process.wait(), 0, said)
    return said.decode()


@check("keys, headers and partitions go with the message, also where they are no text")
def _(place):
    server = served(place, 4)
    server.ok("produce", "t", "--key-separator", ":", "--header", "kind=order", "--header", "n=1", "alice:a:b", "alice:c", "bob:d")
    server.ok("produce", "t", "--partition", "3", "plain")
    found = read(server)
    by_key = {}
    for m in found:
        by_key.setdefault(m["key"], []).append(m)
    equal([m["value"] for m in by_key["alice"]], ["a:b", "c"], "the first separator divides")
    equal(len({m["partition"] for m in by_key["alice"]}), 1)
    equal(by_key["bob"][0]["headers"], [["kind", "order"], ["n", "1"]])
    equal((by_key[None][0]["partition"], by_key[None][0]["value"]), (3, "plain"))
    equal(server.ok("consume", "t", "--partition", "3", "--key-separator", "|").lines(), ["|plain"])
    raw = subprocess.run([place.binary, "produce", "t", "--partition", "3", "--server", server.http], input=b"\xff\x00\xfe\n",
                         env=environment(), capture_output=True, check=True)
    holds(raw.stderr.decode(), "1 messages")
    out = subprocess.run([place.binary, "consume", "t", "--partition", "3", "--server", server.http], env=environment(),
                         capture_output=True, check=True)
    equal(out.stdout, b"plain\n\xff\x00\xfe\n")


@check("produce is refused, with what was wrong, and stores nothing of it")
def _(place):
    server = served(place, 2)
    holds(server.refused("produce", "t", "--partition", "2", "x"), "partition 2")
    holds(server.refused("produce", "t", "--key-separator", ":", "nothing between"), "message 1", ":")
    holds(server.refused("produce", "t", "--header", "odd", "x"), "NAME=VALUE")
    holds(server.refused("produce", "t", "--file", "absent"), "absent")
    holds(server.refused("produce", "nobody", "x"), "nobody")
    equal(server.ok("consume", "t").lines(), [])


@check("a message larger than the topic's limit is refused")
def _(place):
    server = served(place)
    server.ok("topic", "alter", "t", "--set", "max.message.bytes=1000")
    holds(server.refused("produce", "t", "small", "x" * 2000), "line 2", "max.message.bytes")
    server.ok("produce", "t", "x" * 500)
    equal(len(server.ok("consume", "t").lines()), 1)


@check("consume begins at the earliest, the latest, an offset or a time, and stops after --max")
def _(place):
    server = served(place)
    server.ok("produce", "t", "0", "1", "2")
    first = read(server)[-1]["timestamp_ms"]
    until(lambda: time.time() * 1000 > first + 2, "the next millisecond")
    between = int(time.time() * 1000)
    until(lambda: time.time() * 1000 > between + 2, "the next millisecond")
    server.ok("produce", "t", "3", "4")
    equal(server.ok("consume", "t", "--from", "earliest").lines(), ["0", "1", "2", "3", "4"])
    equal(server.ok("consume", "t", "--from", "latest").lines(), [])
    equal(server.ok("consume", "t", "--from", "offset:2").lines(), ["2", "3", "4"])
    equal(server.ok("consume", "t", "--from", "offset:2", "--max", "2").lines(), ["2", "3"])
    equal(server.ok("consume", "t", "--from", "time:%d" % between).lines(), ["3", "4"])
    equal(server.ok("consume", "t", "--from", "time:%d" % (between + 86_400_000)).lines(), [])
    equal(server.ok("consume", "t", "--from", "offset:99").lines(), [])
    holds(server.refused("consume", "t", "--from", "soon"), "from=soon")
    holds(server.refused("consume", "t", "--from", "offset:x"), "offset:x")
    holds(server.refused("consume", "t", "--partition", "1"), "partition")
    holds(server.refused("consume", "nobody"), "nobody")


@check("consume --follow is woken by a produce")
def _(place):
    server = served(place, 3)
    server.ok("produce", "t", "before")
    follower = server.background("consume", "t", "--follow")
    equal(follower.line(), "before")
    for word in ("first", "second"):
        server.ok("produce", "t", word)
        equal(follower.line(), word)
    late = server.background("consume", "t", "--follow", "--from", "latest", "--max", "1")
    until(lambda: len(server.ok("produce", "t", "again", "again", "again").err) and late.process.poll() == 0, "the end after --max")
    equal(late.line(), "again")


@check("consume --group goes on where it was, and prints nothing twice")
def _(place):
    server = served(place, 3)
    words = ["w%d" % i for i in range(30)]
    server.ok("produce", "t", *words)
    first = server.ok("consume", "t", "--group", "g", "--max", "11").lines()
    equal(len(first), 11)
    second = server.ok("consume", "t", "--group", "g").lines()
    equal(sorted(first + second), sorted(words))
    equal(server.ok("consume", "t", "--group", "g").lines(), [])
    equal(sorted(server.ok("consume", "t", "--group", "other").lines()), sorted(words))
    server.kill()
    server = place.serve(*SMALL)
    equal(server.ok("consume", "t", "--group", "g").lines(), [])
    server.ok("produce", "t", "more")
    equal(server.ok("consume", "t", "--group", "g").lines(), ["more"])


@check("consume --group --follow is woken by a produce")
def _(place):
    server = served(place)
    follower = server.background("consume", "t", "--group", "g", "--follow")
    until(lambda: server.run("group", "describe", "g").code == 0, "the group")
    server.ok("produce", "t", "one")
    equal(follower.line(), "one")
    server.ok("produce", "t", "two")
    equal(follower.line(), "two")


@check("consume ends quietly when nobody reads on")
def _(place):
    server = served(place)
    server.ok("produce", "t", stdin="\n".join("line %d" % i for i in range(20_000)))
    piped = subprocess.run("'%s' consume t --server %s | head -n 2" % (place.binary, server.http), shell=True, capture_output=True,
                           text=True, env=environment(), timeout=30, check=True)
    equal((piped.stdout, piped.stderr), ("line 0\nline 1\n", ""))
