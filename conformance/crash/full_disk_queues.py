#!/usr/bin/env python3
"""AMQP publishers on a disk that another program fills: held, told, kept alive, and served again when there is room. What is checked is what
`amqp/python/conformance/blocked.py` checks of RabbitMQ.

full_disk_queues.py --binary PATH [--only tmpfs|ext4] [--mib N]
Needs root, for a file system of its own; where none can be mounted that is said, and counted as skipped."""

import os
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "amqp" / "python"))

from broker import Broker  # noqa: E402
from conformance import blocked  # noqa: E402
from conformance.harness import Context  # noqa: E402
from mounts import Eater, on_each  # noqa: E402


def run(kind, binary, directory, checks):
    name = "full disk, queues, %s: publishers are held, told, kept alive, and served again" % kind
    broker = Broker(binary, directory, amqp=True)
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


if __name__ == "__main__":
    sys.exit(on_each("full disk, queues", "AMQP publishers on a full disk", 512, run))
