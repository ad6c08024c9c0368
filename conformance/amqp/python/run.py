#!/usr/bin/env python3
"""Runs the AMQP conformance checks against one broker:
run.py --bootstrap HOST:PORT [--peer rabbitmq|millstream] [--admin COMMAND] [--only SUBSTRING] [--jobs N]"""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "common"))

import suite  # noqa: E402
from conformance import harness  # noqa: E402

MODULES = ["pattern", "declare", "exchanges", "confirms", "returns", "qos", "get", "requeue", "deadletter", "ttl", "limits",
           "slow", "priorities", "exclusive", "cancel", "errors", "reply", "frames", "transactions", "ids", "timeouts", "users", "ordering", "connection",
           # The last: while its alarm is on, nobody else's messages are taken either.
           "blocked"]

if __name__ == "__main__":
    suite.main("AMQP 0-9-1 conformance checks in Python", "rabbitmq", MODULES, harness.Context)
