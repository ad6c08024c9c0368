"""What the kill -9 tests share: the broker that is killed and started again, and waiting until all clients get on."""

import random
import threading
import time

from broker import Broker

PROGRESS_WITHIN_S = 60
KILL_WHILE_STARTING = 0.2  # of all kills


class Killing:
    """A broker under load. `progress` of a client is a number that grows with its answers."""

    def __init__(self, binary, directory, seed, **listeners):
        self.random = random.Random(seed)
        self.broker = Broker(binary, directory, **listeners)
        self.ready_s = []
        self.kills = 0

    def start(self):
        self.ready_s.append(self.broker.start())

    def kill(self):
        if not self.broker.alive():
            raise RuntimeError("the broker ended by itself:\n" + self.broker.tail())
        self.broker.kill9()
        self.kills += 1

    def start_again(self):
        """Starts the killed broker; now and then it is killed once more, in the middle of recovery."""
        if self.random.random() < KILL_WHILE_STARTING:
            self.broker.spawn()
            threading.Event().wait(self.random.uniform(0, 0.1))  # the moment of the kill is random
            self.kill()
        self.start()

    def a_while(self):
        threading.Event().wait(self.random.uniform(0, 0.6))  # the moment of the kill is random

    def wait_for_progress(self, progress, what):
        """Until every number that `progress()` gives has grown since this was called."""
        before = progress()
        deadline = time.monotonic() + PROGRESS_WITHIN_S
        while True:
            now = progress()
            if all(after > earlier for earlier, after in zip(before, now)):
                return
            if time.monotonic() > deadline:
                raise RuntimeError("%s: no progress in %d s: %s then %s\n%s" % (what, PROGRESS_WITHIN_S, before, now, self.broker.tail()))
            if not self.broker.alive():
                raise RuntimeError("the broker ended by itself:\n" + self.broker.tail())
            threading.Event().wait(0.005)
