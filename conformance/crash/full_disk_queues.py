#!/usr/bin/env python3
"""AMQP publishers on a disk that another program fills: held, told, kept alive, and served again when there is room. What is checked is what
`amqp/python/conformance/blocked.py` checks of RabbitMQ.

full_disk_queues.py --binary PATH [--only tmpfs|ext4] [--mib N]
Needs root, for a file system of its own; where none can be mounted that is said, and counted as skipped."""

import argparse
import errno
import os
import pathlib
import shutil
import sys
import tempfile

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "amqp" / "python"))

from broker import Broker  # noqa: E402
from checks import Checks  # noqa: E402
from conformance import blocked  # noqa: E402
from conformance.harness import Context  # noqa: E402
from mounts import KINDS, NotHere, mounted  # noqa: E402

MIB = 1 << 20


class Eater:
    """Another program that takes all that is free."""

    def __init__(self, path):
        self.path = path

    def eat(self):
        with open(self.path, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(MIB))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def leave(self):
        if os.path.exists(self.path):
            os.remove(self.path)


def main():
    parser = argparse.ArgumentParser(description="AMQP publishers on a full disk")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--mib", type=int, default=512, help="size of the file system")
    arguments = parser.parse_args()
    checks = Checks()
    for kind in KINDS:
        if arguments.only not in (None, kind):
            continue
        directory = tempfile.mkdtemp(prefix="full-disk-queues-")
        name = "full disk, queues, %s: publishers are held, told, kept alive, and served again" % kind
        failed = checks.failed
        try:
            with mounted(kind, os.path.join(directory, "data"), arguments.mib):
                broker = Broker(os.path.abspath(arguments.binary), directory, amqp=True)
                try:
                    broker.start()
                    eater = Eater(os.path.join(broker.data, "another-program"))
                    sent = blocked.held(Context(broker.amqp, "millstream"), eater.eat, eater.leave)
                    checks.that(name, [], "%d messages" % sent)
                    status = broker.stop()
                    checks.that("full disk, queues, %s: the broker still stops cleanly" % kind, [] if status == 0 else ["exit status %s" % status])
                except Exception as error:  # whatever stops the test is its failure
                    checks.that(name, ["%s: %s\n%s" % (type(error).__name__, error, broker.tail())])
                finally:
                    broker.end()
        except NotHere as why:
            checks.skip("full disk, queues, %s" % kind, why)
        if checks.failed == failed:
            shutil.rmtree(directory)
        else:
            print("kept for a look: %s" % directory, file=sys.stderr)
    return checks.close()


if __name__ == "__main__":
    sys.exit(main())
