"""A crash test as a program: a directory that is kept if something failed, and the closing line."""

import shutil
import sys
import tempfile

from checks import Checks


def run(title, prefix, body):
    """Calls `body(checks, directory, started)`; it tells `started` of each broker, which is ended whatever happens. Gives the exit status."""
    directory = tempfile.mkdtemp(prefix=prefix)
    checks = Checks()
    brokers = []
    try:
        body(checks, directory, brokers.append)
    except Exception as error:  # whatever stops the test is its failure
        tails = "".join("\n" + broker.tail() for broker in brokers)
        checks.that("%s: the test runs to its end" % title, ["%s: %s%s" % (type(error).__name__, error, tails)])
    finally:
        for broker in brokers:
            broker.end()
    status = checks.close()
    if checks.failed:
        print("kept for a look: %s" % directory, file=sys.stderr)
    else:
        shutil.rmtree(directory)
    return status
