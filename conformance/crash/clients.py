"""The clients of the kill -9 test: writers, a reader that reads along, a committer, and a reader that looks back."""

import random
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from ledger import body, name_of

RECONNECT = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100, "log_level": 0, "topic.metadata.refresh.fast.interval.ms": 50}
CALL_WITHIN_S = 30


class Writer(threading.Thread):
    """Produces at a steady rate, idempotent and acks=all, until told to stop."""

    def __init__(self, name, address, topic, partitions, ledger, rate, sizes, seed, options):
        super().__init__(daemon=True)
        self.writer, self.topic, self.partitions, self.ledger = name, topic, partitions, ledger
        self.rate, self.sizes, self.random = rate, sizes, random.Random(seed)
        self.producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "acks": "all",
                                  "message.timeout.ms": 300_000, "retry.backoff.ms": 20, **RECONNECT, **options})
        self.counts = [0] * partitions
        self.acknowledged = 0
        self.errors = []
        self.over = threading.Event()
        self.quiet = threading.Event()  # while set, nothing new is sent; what was sent is tried again

    def run(self):
        began = time.monotonic()
        sent = 0
        while not self.over.is_set():
            if self.quiet.is_set() or sent > self.rate * (time.monotonic() - began) or len(self.producer) > self.rate:
                self.producer.poll(0.005)
                continue
            partition = self.random.randrange(self.partitions)
            count = self.counts[partition]
            value = body(self.writer, count, self.random.randint(*self.sizes))
            try:
                self.producer.produce(self.topic, value, partition=partition, on_delivery=self._told(partition, count))
            except BufferError:
                self.producer.poll(0.005)
                continue
            except KafkaException as error:
                self.errors.append("%s: %s" % (self.writer, error.args[0]))
                return
            self.counts[partition] += 1
            sent += 1
            self.producer.poll(0)

    def _told(self, partition, count):
        def told(error, message):
            if error is None:
                self.acknowledged += 1
                self.ledger.acknowledge(partition, message.offset(), self.writer, count)
            elif error.code() != KafkaError._PURGE_QUEUE and error.code() != KafkaError._PURGE_INFLIGHT:
                self.errors.append("%s %d in partition %d: %s" % (self.writer, count, partition, error))
        return told

    def finish(self):
        """Stops, and waits until every record's fate is told."""
        self.over.set()
        self.join()
        left = self.producer.flush(60)
        if left:
            self.errors.append("%s: %d records never answered" % (self.writer, left))

    def abandon(self):
        """Stops at once; what is unanswered stays of unknown fate."""
        self.over.set()
        self.join()
        self.producer.purge()
        self.producer.flush(5)


class Along(threading.Thread):
    """Reads every partition from its start, through all crashes, and writes down what it sees."""

    def __init__(self, address, topic, partitions, ledger):
        super().__init__(daemon=True)
        self.consumer = Consumer({"bootstrap.servers": address, "group.id": "along", "enable.auto.commit": False,
                                  "auto.offset.reset": "error", "fetch.wait.max.ms": 50, **RECONNECT})
        self.consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        self.ledger = ledger
        self.errors = []
        self.read = 0
        self.over = threading.Event()

    def run(self):
        while not self.over.is_set():
            for message in self.consumer.consume(500, 0.1):
                if message.error() is None:
                    self.read += 1
                    self.ledger.see(message.partition(), message.offset(), message.value())
                elif message.error().code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                    self.errors.append(str(message.error()))

    def finish(self):
        self.over.set()
        self.join()
        self.consumer.close()


class Committer(threading.Thread):
    """Commits ascending offsets of one group, one after another, and knows which were acknowledged."""

    def __init__(self, address, topic, partitions):
        super().__init__(daemon=True)
        self.topic, self.partitions = topic, partitions
        self.consumer = Consumer({"bootstrap.servers": address, "group.id": "committer", "enable.auto.commit": False, **RECONNECT})
        self.lock = threading.Lock()
        self.tried = [-1] * partitions
        self.told = [-1] * partitions
        self.commits = 0
        self.over = threading.Event()

    def run(self):
        offset = 0
        while not self.over.is_set():
            offset += 1
            wanted = [TopicPartition(self.topic, partition, offset) for partition in range(self.partitions)]
            with self.lock:
                self.tried = [offset] * self.partitions
            try:
                for committed in self.consumer.commit(offsets=wanted, asynchronous=False):
                    if committed.error is None:
                        with self.lock:
                            self.told[committed.partition] = committed.offset
                self.commits += 1
            except KafkaException:
                pass  # its fate is unknown; the next one goes on
            self.over.wait(0.002)

    def faults(self, address):
        """What a fresh client is told of the group, against what was acknowledged."""
        with self.lock:
            floor = list(self.told)
        fresh = Consumer({"bootstrap.servers": address, "group.id": "committer", "enable.auto.commit": False, **RECONNECT})
        try:
            asked = [TopicPartition(self.topic, partition) for partition in range(self.partitions)]
            answered = fresh.committed(asked, timeout=CALL_WITHIN_S)
        finally:
            fresh.close()
        with self.lock:
            ceiling = list(self.tried)
        for place in answered:
            low, high = floor[place.partition], ceiling[place.partition]
            if place.error is not None or not low <= place.offset <= high:
                if not (low == -1 and place.error is None):
                    yield "partition %d: committed %d, now %d (%s); last tried %d" % (
                        place.partition, low, place.offset, place.error or "no error", high)

    def finish(self):
        self.over.set()
        self.join()
        self.consumer.close()


def look_back(address, topic, partition, start):
    """Reads one partition from `start` to the high watermark as of now, with a fresh client: ({offset: name}, faults)."""
    there, faults = {}, []
    consumer = Consumer({"bootstrap.servers": address, "group.id": "back", "enable.auto.commit": False,
                         "enable.partition.eof": False, "auto.offset.reset": "error", "fetch.wait.max.ms": 20, **RECONNECT})
    try:
        place = TopicPartition(topic, partition, start)
        end = consumer.get_watermark_offsets(place, timeout=CALL_WITHIN_S)[1]
        consumer.assign([place])
        upto = start
        deadline = time.monotonic() + CALL_WITHIN_S
        while upto < end:
            for message in consumer.consume(1000, 0.2):
                if message.error() is not None:
                    faults.append("partition %d: %s" % (partition, message.error()))
                    continue
                if message.offset() < upto:
                    faults.append("partition %d: offset %d after %d" % (partition, message.offset(), upto - 1))
                name = name_of(message.value())
                if name is None:
                    faults.append("partition %d offset %d: torn bytes" % (partition, message.offset()))
                else:
                    there[message.offset()] = name
                upto = message.offset() + 1
                deadline = time.monotonic() + CALL_WITHIN_S
            if time.monotonic() > deadline:
                faults.append("partition %d: nothing more after %d of %d" % (partition, upto, end))
                break
    finally:
        consumer.close()
    return there, faults
