#!/usr/bin/env python3
"""Runs the SQS conformance checks against one broker:
run.py --bootstrap HOST:PORT [--peer elasticmq|millstream] [--only SUBSTRING] [--jobs N]"""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "common"))

import suite  # noqa: E402
from conformance import harness  # noqa: E402

MODULES = ["queues", "attributes", "send", "receive", "visibility", "batches", "deadletter", "movetasks", "fifo", "attempts", "tags", "permissions", "errors", "wire"]

if __name__ == "__main__":
    suite.main("SQS conformance checks in Python", "elasticmq", MODULES, harness.Context)
