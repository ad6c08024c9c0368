#!/usr/bin/env python3
"""Runs the AMQP conformance checks against one broker:
run.py --bootstrap HOST:PORT [--peer rabbitmq|millstream] [--admin COMMAND] [--only SUBSTRING] [--jobs N]"""

import argparse
import importlib
import os
import sys

from conformance import harness

MODULES = ["pattern", "declare", "exchanges", "confirms", "returns", "qos", "get", "requeue", "deadletter", "ttl", "limits",
           "priorities", "exclusive", "cancel", "errors", "reply", "frames", "transactions", "ids", "timeouts", "users", "ordering", "connection"]


def main():
    parser = argparse.ArgumentParser(description="AMQP 0-9-1 conformance checks in Python")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--peer", choices=["rabbitmq", "millstream"], default="millstream")
    parser.add_argument("--admin", help="the broker's own command line: rabbitmqctl -n NODE, or env MILLSTREAM_SERVER=HOST:PORT millstream")
    parser.add_argument("--only", default="", help="run only the checks whose name contains this")
    parser.add_argument("--jobs", type=int, default=4, help="checks run side by side")
    arguments = parser.parse_args()
    for module in MODULES:
        importlib.import_module(f"conformance.{module}")
    context = harness.Context(arguments.bootstrap, arguments.peer, arguments.admin)
    passed, failed = harness.run_all(context, arguments.only, arguments.jobs)
    print(f"{passed} passed, {failed} failed", flush=True)
    os._exit(1 if failed or not passed else 0)  # clients of a hung check must not hold the program up


if __name__ == "__main__":
    sys.exit(main())
