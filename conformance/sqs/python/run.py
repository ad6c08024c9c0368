#!/usr/bin/env python3
"""Runs the SQS conformance checks against one broker:
run.py --bootstrap HOST:PORT [--peer elasticmq|millstream] [--only SUBSTRING] [--jobs N]"""

import argparse
import importlib
import os
import sys

from conformance import harness

MODULES = ["queues", "attributes", "send", "receive", "visibility", "batches", "deadletter", "movetasks", "fifo", "attempts", "tags", "permissions", "errors", "wire"]


def main():
    parser = argparse.ArgumentParser(description="SQS conformance checks in Python")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--peer", choices=["elasticmq", "millstream"], default="millstream")
    parser.add_argument("--only", default="", help="run only the checks whose name contains this")
    parser.add_argument("--jobs", type=int, default=4, help="checks run side by side")
    arguments = parser.parse_args()
    for module in MODULES:
        importlib.import_module(f"conformance.{module}")
    context = harness.Context(arguments.bootstrap, arguments.peer)
    passed, failed = harness.run_all(context, arguments.only, arguments.jobs)
    print(f"{passed} passed, {failed} failed", flush=True)
    os._exit(1 if failed or not passed else 0)  # clients of a hung check must not hold the program up


if __name__ == "__main__":
    sys.exit(main())
