#!/usr/bin/env python3
"""The program `millstream` as people meet it: starting, settings, its data directory, and every command.

run.py --binary PATH [--only SUBSTRING]
Python's standard library only. Servers run on 127.0.0.1, on free ports and directories of their own. Prints one line per check and last
`N passed, M failed[, K skipped]`."""

import argparse
import os
import sys
import tempfile

import bridges  # noqa: F401  (importing a module registers its checks)
import directory  # noqa: F401
import fulldisk  # noqa: F401
import groups  # noqa: F401
import helps  # noqa: F401
import messages  # noqa: F401
import queues  # noqa: F401
import serving  # noqa: F401
import settings  # noqa: F401
import topics  # noqa: F401
import users  # noqa: F401
from harness import run_all
from program import Place


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millstream-cli-") as folder:
        return run_all(lambda name: Place(os.path.abspath(args.binary), os.path.join(folder, name)), args.only)


if __name__ == "__main__":
    sys.exit(main())
