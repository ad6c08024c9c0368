#!/usr/bin/env python3
"""Event stream and work queues at once, in one broker: six programs as they stand in the reference, none of them changed.

    pip install -r requirements.txt
    cargo run --release -- serve                # in another terminal
    python examples/hybrid/run.py

run.py [--kafka HOST:PORT] [--amqp HOST:PORT] [--sqs HOST:PORT|off] [--millstream PATH] [--server HOST:PORT] [--built-in] [--orders N]

Each file of `programs/` runs in a process of its own. What they call and do not define (`send_email`, `create_shipment`, `json`, ...) is supplied
here, and the host names that they use are resolved to the broker. With `--built-in` a bridge inside the broker takes the place of `sqs_bridge.py`, and
the orders that it passes on are read over AMQP. Prints what came out, and ends with status 1 if something is missing or there twice."""

import argparse
import collections
import json
import logging
import multiprocessing
import os
import queue as queues
import subprocess
import sys
import time
import traceback
from datetime import datetime

HERE = os.path.dirname(os.path.abspath(__file__))
QUEUE = "high-value-orders"
WITHIN_S = 60
PARTITIONS = 6
HIGH = json.dumps({"body": {"event": ["order.placed"], "total": [{"numeric": [">", 10000]}]}})


class TransientError(Exception):
    """The mail server is busy: again later."""


class PermanentError(Exception):
    """There is no such address."""


def resolve(kafka, amqp, sqs):
    """`kafka:9092`, `localhost` and the endpoint of SQS become the broker's addresses, as a resolver would have it."""
    import boto3
    import confluent_kafka
    import pika

    def on_broker(client):
        class Resolved(client):
            def __init__(self, config):
                super().__init__({**config, "bootstrap.servers": config["bootstrap.servers"].replace("kafka:9092", kafka)})
        return Resolved

    confluent_kafka.Producer = on_broker(confluent_kafka.Producer)
    confluent_kafka.Consumer = on_broker(confluent_kafka.Consumer)
    pika.ConnectionParameters.DEFAULT_PORT = int(amqp.rsplit(":", 1)[1])
    os.environ.update({"AWS_ENDPOINT_URL_SQS": "http://" + sqs, "AWS_DEFAULT_REGION": "us-east-1",
                       "AWS_ACCESS_KEY_ID": "example", "AWS_SECRET_ACCESS_KEY": "example"})
    return boto3, confluent_kafka, pika


def program(name, supplied):
    """Runs a program of the reference with what it needs. Gives its names."""
    path = os.path.join(HERE, "programs", name + ".py")
    with open(path) as file:
        code = compile(file.read(), path, "exec")
    names = {"__name__": name, "json": json, "datetime": datetime, "log": logging.getLogger(name), **supplied}
    exec(code, names)
    return names


def queue_producer(tell, _args):
    names = program("queue_producer", {})
    # One more, which cannot be delivered: it goes to the dead letters.
    names["channel"].basic_publish("", "email_jobs", json.dumps({"to": "nobody@example.com", "template": "welcome"}))
    names["connection"].close()
    tell("jobs", 2)


def queue_worker(tell, _args):
    import pika
    connection = pika.BlockingConnection(pika.ConnectionParameters("localhost"))
    busy = collections.Counter()

    def send_email(to, template):
        busy[to] += 1
        if to.startswith("nobody"):
            raise PermanentError(to)
        if busy[to] == 1:
            raise TransientError("the mail server is busy")
        tell("email", "%s (%s)" % (to, template))

    program("queue_worker", {"channel": connection.channel(), "send_email": send_email,
                             "TransientError": TransientError, "PermanentError": PermanentError})


def order_producer(tell, args):
    orders = [{"id": "order-%d" % n, "customer_id": "customer-%d" % (n % 7), "items": ["item-%d" % n],
               "total": 25_000 if n % 4 == 0 else 80} for n in range(args.orders)]

    class Events:
        """The shop's encoder. The bridge reads `event['customer_id']`, which the producer does not put in: it is added here."""
        @staticmethod
        def dumps(event):
            return json.dumps({**event, "customer_id": by_id[event["order_id"]]["customer_id"]})

    by_id = {order["id"]: order for order in orders}
    names = program("order_producer", {"json": Events})
    for order in orders:
        names["publish_order_event"](order)
    tell("orders", len(orders))


def fulfilment(tell, _args):
    done = set()

    def create_shipment(event):
        tell("shipment", event["order_id"])

    program("fulfilment", {"already_processed": done.__contains__, "mark_processed": done.add, "create_shipment": create_shipment,
                           "handle_error": lambda error: tell("error", str(error))})


def analytics(tell, _args):
    consumer = program("analytics", {"Consumer": __import__("confluent_kafka").Consumer})["analytics_consumer"]
    while True:
        message = consumer.poll(timeout=1.0)
        event = json.loads(message.value()) if message is not None and message.error() is None else {}
        if event.get("event") == "order.placed":
            tell("analysed", event["order_id"])


def sqs_bridge(_tell, _args):
    program("sqs_bridge", {})


def sqs_reader(tell, _args):
    import boto3
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    while True:
        got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=2, MessageAttributeNames=["All"])
        for message in got.get("Messages", []):
            assert message["MessageAttributes"]["OrderId"]["StringValue"] == json.loads(message["Body"])["order_id"]
            tell("review", json.loads(message["Body"])["order_id"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def amqp_reader(tell, _args):
    import pika
    channel = pika.BlockingConnection(pika.ConnectionParameters("localhost")).channel()
    for method, properties, body in channel.consume(QUEUE):
        assert properties.headers["OrderId"] == json.loads(body)["order_id"]
        tell("review", json.loads(body)["order_id"])
        channel.basic_ack(method.delivery_tag)


def process(function, results, args):
    """One program as a process, which tells the others what it did."""
    logging.basicConfig(level=logging.WARNING)
    try:
        resolve(args.kafka, args.amqp, args.sqs)
        function(lambda what, value: results.put((what, value)), args)
    except KeyboardInterrupt:
        pass
    except BaseException:
        results.put(("failed", "%s:\n%s" % (function.__name__, traceback.format_exc())))


def command_line(args, *words):
    return subprocess.run([args.millstream, *words], capture_output=True, text=True, check=False).stdout


def prepare(args):
    """What the programs expect to be there: the dead letters' exchange, the topic, the queue for orders that somebody must look at."""
    def millstream(*words):
        ended = subprocess.run([args.millstream, *words, "--server", args.server], capture_output=True, text=True, check=False)
        return ended.returncode == 0 or sys.exit("%s: %s" % (" ".join(words), ended.stderr.strip()))

    import pika
    channel = pika.BlockingConnection(pika.ConnectionParameters("localhost")).channel()
    channel.exchange_declare("dlx", durable=True)
    channel.queue_declare("email_jobs.dead", durable=True)
    channel.queue_bind("email_jobs.dead", "dlx", "email_jobs.dead")
    # For whoever runs this twice.
    channel.queue_purge("email_jobs.dead")
    channel.connection.close()
    millstream("topic", "create", "orders", "--partitions", str(PARTITIONS))
    if args.built_in:
        millstream("queue", "create", QUEUE)
        millstream("bridge", "create", "high-value-orders", "--from-topic", "orders", "--to-queue", QUEUE, "--filter", HIGH,
                   "--header", "OrderId=body:/order_id", "--group", "body:/customer_id", "--dedup", "body:/order_id")
    elif args.sqs != "off":
        millstream("queue", "create", QUEUE, "--fifo")


def wait_for_group(args, group):
    """Until it reads every partition: it has committed behind an event that nobody acts upon."""
    from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient
    address = {"bootstrap.servers": args.kafka}
    admin, producer = AdminClient(address), Producer(address)
    everywhere = [TopicPartition("orders", n) for n in range(PARTITIONS)]
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, everywhere)])
        silent = [p.partition for p in asked[group].result(10).topic_partitions if p.offset < 0]
        if not silent:
            return
        for partition in silent:
            producer.produce("orders", json.dumps({"event": "shop.opened"}), partition=partition)
        producer.flush(10)
        time.sleep(0.2)  # tidy: pacing
    sys.exit("the group %s does not come together" % group)


def dead_letters():
    import pika
    channel = pika.BlockingConnection(pika.ConnectionParameters("localhost")).channel()
    method, properties, body = channel.basic_get("email_jobs.dead")
    channel.connection.close()
    return None if method is None else (json.loads(body)["to"], properties.headers["x-death"][0]["reason"])


def outcome(args, told):
    """What is wrong."""
    ids = ["order-%d" % n for n in range(args.orders)]
    high = [i for n, i in enumerate(ids) if n % 4 == 0]
    wanted = {"shipment": ids, "analysed": ids}
    if args.built_in or args.sqs != "off":
        wanted["review"] = high
    wrong = []
    for what, expected in wanted.items():
        found = collections.Counter(told[what])
        wrong += ["%s: %s is missing" % (what, i) for i in expected if not found[i]]
        wrong += ["%s: %s came %d times" % (what, i, n) for i, n in found.items() if n > 1]
        wrong += ["%s: %s does not belong there" % (what, i) for i in set(found) - set(expected)]
    if told["email"] != ["user@example.com (welcome)"]:
        wrong.append("e-mails: %s" % told["email"])
    return wrong


def main():
    parser = argparse.ArgumentParser(description="event stream and work queues at once")
    parser.add_argument("--kafka", default="127.0.0.1:9092")
    parser.add_argument("--amqp", default="127.0.0.1:5672")
    parser.add_argument("--sqs", default="127.0.0.1:4566")
    parser.add_argument("--server", default="127.0.0.1:15672", help="the broker's HTTP address")
    parser.add_argument("--millstream", default="millstream", help="the program, for its command line")
    parser.add_argument("--built-in", action="store_true", help="the broker's own bridge instead of sqs_bridge.py")
    parser.add_argument("--orders", type=int, default=40)
    args = parser.parse_args()
    resolve(args.kafka, args.amqp, args.sqs)
    if not args.built_in and args.sqs != "off" and "--fifo" not in command_line(args, "queue", "create", "--help"):
        print("this broker has no FIFO queues yet: sqs_bridge.py is left away; --built-in shows its work done by the broker")
        args.sqs = "off"
    prepare(args)
    functions = [queue_producer, queue_worker, order_producer, fulfilment, analytics]
    if args.built_in:
        functions.append(amqp_reader)
    elif args.sqs != "off":
        functions += [sqs_bridge, sqs_reader]
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    told = collections.defaultdict(list)
    # The queue is declared by its producer, with its arguments; the worker begins when it is there.
    first = spawn.Process(target=process, args=(queue_producer, results, args), daemon=True)
    first.start()
    first.join(WITHIN_S)
    workers = {f: spawn.Process(target=process, args=(f, results, args), daemon=True) for f in functions[1:]}
    orders = workers[order_producer]
    for worker in workers.values():
        if worker is not orders:
            worker.start()
    # The bridge's group begins with what is published from then on: `sqs_bridge.py` does not ask for the earliest.
    if sqs_bridge in workers:
        wait_for_group(args, "sqs-bridge")
    orders.start()
    deadline = time.monotonic() + WITHIN_S
    while (dead_letters_left(told) or outcome(args, told)) and time.monotonic() < deadline and not told["failed"]:
        try:
            what, value = results.get(timeout=0.2)
            told[what].append(value)
        except queues.Empty:
            pass
    for worker in workers.values():
        worker.terminate()
        worker.join()
    wrong = outcome(args, told) + told["failed"] + told["error"]
    for what in ("shipment", "analysed", "review", "email"):
        print("%-9s %d" % (what, len(told[what])))
    print("dead      %s, %s" % tuple(told["dead"][0]) if told["dead"] else "dead      none")
    for line in wrong:
        print("WRONG: " + line)
    return 1 if wrong or not told["dead"] else 0


def dead_letters_left(told):
    """The one job that cannot be done is among the dead letters at the end."""
    if not told["dead"]:
        dead = dead_letters()
        if dead is not None:
            told["dead"].append(dead)
    return not told["dead"]


if __name__ == "__main__":
    sys.exit(main())
