"""A full disk: producers are told, nothing acknowledged is lost. Needs root, for a small file system of its own."""

import os
import subprocess
import time
from contextlib import contextmanager

from harness import Skip, check, equal, holds, until
from wire import Connection, batch

SMALL = ("--set", "log.segment_bytes=1048576", "--set", "log.ready_files=3")
DISK = "100m"
LARGER = "200m"
TOO_SMALL = "70m"
RECORD_BYTES = 20_000
RECORDS_MAX = 5_000
STORAGE_ERROR = 56


@contextmanager
def small_disk(path, size=DISK):
    """A file system of a few MiB at `path`."""
    if os.geteuid() != 0:
        raise Skip("not root: cannot mount a small file system")
    os.makedirs(path)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + size, "none", path], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        raise Skip("cannot mount a small file system: " + mounted.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=False)


def value(number):
    return (b"%08d " % number) + b"v" * RECORD_BYTES


def held(server):
    """The numbers of the records that can be read, in order."""
    return [int(line[:8]) for line in server.ok("consume", "t").lines()]


def fill(server):
    """Produces until the disk is full: the numbers acknowledged, and the error."""
    connection = Connection(server.kafka)
    told = []
    for number in range(RECORDS_MAX):
        error, base = connection.produce("t", 0, batch(value(number), int(time.time() * 1000)))
        if error:
            connection.close()
            return told, error
        equal(base, number, "offset")
        told.append(number)
    raise AssertionError("the disk never became full")


@check("a full disk: Kafka producers get error 56, readers go on, nothing acknowledged is lost")
def _(place):
    with small_disk(place.data):
        try:
            server = place.serve(*SMALL)
            server.ok("topic", "create", "t")
            told, error = fill(server)
            equal(error, STORAGE_ERROR)
            assert len(told) > 100, "full after %d records" % len(told)
            until(lambda: server.get("/readyz")[0] == 503, "readyz 503")
            holds(server.get("/readyz")[2], "disk is full")
            holds(server.refused("produce", "t", "more"), "disk is full")
            equal(held(server), told)
            server.kill()
            server = place.serve(*SMALL)
            equal(server.get("/readyz")[0], 503, "readyz after a kill")
            holds(server.get("/readyz")[2], "held: publish", "needed_bytes: ")
            equal(held(server), told)
            subprocess.run(["mount", "-o", "remount,size=" + LARGER, place.data], check=True)
            until(lambda: server.get("/readyz")[0] == 200, "readyz 200 without a restart")
            server.ok("produce", "t", "99999999 room again")
            equal(held(server), [*told, 99999999])
            holds(server.errors(), "there is room again")
            equal(server.stop(), 0)
        finally:
            place.end()


@check("a data directory is not made where its reserve cannot be had, and the bytes needed are named")
def _(place):
    with small_disk(place.data, TOO_SMALL):
        # The reserve of 8 MiB, the state store's 64, and five segment files.
        holds(place.fails(*SMALL), "no room on the disk", str(77 << 20))
