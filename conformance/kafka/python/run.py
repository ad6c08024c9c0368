#!/usr/bin/env python3
"""Runs the Python conformance checks against one broker:
run.py --bootstrap HOST:PORT [--peer kafka|millstream] [--only SUBSTRING] [--jobs N]"""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "common"))

import suite  # noqa: E402
from conformance import harness  # noqa: E402

MODULES = ["pipeline", "groups", "aio", "retention", "text", "admin", "fetch", "offsets", "idempotence", "frames",
           "versions", "sweep", "life", "groups_raw", "refusals"]

if __name__ == "__main__":
    suite.main("Kafka conformance checks in Python", "kafka", MODULES, harness.Context)
