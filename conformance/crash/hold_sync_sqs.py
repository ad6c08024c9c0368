#!/usr/bin/env python3
"""Every fdatasync is held back: no answer of SQS that promises something before the sync that covers it has returned.

hold_sync_sqs.py --binary PATH [--hold-ms N]
As `hold_sync.py`, for SQS: what is sent, leased, deleted, and made of queues."""

import argparse
import os
import sys

import program
from broker import Broker
from sqs_clients import BROKEN, client
from sync_trace import Operation, SideBySide, Trace, held_back, uncovered


class Clients(SideBySide):
    """Each operation is sent when the one before it is answered; the kinds have a client, and each operation a queue."""

    def __init__(self, address):
        super().__init__(BROKEN)
        self.address = address
        self.queues = {}

    def prepare(self, kinds):
        """The queues that the operations need, with ten messages each."""
        sqs = client(self.address)
        for place, name in enumerate(kinds):
            fifo = "FIFO" in name
            more = {"FifoQueue": "true"} if fifo else {}
            for n in range(self.TIMES):
                url = sqs.create_queue(QueueName="held-%d-%d%s" % (place, n, ".fifo" if fifo else ""), Attributes=more)["QueueUrl"]
                ids = {"MessageGroupId": "a"} if fifo else {}
                sqs.send_message_batch(QueueUrl=url, Entries=[
                    {"Id": str(i), "MessageBody": "m%d" % i, **ids, **({"MessageDeduplicationId": str(i)} if fifo else {})} for i in range(10)])
                sqs.tag_queue(QueueUrl=url, Tags={"old": "1"})
                sqs.add_permission(QueueUrl=url, Label="old", AWSAccountIds=["000000000000"], Actions=["*"])
                self.queues[name, n] = Queue(sqs, url)

    def one(self, title, name, kind, n):
        sqs = client(self.address)
        begin = kind(sqs, self.queues[name, n], title)  # what needs no looking at
        self.measured(Operation(title, title), begin)


class Queue:
    """One with messages, nobody else's."""

    def __init__(self, sqs, url):
        self.sqs, self.url = sqs, url

    def handles(self, n=1):
        """Receipt handles of so many messages, just received."""
        got = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=n, VisibilityTimeout=600, WaitTimeSeconds=10)["Messages"]
        return [message["ReceiptHandle"] for message in got]


def call(action, **fixed):
    """An operation on the queue as it is."""
    return lambda sqs, queue, _title: lambda: whole(getattr(sqs, action)(QueueUrl=queue.url, **fixed))


def on_handle(action, **fixed):
    def kind(sqs, queue, _title):
        handle = queue.handles()[0]
        return lambda: getattr(sqs, action)(QueueUrl=queue.url, ReceiptHandle=handle, **fixed)
    return kind


def on_handles(action, **fixed):
    def kind(sqs, queue, _title):
        entries = [{"Id": str(n), "ReceiptHandle": handle, **fixed} for n, handle in enumerate(queue.handles(5))]
        return lambda: whole(getattr(sqs, action)(QueueUrl=queue.url, Entries=entries))
    return kind


def receive(sqs, queue, _title):
    def begin():
        if not sqs.receive_message(QueueUrl=queue.url, MaxNumberOfMessages=10, WaitTimeSeconds=10).get("Messages"):
            raise OSError("nothing was received")
    return begin


def create(sqs, _queue, title):
    name = "made-" + "".join(c if c.isalnum() else "-" for c in title)
    return lambda: sqs.create_queue(QueueName=name[:75], Attributes={"DelaySeconds": "1"})


def whole(answer):
    """An answer to a batch must not have failed entries."""
    if answer.get("Failed"):
        raise OSError("failed: %s" % answer["Failed"])


BATCH = [{"Id": str(n), "MessageBody": "b%d" % n, "MessageAttributes": {"a": {"DataType": "Number", "StringValue": "1"}}} for n in range(10)]
KINDS = {
    "SendMessage": call("send_message", MessageBody="x"),
    "SendMessage with a delay": call("send_message", MessageBody="x", DelaySeconds=5),
    "SendMessage to a FIFO queue": call("send_message", MessageBody="x", MessageGroupId="b", MessageDeduplicationId="new"),
    "SendMessageBatch": call("send_message_batch", Entries=BATCH),
    "ReceiveMessage": receive,
    "ReceiveMessage of a FIFO queue": receive,
    "DeleteMessage": on_handle("delete_message"),
    "DeleteMessage of a FIFO queue": on_handle("delete_message"),
    "DeleteMessageBatch": on_handles("delete_message_batch"),
    "ChangeMessageVisibility": on_handle("change_message_visibility", VisibilityTimeout=1000),
    "ChangeMessageVisibility to 0": on_handle("change_message_visibility", VisibilityTimeout=0),
    "ChangeMessageVisibilityBatch": on_handles("change_message_visibility_batch", VisibilityTimeout=1000),
    "CreateQueue": create,
    "DeleteQueue": call("delete_queue"),
    "PurgeQueue": call("purge_queue"),
    "SetQueueAttributes": call("set_queue_attributes", Attributes={"VisibilityTimeout": "77"}),
    "TagQueue": call("tag_queue", Tags={"new": "1"}),
    "UntagQueue": call("untag_queue", TagKeys=["old"]),
    "AddPermission": call("add_permission", Label="new", AWSAccountIds=["000000000000"], Actions=["*"]),
    "RemovePermission": call("remove_permission", Label="old"),
}


def held(arguments, checks, directory, started):
    broker = Broker(arguments.binary, directory, aws=True)
    started(broker)
    broker.start()
    clients = Clients(broker.aws)
    clients.prepare(KINDS)
    trace = Trace(broker.process.pid, os.path.join(directory, "strace.txt"), arguments.hold_ms)
    try:
        operations = clients.run(KINDS)
    finally:
        trace.stop()
    syncs = trace.syncs()
    checks.that("held sync, SQS: no answer before the sync that covers it returned",
                uncovered([(operation, operation.answered) for operation in operations], "answered", syncs),
                "%d operations of %d kinds" % (len(operations), len(KINDS)))
    held_back(checks, syncs, arguments.hold_ms)
    status = broker.stop()
    checks.that("held sync, SQS: the broker still stops cleanly", [] if status == 0 else ["exit status %s" % status])


def main():
    parser = argparse.ArgumentParser(description="SQS's answers wait for the disk")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--hold-ms", type=int, default=400)
    arguments = parser.parse_args()
    return program.run("held sync, SQS", "hold-sync-sqs-",
                       lambda checks, directory, started: held(arguments, checks, directory, started))


if __name__ == "__main__":
    sys.exit(main())
