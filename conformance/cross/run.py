#!/usr/bin/env python3
"""The three protocols as one broker: what goes in by one and out by another, each pair of them and each verb (`matrix.py`).

run.py --binary PATH [--only SUBSTRING]
Starts brokers itself, on free ports. The fields are those of the tables in `docs/protocols.md`, which `table.py` holds against the checks."""

import argparse
import os
import sys
import tempfile

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))

import fields  # noqa: E402, F401  (importing a module registers its checks)
import matrix  # noqa: E402, F401
import permissions  # noqa: E402, F401
import pipelines  # noqa: E402, F401
import properties  # noqa: E402, F401
import settling  # noqa: E402, F401
import signing  # noqa: E402, F401
import story  # noqa: E402, F401
import streams  # noqa: E402, F401
import subscriptions  # noqa: E402, F401
import table  # noqa: E402, F401
import turns  # noqa: E402, F401
from harness import run_all  # noqa: E402
from program import Place  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millstream-cross-") as folder:
        return run_all(lambda name: Place(os.path.abspath(args.binary), os.path.join(folder, name)), args.only)


if __name__ == "__main__":
    sys.exit(main())
