"""`serve`: what it prints, what it answers over HTTP, how it ends and starts again."""

import concurrent.futures
import re
import signal
import socket

from harness import check, equal, holds, until
from program import free_port

SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})? (-?[0-9.eE+-]+|NaN|[+-]Inf)$')
SMALL = ("--set", "log.segment_bytes=1048576")


def samples(text):
    """Prometheus text: {name with labels: value}; every line must be one."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = SAMPLE.match(line)
        assert match, "not a sample: %r" % line
        found[match.group(1) + (match.group(2) or "")] = float(match.group(3))
    return found


@check("serve prints one line per listener, and ready with the time it took")
def _(place):
    port = free_port()
    server = place.serve(*SMALL, kafka="127.0.0.1:%d" % port)
    equal(len(server.said), 5)
    equal(server.said[0], "kafka  127.0.0.1:%d" % port)
    holds(server.said[1], "amqp   127.0.0.1:")
    holds(server.said[2], "aws    127.0.0.1:")
    holds(server.said[3], "http   127.0.0.1:")
    _, epoch, records, _ = server.ready()
    equal((epoch, records), (1, 0))
    host, port = server.kafka.split(":")
    socket.create_connection((host, int(port)), timeout=5).close()


@check("a listener that is off is not there")
def _(place):
    server = place.serve(*SMALL, kafka="off", amqp="off", aws="off")
    equal([line.split()[0] for line in server.said], ["http", "ready"])
    other = place.serve(*SMALL, http="off", data=place.data + "-2")
    equal([line.split()[0] for line in other.said], ["kafka", "amqp", "aws", "ready"])


@check("healthz and readyz answer 200")
def _(place):
    server = place.serve(*SMALL)
    equal(server.get("/healthz")[::2], (200, "ok\n"))
    equal(server.get("/readyz")[::2], (200, "ready\n"))
    equal(server.get("/nothing")[0], 404)


@check("metrics are Prometheus text, and count what was done")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "counted", "--partitions", "2")
    server.ok("produce", "counted", "--partition", "1", "a", "b", "c")
    server.ok("consume", "counted", "--group", "half", "--max", "2")
    status, kind, text = server.get("/metrics")
    equal(status, 200)
    holds(kind, "text")
    found = samples(text)
    equal(found['millstream_partition_offset{topic="counted",partition="1",end="visible"}'], 3.0)
    equal(found["millstream_partitions"], 2.0)
    equal(found['millstream_group_lag{group="half",topic="counted",partition="1"}'], 1.0)
    equal(found["millstream_log_sequenced_lsn"], found["millstream_log_durable_lsn"])


@check("metrics count SQS's requests by action and result, its messages, and receives that wait")
def _(place):
    server = place.serve(*SMALL)
    ask = lambda action, **body: server.aws("AmazonSQS." + action, {"QueueUrl": "http://here/1/q.fifo", **body})
    ask("CreateQueue", QueueName="q.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"})
    entry = lambda n, **more: {"Id": str(n), "MessageBody": str(n), "MessageGroupId": "g", **more}
    ask("SendMessageBatch", Entries=[entry(1), entry(2), entry(3, MessageBody="1"), entry(4, DelaySeconds=1)])
    got = ask("ReceiveMessage", MaxNumberOfMessages=10)[1]["Messages"]
    equal(ask("DeleteMessage", ReceiptHandle=got[0]["ReceiptHandle"])[0], 200)
    equal(ask("DeleteMessage", ReceiptHandle="nobody's")[0], 400)
    equal(ask("NoSuchAction")[0], 400)
    now = lambda: samples(server.get("/metrics")[2])
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(ask, "ReceiveMessage", WaitTimeSeconds=20)
        until(lambda: now()["millstream_sqs_waiting_receives"] == 1, "a receive waits")
        ask("SendMessage", MessageBody="other", MessageGroupId="h")
        equal([m["Body"] for m in waiting.result()[1]["Messages"]], ["other"])
    found = now()
    sqs = {name.removeprefix("millstream_sqs_"): n for name, n in found.items() if name.startswith("millstream_sqs_")}
    requests = lambda action, result: sqs['requests_total{action="%s",result="%s"}' % (action, result)]
    equal((requests("ReceiveMessage", "OK"), requests("DeleteMessage", "OK")), (2, 1))
    equal((requests("DeleteMessage", "ReceiptHandleIsInvalid"), requests("other", "InvalidAction")), (1, 1))
    equal([sqs[name + "_messages_total"] for name in ("sent", "duplicate", "received", "deleted")], [3, 1, 3, 1])
    equal((sqs["failed_batch_entries_total"], sqs["waiting_receives"], sqs["connections_refused_total"]), (1, 0, 0))


@check("SIGTERM and SIGINT are clean stops: status 0, and nothing to replay afterwards")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "kept")
    server.ok("produce", "kept", "one", "two")
    equal(server.stop(), 0, "exit status")
    server = place.serve(*SMALL)
    equal(server.ready()[1:], (2, 0, 0))
    equal(server.ok("consume", "kept").lines(), ["one", "two"])
    server.process.send_signal(signal.SIGINT)
    equal(server.process.wait(timeout=30), 0, "exit status")
    equal(place.serve(*SMALL).ready()[1], 3)


@check("a stop does not wait for consumers that follow")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "followed")
    server.ok("produce", "followed", "one")
    follower = server.background("consume", "followed", "--follow")
    equal(follower.line(), "one")
    equal(server.stop(), 0, "exit status")


@check("kill -9 takes nothing that produce had acknowledged")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "kept", "--partitions", "3")
    wanted = []
    for round_number in range(5):
        batch = ["%d-%d" % (round_number, i) for i in range(40)]
        server.ok("produce", "kept", stdin="\n".join(batch))
        wanted += batch
        server.kill()
        server = place.serve(*SMALL)
    equal(sorted(server.ok("consume", "kept").lines()), sorted(wanted))


@check("a second process on the data directory is refused, and says why")
def _(place):
    place.serve(*SMALL)
    holds(place.fails(*SMALL), place.data, "lock", "in use by another process")


@check("a port that is taken is said before anything is touched")
def _(place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        holds(place.fails(*SMALL, kafka=address), address, "kafka", "in use")
        holds(place.fails(*SMALL, http=address), address, "http", "in use")
    equal(place.digest(), {})
