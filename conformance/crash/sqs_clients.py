"""The SQS clients of the crash tests, of boto3: senders, consumers, one that holds receipt handles over the crashes, and a FIFO queue's two.

Each lives through the crashes: it goes on where it was. What was unanswered when the broker was killed stays of unknown fate."""

import random
import threading
import time

import boto3
import botocore.config
import botocore.exceptions

from ledger import body, name_of

WORK, HELD, FIFO = "work", "held", "orders.fifo"
RETRY_S = 0.02
WAIT_S = 1
HELD_S = 900  # a lease that outlives the test
HELD_MAX = 60
BROKEN = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError)


def client(address):
    config = botocore.config.Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=30)
    return boto3.session.Session().client("sqs", endpoint_url="http://%s" % address, region_name="us-east-1", config=config,
                                          aws_access_key_id="test", aws_secret_access_key="test")


def declare(address):
    """What the clients work with: the queues' URLs."""
    sqs = client(address)
    fifo = {"FifoQueue": "true"}
    return {name: sqs.create_queue(QueueName=name, Attributes=fifo if name == FIFO else {})["QueueUrl"] for name in (WORK, HELD, FIFO)}


def left(sqs, url):
    """Messages ready and in flight."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return [int(told[name]) for name in names]


class Client(threading.Thread):
    """Works in turns until it is to end. `progress` counts what was answered."""

    def __init__(self, address, url, ledger, seed):
        super().__init__(daemon=True)
        self.sqs, self.url, self.ledger, self.random = client(address), url, ledger, random.Random(seed)
        self.progress = 0
        self.errors = []
        self.over = threading.Event()

    def run(self):
        while not self.over.is_set():
            try:
                self.turn()
                self.progress += 1
            except botocore.exceptions.ClientError as error:  # an answer, and not the one that was due
                self.errors.append("%s: %s" % (type(self).__name__, error))
            except BROKEN:
                self.over.wait(RETRY_S)  # tidy: pacing

    def finish(self):
        self.over.set()
        self.join(60)
        if self.is_alive():
            self.errors.append("%s does not end" % type(self).__name__)

    def receive(self, visibility):
        """`(name, handle)` of the messages of one answer; the ledger knows them."""
        sent = time.time()
        messages = self.sqs.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, WaitTimeSeconds=WAIT_S, VisibilityTimeout=visibility,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"]).get("Messages", [])
        answered = time.time()
        names = [name_of(message["Body"].encode()) for message in messages]
        told = [[int(message["Attributes"][name]) for message in messages] for name in ("ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp")]
        self.ledger.receive(list(zip(names, *told)), sent, answered, visibility)
        return [(name, message["ReceiptHandle"]) for name, message in zip(names, messages)]

    def delete(self, held):
        """Deletes `(name, handle)`s: one alone, more in a batch."""
        names = [name for name, _ in held]
        self.ledger.ask(names)
        if len(held) == 1:
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=held[0][1])
        elif held:
            entries = [{"Id": str(n), "ReceiptHandle": handle} for n, (_, handle) in enumerate(held)]
            self.whole(self.sqs.delete_message_batch(QueueUrl=self.url, Entries=entries))
        self.ledger.delete(names, time.time())

    def whole(self, answer):
        self.errors += ["%s: %s" % (type(self).__name__, failed) for failed in answer.get("Failed", [])]


class Sender(Client):
    """Sends messages, `batch` at a time."""

    def __init__(self, name, address, url, ledger, seed, batch, sizes, rest):
        super().__init__(address, url, ledger, seed)
        self.sender, self.batch, self.sizes, self.rest, self.count = name, batch, sizes, rest, 0

    def turn(self):
        names = [(self.sender, self.count + n) for n in range(self.batch)]
        self.count += self.batch
        bodies = [body(*name, self.random.randint(*self.sizes)).decode() for name in names]
        if self.batch == 1:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=bodies[0])
        else:
            entries = [{"Id": str(n), "MessageBody": text} for n, text in enumerate(bodies)]
            self.whole(self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries))
        self.ledger.send(names)
        self.over.wait(self.rest)  # tidy: pacing


class Consumer(Client):
    """Receives with a short visibility; deletes most, changes the visibility of some, and leaves the rest to come again."""

    VISIBILITY_S = 2

    def turn(self):
        held = self.receive(self.VISIBILITY_S)
        if not held:
            return
        self.random.shuffle(held)
        for name, handle in held[8:9] if self.random.random() < 0.5 else []:
            self.change(name, handle, self.random.choice([0, 1, 4]))
        if self.random.random() < 0.3:
            self.delete(held[7:8])
            held = held[:7]
        self.delete(held[:8])

    def change(self, name, handle, visibility):
        sent, before = time.time(), self.ledger.rests_until[name]
        self.ledger.changing(name, sent, visibility)
        self.sqs.change_message_visibility(QueueUrl=self.url, ReceiptHandle=handle, VisibilityTimeout=visibility)
        self.ledger.changed(name, sent, time.time(), before, visibility)


class Holder(Client):
    """Keeps messages over the crashes, and deletes them by the handles of long ago."""

    def __init__(self, address, url, ledger, seed, kills):
        super().__init__(address, url, ledger, seed)
        self.kills = kills  # how many there were
        self.held = []  # (name, handle, kills when it was received)
        self.deleted_later = 0

    def turn(self):
        self.hold()
        while len(self.held) > HELD_MAX // 2 and (len(self.held) > HELD_MAX or self.held[0][2] < self.kills()):
            some = self.held[:self.random.choice([1, 10])]
            self.delete([(name, handle) for name, handle, _ in some])  # again, if it broke: a handle may be used twice
            self.deleted_later += sum(1 for _, _, then in some if then < self.kills())
            del self.held[:len(some)]

    def hold(self):
        self.held += [(name, handle, self.kills()) for name, handle in self.receive(HELD_S)]

    def give_back(self):
        """Makes visible what it holds, and takes everything that is there: the names of both."""
        names = {name for name, _, _ in self.held}
        for name, handle, _ in self.held:
            self.ledger.changing(name, time.time(), 0)
            self.sqs.change_message_visibility(QueueUrl=self.url, ReceiptHandle=handle, VisibilityTimeout=0)
        self.held = []
        while left(self.sqs, self.url)[0]:
            self.hold()
        return names, {name for name, _, _ in self.held}


class FifoSender(Client):
    """Sends a group's messages one after another, each again and again under one id until it is told."""

    def __init__(self, name, address, url, ledger, seed):
        super().__init__(address, url, ledger, seed)
        self.sender, self.count, self.numbers = name, 0, []

    def turn(self):
        content = body(self.sender, self.count, 100).decode()
        told = self.sqs.send_message(QueueUrl=self.url, MessageBody=content, MessageGroupId=self.sender,
                                     MessageDeduplicationId="%s-%d" % (self.sender, self.count))
        if self.numbers and int(told["SequenceNumber"]) <= self.numbers[-1]:
            self.errors.append("%s %d has the number %s after %d" % (self.sender, self.count, told["SequenceNumber"], self.numbers[-1]))
        self.numbers.append(int(told["SequenceNumber"]))
        self.ledger.send([(self.sender, self.count)])
        self.count += 1
        self.over.wait(0.01)  # tidy: pacing


class FifoConsumer(Client):
    """Receives and deletes, each group in its order."""

    VISIBILITY_S = 5

    def turn(self):
        self.delete(self.receive(self.VISIBILITY_S))
