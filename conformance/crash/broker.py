"""The broker's binary under test: started on one address and directory again and again, killed or asked to stop."""

import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "common"))

from ports import free_port  # noqa: E402

READY_WITHIN_S = 60
STOPPED_WITHIN_S = 30


def free_address():
    return "127.0.0.1:%d" % free_port()


class Broker:
    """One binary, one data directory, one address for clients of Kafka's protocol, others for AMQP's and SQS's if wanted."""

    def __init__(self, binary, directory, http="off", options=(), amqp=False, aws=False):
        self.address = free_address()
        self.amqp = free_address() if amqp else "off"
        self.aws = free_address() if aws else "off"
        self.data = os.path.join(directory, "data")
        self.command = [binary, "serve", "--data-dir", self.data,
                        "--kafka", self.address, "--amqp", self.amqp, "--aws", self.aws, "--http", http, *options]
        self.log_path = os.path.join(directory, "broker.log")
        self.process = None

    def spawn(self):
        """Starts the process; does not wait."""
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        lines = queue.Queue()
        threading.Thread(target=self._drain, args=(self.process.stdout, lines), daemon=True).start()
        return lines

    @staticmethod
    def _drain(stream, lines):
        for line in stream:
            lines.put(line.decode("utf-8", "replace").rstrip())
        lines.put(None)

    def start(self):
        """Starts it and waits for its `ready`; gives the seconds that took."""
        began = time.monotonic()
        lines = self.spawn()
        while True:
            line = lines.get(timeout=max(0.01, READY_WITHIN_S - (time.monotonic() - began)))
            if line is None:
                raise RuntimeError("the broker ended before it was ready (%s):\n%s" % (self.process.wait(), self.tail()))
            if line.startswith("ready"):
                return time.monotonic() - began

    def alive(self):
        return self.process.poll() is None

    def kill9(self):
        """The end without a word: what it had not written is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Asks it to stop; gives its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STOPPED_WITHIN_S)

    def end(self):
        """Leaves nothing running."""
        if self.process is not None and self.alive():
            self.kill9()

    def tail(self):
        with open(self.log_path, "rb") as log:
            return "\n".join("    " + line for line in log.read().decode("utf-8", "replace").splitlines()[-20:])
