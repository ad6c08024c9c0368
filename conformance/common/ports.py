"""Loopback ports for programs under test."""

import random
import socket

# No system hands these out by itself: a client of a program beside ours cannot be given the port that we are about to use.
PORTS = range(10_000, 32_768)
TRIES_MAX = 1_000


def free_port():
    """A port that was free a moment ago."""
    for _ in range(TRIES_MAX):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", random.choice(PORTS)))
                return probe.getsockname()[1]
            except OSError:
                continue
    raise OSError("no free port")
