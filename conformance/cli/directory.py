"""The data directory: foreign, damaged or read-only ones are named and left as they are."""

import os

from harness import check, equal, holds

SMALL = ("--set", "log.segment_bytes=1048576")


def filled(place):
    """A data directory with acknowledged records in it, closed."""
    server = place.serve(*SMALL)
    server.ok("topic", "create", "kept")
    for turn in range(3):
        server.ok("produce", "kept", "one-%d" % turn, "two-%d" % turn)
    server.kill()
    return place.digest()


def change(place, name, work):
    path = os.path.join(place.data, name)
    with open(path, "r+b") as file:
        bytes_ = bytearray(file.read())
        work(bytes_)
        file.seek(0)
        file.write(bytes_)
        file.truncate(len(bytes_))


def refused(place, *words):
    """The server must not start, must say these words, and must leave every file as it was, but for the lock and the state
    store, which is opened before the log is looked at and is made again from the log."""
    before = place.digest()
    said = place.fails(*SMALL)
    holds(said, *words)
    after = place.digest()
    names = {name for name in before.keys() | after.keys() if name != "lock" and not name.startswith("state/")}
    changed = sorted(name for name in names if before.get(name) != after.get(name))
    equal(changed, [], "files changed")
    return said


@check("a directory with someone else's files is refused by name")
def _(place):
    os.makedirs(os.path.join(place.data, "seg"))
    for name, content in (("meta", b"PK\x03\x04 not ours " * 40), ("seg/0000000000000000", b"#!/bin/sh\n" * 500)):
        with open(os.path.join(place.data, name), "wb") as file:
            file.write(content)
    refused(place, place.data, "meta", "move it away")


@check("someone else's segment file in our directory is refused by name")
def _(place):
    filled(place)
    change(place, "seg/0000000000000000", lambda b: b.__setitem__(slice(0, 4096), b"x" * 4096))
    refused(place, place.data, "seg/0000000000000000")


@check("a damaged meta file is refused by name")
def _(place):
    filled(place)
    change(place, "meta", lambda b: b.__setitem__(slice(0, len(b)), bytes(reversed(b))))
    refused(place, place.data, "meta")


@check("records that were acknowledged and are damaged stop the start by name")
def _(place):
    filled(place)

    def flip(content):
        at = content.find(b"one-0")
        assert at > 0, "the record is not where it is expected"
        content[at] ^= 0xFF

    change(place, "seg/0000000000000000", flip)
    refused(place, place.data, "seg/0000000000000000", "durable", "nothing was changed")


@check("a segment file that is gone stops the start by name")
def _(place):
    filled(place)
    place.serve(*SMALL).kill()  # a later file says that there was one before it
    os.remove(os.path.join(place.data, "seg/0000000000000000"))
    refused(place, place.data, "seg")


@check("a data directory that is a file is refused by name")
def _(place):
    with open(place.data, "w", encoding="utf-8") as file:
        file.write("a letter\n")
    said = place.fails(*SMALL)
    holds(said, place.data)
    with open(place.data, encoding="utf-8") as file:
        equal(file.read(), "a letter\n")


@check("a torn tail is cut, and what was acknowledged is there")
def _(place):
    filled(place)
    server = place.serve(*SMALL)
    wanted = [word % turn for turn in range(3) for word in ("one-%d", "two-%d")]
    equal(server.ok("consume", "kept").lines(), wanted)
