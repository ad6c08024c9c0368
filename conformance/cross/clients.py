"""A client of each protocol for a server, and what checks ask of them."""

import json
import time

import boto3
import botocore.config
import pika
from confluent_kafka import Consumer, Producer, TopicPartition

from harness import equal, until

# A log that needs little room.
SMALL = ("--set", "log.segment_bytes=1048576")
KAFKA = {"reconnect.backoff.ms": 50, "broker.address.family": "v4"}
WITHIN_S = 30


def listens(server, name):
    return next(line.split()[1] for line in server.said if line.startswith(name))


def amqp(server):
    """A channel with confirms, on a connection of its own."""
    host, port = listens(server, "amqp").rsplit(":", 1)
    channel = pika.BlockingConnection(pika.ConnectionParameters(host, int(port))).channel()
    channel.confirm_delivery()
    return channel


def records(server, topic, n, partition=0):
    """The first records of a partition."""
    consumer = Consumer({"bootstrap.servers": server.kafka, "group.id": "x", "enable.auto.commit": False, **KAFKA})
    consumer.assign([TopicPartition(topic, partition, 0)])
    got = []
    try:
        while len(got) < n:
            message = consumer.poll(WITHIN_S)
            assert message is not None, "%d of %d records came" % (len(got), n)
            assert message.error() is None, message.error()
            got.append(message)
    finally:
        consumer.close()
    return got


def produce(server, topic, *all_of_them):
    """Each is what `Producer.produce` takes by name. They are durable."""
    producer = Producer({"bootstrap.servers": server.kafka, **KAFKA})
    errors = []
    for one in all_of_them:
        producer.produce(topic, on_delivery=lambda error, _: errors.append(error), **one)
    producer.flush(WITHIN_S)
    equal(errors, [None] * len(all_of_them))


class Sqs:
    """An SQS client, by the names of queues."""

    def __init__(self, server):
        config = botocore.config.Config(retries={"max_attempts": 0}, read_timeout=40)
        self.api = boto3.session.Session().client(
            "sqs", endpoint_url="http://" + listens(server, "aws"), region_name="us-east-1", config=config,
            aws_access_key_id="test", aws_secret_access_key="test")

    def url(self, queue):
        return self.api.get_queue_url(QueueName=queue)["QueueUrl"]

    def arn(self, queue):
        return self.api.get_queue_attributes(QueueUrl=self.url(queue), AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def create(self, queue, **attributes):
        return self.api.create_queue(QueueName=queue, Attributes=attributes)

    def redrive(self, dead, times):
        return json.dumps({"deadLetterTargetArn": self.arn(dead), "maxReceiveCount": times})

    def send(self, queue, body, attributes=None, **more):
        """`attributes` as boto3 has them."""
        return self.api.send_message(QueueUrl=self.url(queue), MessageBody=body, MessageAttributes=attributes or {}, **more)

    def receive(self, queue, n=1, **more):
        """What is there now."""
        return self.api.receive_message(QueueUrl=self.url(queue), MaxNumberOfMessages=n, AttributeNames=["All"],
                                        **{"MessageAttributeNames": ["All"], **more}).get("Messages", [])

    def take(self, queue, **more):
        """The next message, waiting for it. It stays in flight."""
        [message] = until(lambda: self.receive(queue, **{"WaitTimeSeconds": 1, **more}), "a message in %s by SQS" % queue)
        return message

    def delete(self, queue, *messages):
        for message in messages:
            self.api.delete_message(QueueUrl=self.url(queue), ReceiptHandle=message["ReceiptHandle"])

    def visible_again(self, queue, message):
        self.api.change_message_visibility(QueueUrl=self.url(queue), ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)

    def counts(self, queue):
        """Messages ready, in flight, delayed."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
        got = self.api.get_queue_attributes(QueueUrl=self.url(queue), AttributeNames=names)["Attributes"]
        return [int(got[name]) for name in names]


def text(value, kind="String"):
    """A message attribute."""
    return {"DataType": kind, "StringValue": value}


def binary(value):
    return {"DataType": "Binary", "BinaryValue": value}


def plain(attributes):
    """Message attributes by name: (type, value)."""
    return {name: (a["DataType"], a["BinaryValue"] if a["DataType"].startswith("Binary") else a["StringValue"])
            for name, a in attributes.items()}


def take(channel, queue):
    """The next message over AMQP, waiting for it: method, properties, body. It stays unacknowledged."""
    def got():
        message = channel.basic_get(queue)
        return message if message[0] else None
    return until(got, "a message in %s by AMQP" % queue)


def bodies(channel, queue, n):
    """The bodies of the next messages over AMQP, acknowledged."""
    got = []
    for _ in range(n):
        method, _, body = take(channel, queue)
        channel.basic_ack(method.delivery_tag)
        got.append(body)
    return got


def counts(server, queue):
    """What the command line tells of a queue, but for zeros."""
    told = server.ok("queue", "describe", queue, "--json", "--span", "0").json()
    return {k: told[k] for k in ("ready", "leased", "scheduled", "dead", "parked") if told[k]}


def become(server, queue, **wanted):
    """Waits until a queue's counts are these."""
    until(lambda: counts(server, queue) == wanted, "%s in %s" % (wanted, queue))


def passed(server, bridge, n):
    until(lambda: server.ok("bridge", "describe", bridge, "--json").json()["passed"] == n, "%d passed on by %s" % (n, bridge))


def not_before(at_s):
    """It is not sooner than promised."""
    assert time.time() >= at_s, "%.3f s too early" % (at_s - time.time())
