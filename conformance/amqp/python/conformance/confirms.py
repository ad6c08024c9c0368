"""Publisher confirms."""

import pika

from .harness import bodies, check, equal, refused, that, unique, until


class Recorder:
    """A channel whose confirms are recorded as they come: number, multiple, whether it was taken."""

    def __init__(self, connection):
        self.channel = connection.channel()
        self.confirms = []
        impl = self.channel._impl  # pika's blocking channel waits for each confirm: this is the one beneath
        impl.confirm_delivery(self.came)
        until_done(connection, lambda: impl._state is not None)

    def came(self, frame):
        self.confirms.append((frame.method.delivery_tag, frame.method.multiple, isinstance(frame.method, pika.spec.Basic.Ack)))

    def taken(self):
        """By number, whether it was taken."""
        told, seen = {}, 0
        for tag, multiple, ack in self.confirms:
            for n in range(seen + 1 if multiple else tag, tag + 1):
                told.setdefault(n, ack)
            while seen + 1 in told:
                seen += 1
        return told


def until_done(connection, condition):
    connection.process_data_events(time_limit=0.05)
    until("it is so", lambda: (connection.process_data_events(time_limit=0.02), condition())[1], pause=0)


@check("every message is confirmed once")
def all_confirmed(context):
    queue = unique("confirmed")
    with context.connect() as connection:
        recorder = Recorder(connection)
        recorder.channel.queue_declare(queue, durable=True)
        for n in range(1_000):
            recorder.channel.basic_publish("", queue, b"%d" % n, pika.BasicProperties(delivery_mode=2))
        until_done(connection, lambda: len(recorder.taken()) == 1_000)
        that(all(recorder.taken().values()), "all are taken")
        equal(bodies(recorder.channel, queue, 1_000), [b"%d" % n for n in range(1_000)])
        recorder.channel.queue_delete(queue)


@check("a full queue that rejects gets its messages nacked, the others acked")
def nacked(context):
    queue = unique("nacked")
    with context.connect() as connection:
        recorder = Recorder(connection)
        recorder.channel.queue_declare(queue, durable=True, arguments={"x-max-length": 3, "x-overflow": "reject-publish"})
        for n in range(6):
            recorder.channel.basic_publish("", queue, b"%d" % n)
            until_done(connection, lambda n=n: len(recorder.taken()) == n + 1)
        equal([recorder.taken()[n] for n in range(1, 7)], [True] * 3 + [False] * 3)
        equal(bodies(recorder.channel, queue, 3), [b"0", b"1", b"2"])
        recorder.channel.queue_delete(queue)


@check("what is routed nowhere is confirmed all the same")
def nowhere(context):
    with context.connect() as connection:
        recorder = Recorder(connection)
        recorder.channel.basic_publish("amq.direct", unique("nowhere"), b"x")
        until_done(connection, lambda: recorder.taken() == {1: True})


@check("a confirmed message is there at once for another connection")
def visible(context):
    queue = unique("visible")
    with context.connect() as connection, context.connect() as other:
        channel, reader = connection.channel(), other.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, durable=True)
        for n in range(50):
            channel.basic_publish("", queue, b"%d" % n, pika.BasicProperties(delivery_mode=2))
            _, _, body = reader.basic_get(queue, auto_ack=True)
            equal(body, b"%d" % n)
        channel.queue_delete(queue)


@check("publishing to an exchange that is not there closes the channel")
def no_exchange(context):
    name = unique("no-exchange")
    with context.connect() as connection:
        channel = connection.channel()
        channel.basic_publish(name, "k", b"x")
        refused(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'", lambda: channel.queue_declare("", exclusive=True))
        connection.channel().queue_declare("", exclusive=True)
