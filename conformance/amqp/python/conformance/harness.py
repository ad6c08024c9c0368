"""What checks with pika share: connections, refusals, messages. Registering and running is `suite`'s."""

import shlex
import subprocess
import time

import pika

from suite import check, equal, that, unique, until  # noqa: F401  (for the checks)


class Context:
    """What a check is told: the broker's address and which broker it is."""

    def __init__(self, bootstrap, peer):
        self.peer = peer
        host, port = bootstrap.rsplit(":", 1)
        self.address = (host, int(port))

    def command(self, *arguments):
        """Has the broker's own command line do something; fails the check if it does not."""
        done = subprocess.run([*shlex.split(self.admin), *arguments], capture_output=True, text=True, timeout=60)
        equal(done.returncode, 0, f"{arguments}: {done.stdout}{done.stderr}")

    def connect(self, **more):
        """A connection; `with` closes it."""
        host, port = self.address
        return pika.BlockingConnection(pika.ConnectionParameters(host, port, **more))


def refused(code, text, action):
    """Fails the check unless `action` makes the broker close the channel or the connection with this code and text within."""
    try:
        action()
    except (pika.exceptions.ChannelClosedByBroker, pika.exceptions.ConnectionClosedByBroker) as error:
        equal(error.reply_code, code, "reply code")
        that(text in error.reply_text, f"reply text {error.reply_text!r} has no {text!r}")
        return error
    raise AssertionError(f"not refused with {code}")


def count(channel, queue):
    """Messages ready in a queue."""
    return channel.queue_declare(queue, passive=True).method.message_count


def take(channel, queue, seconds=20.0):
    """The next message by `basic.get`, waiting for it: method, properties, body. It stays unacknowledged."""
    return until(f"a message in {queue}", lambda: _got(channel.basic_get(queue)), seconds)


def _got(message):
    return message if message[0] else None


def bodies(channel, queue, n):
    """The bodies of the next `n` messages, acknowledged."""
    got = []
    for _ in range(n):
        method, _, body = take(channel, queue)
        channel.basic_ack(method.delivery_tag)
        got.append(body)
    return got


def deliveries(connection, received, n, seconds=20.0):
    """Lets a connection work until `received` has `n` entries."""
    deadline = time.monotonic() + seconds
    while len(received) < n:
        that(time.monotonic() < deadline, f"{len(received)} of {n} deliveries after {seconds:g} s")
        connection.process_data_events(time_limit=0.05)
    return received


def quiet(connection, received, n, seconds=0.3):
    """Fails the check if more than `n` entries come within a while."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        connection.process_data_events(time_limit=0.05)
    equal(len(received), n, "deliveries")
