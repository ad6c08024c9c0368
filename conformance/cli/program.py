"""The binary: as a server on a directory of its own, and as a command that is run to its end."""

import hashlib
import http.client
import json
import os
import pathlib
import queue
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "common"))

from ports import free_port  # noqa: E402

READY_WITHIN_S = 30
ENDED_WITHIN_S = 30
# Many data directories stand beside one another here: each keeps back no more than it must.
RESERVE = {"MILLSTREAM_LOG_RESERVE_BYTES": "8388608"}
READY = re.compile(r"^ready  in (\d+) ms; epoch (\d+), replayed (\d+) records \((\d+) bytes\)$")


def environment(more=None):
    """Ours, without settings that would reach the program by chance."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    return {**kept, **RESERVE, **(more or {})}


class Ended:
    """A command that has ended."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def json(self):
        return json.loads(self.out)

    def lines(self):
        return self.out.splitlines()


class Server:
    """One `millstream serve`."""

    def __init__(self, place, command, env):
        self.place = place
        self.error_log = os.path.join(place.folder, "stderr-%d" % len(place.servers))
        with open(self.error_log, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=env,
                                            cwd=place.folder, text=True)
        self.lines = queue.Queue()
        self.said = []
        threading.Thread(target=self._drain, daemon=True).start()
        self.kafka = self.http = None

    def _drain(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def await_ready(self):
        """Waits for its `ready`; takes the addresses from its lines."""
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            line = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
            assert line is not None, "it ended (%s): %s" % (self.process.wait(), self.errors())
            self.said.append(line)
            words = line.split()
            if words[0] == "kafka":
                self.kafka = words[1]
            elif words[0] == "amqp":
                self.amqp = words[1]
            elif words[0] == "http":
                self.http = words[1]
            elif words[0] == "ready":
                return self

    def ready(self):
        """The figures of its `ready` line: milliseconds, epoch, records, bytes."""
        found = READY.match(self.said[-1])
        assert found, "not a ready line: %r" % self.said[-1]
        return tuple(int(figure) for figure in found.groups())

    def errors(self):
        with open(self.error_log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def get(self, path):
        """GET: (status, content type, body)."""
        return self.ask("GET", path)

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection(self.http, timeout=10)
        try:
            headers = {"content-type": "application/json"} if body is not None else {}
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader("content-type"), answer.read().decode()
        finally:
            connection.close()

    def aws(self, target, body):
        """A call of AWS's JSON protocol: (status, what it answers)."""
        address = next(line.split()[1] for line in self.said if line.startswith("aws"))
        connection = http.client.HTTPConnection(address, timeout=10)
        try:
            connection.request("POST", "/", body=json.dumps(body), headers={"content-type": "application/x-amz-json-1.0", "x-amz-target": target})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def run(self, *arguments, **more):
        """A command against this server."""
        return self.place.run(*arguments, "--server", self.http, **more)

    def ok(self, *arguments, **more):
        """A command that must succeed."""
        ended = self.run(*arguments, **more)
        assert ended.code == 0, "%s: status %d: %s" % (" ".join(arguments), ended.code, ended.err)
        return ended

    def refused(self, *arguments, **more):
        """A command that must fail; what it says of it."""
        ended = self.run(*arguments, **more)
        assert ended.code != 0, "%s: succeeded: %s" % (" ".join(arguments), ended.out)
        return ended.err

    def background(self, *arguments):
        """A command that goes on."""
        return Follower(self.place, [self.place.binary, *arguments, "--server", self.http])

    def stop(self):
        """SIGTERM; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=ENDED_WITHIN_S)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Follower:
    """A command that runs on, its lines as they come."""

    def __init__(self, place, command):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        env=environment(), cwd=place.folder, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self._drain, daemon=True).start()
        place.servers.append(self)

    def _drain(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def line(self):
        return self.lines.get(timeout=ENDED_WITHIN_S)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Place:
    """A folder for one check, and what runs in it."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.servers = []
        os.makedirs(folder)

    @property
    def data(self):
        return os.path.join(self.folder, "data")

    def spawn(self, *arguments, data=None, kafka="127.0.0.1:0", amqp="127.0.0.1:0", aws="127.0.0.1:0", http="127.0.0.1:0", env=None):
        """Starts a server; does not wait. `None` leaves a flag away."""
        command = [self.binary, "serve", "--data-dir", data or self.data]
        command += [word for flag, value in (("--kafka", kafka), ("--amqp", amqp), ("--aws", aws), ("--http", http)) if value for word in (flag, value)]
        server = Server(self, [*command, *arguments], environment(env))
        self.servers.append(server)
        return server

    def serve(self, *arguments, **more):
        """Starts a server and waits for its `ready`."""
        return self.spawn(*arguments, **more).await_ready()

    def fails(self, *arguments, **more):
        """Starts a server that must end by itself with an error; what it says."""
        server = self.spawn(*arguments, **more)
        code = server.process.wait(timeout=ENDED_WITHIN_S)
        assert code not in (0, 101), "status %d: %s" % (code, server.errors())
        assert "panicked" not in server.errors(), server.errors()
        return server.errors()

    def run(self, *arguments, stdin=None, env=None):
        """Runs a command to its end."""
        ended = subprocess.run([self.binary, *arguments], input=stdin if stdin is not None else "", capture_output=True, text=True,
                               env=environment(env), cwd=self.folder, timeout=ENDED_WITHIN_S, check=False)
        assert "panicked" not in ended.stderr, ended.stderr
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def digest(self):
        """Every file of the data directory with the hash of its bytes."""
        found = {}
        for base, _, names in os.walk(self.data):
            for name in names:
                path = os.path.join(base, name)
                with open(path, "rb") as file:
                    found[os.path.relpath(path, self.data)] = hashlib.file_digest(file, "sha256").hexdigest()
        return found

    def end(self):
        """Leaves nothing running."""
        for server in self.servers:
            if server.process.poll() is None:
                server.kill()
