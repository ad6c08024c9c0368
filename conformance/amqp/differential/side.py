"""One of the two brokers, and what a history did to it: does operations, and tells what is to be seen. Start at `Side`.

Names in a history begin with `@`. On the broker they get a prefix of the run, or are what the broker called a queue; what is told has
the history's names again, so that both brokers' words can be compared."""

import time

import pika
from pika import spec

import wire

OBSERVER = 900
BARRIER = "amq.direct"
DEATHS = ("exchange", "queue", "reason")


class Side:
    """A broker. `prepare` an operation, `start` it, then `look` until there is nothing new; `take` what it did."""

    def __init__(self, address, prefix, queues):
        self.address = address
        self.prefix = prefix
        self.queues = queues  # the names that are looked at
        self.real = {}  # what the broker called queues itself
        self.quorum = set()
        self.owners = {}  # queue: the connection that declared it
        self.wires = {}
        self.observer = wire.Wire(address)

    def close(self):
        for one in [*self.wires.values(), self.observer]:
            try:
                one.close()
            except (OSError, wire.Lost):
                pass

    # Names.

    def name(self, value):
        """What a history's word is on this broker."""
        if isinstance(value, str) and value.startswith("@"):
            return self.real.get(value, self.prefix + value[1:])
        if isinstance(value, dict):
            return {key: self.name(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.name(one) for one in value)
        return value

    def plain(self, value):
        """The history's word for what this broker says."""
        if isinstance(value, str):
            for alias, real in self.real.items():
                value = value.replace(real, alias)
            return value.replace(self.prefix, "@")
        if isinstance(value, dict):
            return {key: self.plain(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.plain(one) for one in value)
        return value

    # Doing.

    def wire(self, number):
        one = self.wires.get(number)
        if one is None or one.closed:
            one = self.wires[number] = wire.Wire(self.address)
        return one

    def at(self, op):
        """The connection and the channel that an operation uses, opened where they are not."""
        connection, number = op["on"]
        one = self.wire(connection)
        return one, number, one.channel(number)

    def prepare(self, op):
        """What an operation will touch, to be the same on both sides; None: it has no object any more."""
        if op["do"] != "settle":
            return "as it is"
        one = self.wires.get(op["on"][0])
        channel = one and not one.closed and one.channels.get(op["on"][1])
        if not channel or channel.closed or not channel.unacked:
            return None
        by_name = sorted(channel.unacked, key=lambda tag: (channel.unacked[tag][1], channel.unacked[tag][0], tag))
        tag = by_name[op["pick"] % len(by_name)]
        covered = [t for t in sorted(channel.unacked) if t <= tag] if op["multiple"] else [tag]
        self.chosen = (tag, covered)
        return [channel.unacked[t] for t in covered]

    def start(self, op):
        """Does an operation; what it was answered."""
        return getattr(self, "do_" + op["do"])(op)

    def _call(self, op, method, *fields):
        """A method that is answered: the fields of its answer, None where something closed."""
        one, number, _ = self.at(op)
        return self._answer(one.call(number, method), fields)

    def _answer(self, answer, fields):
        if answer is None:
            return None
        if isinstance(answer, tuple):
            return self.told(*answer)
        return (type(answer).__name__, *(self.plain(getattr(answer, field)) for field in fields))

    def _send(self, op, method, *content):
        one, number, channel = self.at(op)
        one.send(number, method, *content)
        return channel

    def do_queue(self, op):
        asked = self.name(op["queue"])
        answer = self._call(op, spec.Queue.Declare(
            queue="" if op.get("alias") else asked, passive=op["passive"], durable=op["durable"], exclusive=op["exclusive"],
            auto_delete=op["auto_delete"], arguments=self.name(op["arguments"])), "queue", "message_count", "consumer_count")
        if answer and op.get("alias"):
            self.real[op["alias"]] = answer[1]
            answer = (answer[0], answer[1].startswith("amq.gen-"), *answer[2:])
        if answer:
            answer = answer[:3] if op["queue"] in self.quorum else answer
        if answer and op["arguments"].get("x-queue-type") == ("S", "quorum"):
            self.quorum.add(op["queue"])
        if answer and op["exclusive"] and not op["passive"]:
            self.owners[op.get("alias") or op["queue"]] = op["on"][0]
        return answer

    def do_queue_delete(self, op):
        return self._call(op, spec.Queue.Delete(queue=self.name(op["queue"]), if_unused=op["if_unused"], if_empty=op["if_empty"]), "message_count")

    def do_purge(self, op):
        return self._call(op, spec.Queue.Purge(queue=self.name(op["queue"])), "message_count")

    def do_bind(self, op):
        kinds = {("queue", True): spec.Queue.Bind, ("queue", False): spec.Queue.Unbind,
                 ("exchange", True): spec.Exchange.Bind, ("exchange", False): spec.Exchange.Unbind}
        kind = kinds[op["to"], op["bind"]]
        key, arguments = self.name(op["key"]), self.name(op["arguments"])
        if op["to"] == "queue":
            return self._call(op, kind(queue=self.name(op["target"]), exchange=self.name(op["exchange"]), routing_key=key, arguments=arguments))
        return self._call(op, kind(destination=self.name(op["target"]), source=self.name(op["exchange"]), routing_key=key, arguments=arguments))

    def do_exchange(self, op):
        return self._call(op, spec.Exchange.Declare(
            exchange=self.name(op["exchange"]), type=op["type"], passive=op["passive"], durable=op["durable"], auto_delete=op["auto_delete"],
            internal=op["internal"], arguments=self.name(op["arguments"])))

    def do_exchange_delete(self, op):
        return self._call(op, spec.Exchange.Delete(exchange=self.name(op["exchange"]), if_unused=op["if_unused"]))

    def do_publish(self, op):
        """One message or a burst, without waiting in between."""
        channel = None
        for name, size in op["bodies"]:
            properties = pika.BasicProperties(**self.name(op["properties"]))
            _, _, channel = self.at(op)
            if channel.confirming:
                channel.published += 1
                channel.tag_bodies[channel.published] = name
            self._send(op, spec.Basic.Publish(exchange=self.name(op["exchange"]), routing_key=self.name(op["key"]), mandatory=op["mandatory"],
                                              immediate=op.get("immediate", False)), properties, name.encode() + b"." * size)
        self.at(op)[0].flush()

    def do_get(self, op):
        one, number, channel = self.at(op)
        answer = one.call(number, spec.Basic.Get(queue=self.name(op["queue"]), no_ack=op["no_ack"]))
        if isinstance(answer, tuple) and not op["no_ack"]:
            channel.unacked[answer[0].delivery_tag] = ("get", wire.body_name(answer[2]))
        return self._answer(answer, ())

    def do_consume(self, op):
        _, _, channel = self.at(op)
        channel.tags.add(op["tag"])
        if op["no_ack"]:
            channel.no_ack.add(op["tag"])
        else:
            channel.no_ack.discard(op["tag"])
        return self._call(op, spec.Basic.Consume(queue=self.name(op["queue"]), consumer_tag=op["tag"], no_ack=op["no_ack"], no_local=op["no_local"],
                                                 exclusive=op["exclusive"], arguments=op["arguments"]), "consumer_tag")

    def do_cancel(self, op):
        return self._call(op, spec.Basic.Cancel(consumer_tag=op["tag"]), "consumer_tag")

    def do_qos(self, op):
        return self._call(op, spec.Basic.Qos(prefetch_count=op["count"], prefetch_size=op.get("size", 0), global_qos=op["channel_wide"]))

    def do_settle(self, op):
        tag, covered = self.chosen
        tag = 0 if op["multiple"] and op.get("all") and covered[-1] == max(self.at(op)[2].unacked) else tag
        kind, multiple, requeue = op["verb"], op["multiple"], op["requeue"]
        method = {"ack": spec.Basic.Ack(tag, multiple), "nack": spec.Basic.Nack(tag, multiple, requeue), "reject": spec.Basic.Reject(tag, requeue)}[kind]
        channel = self._send(op, method)
        for one in covered:
            gone = channel.unacked.pop(one)
            if channel.transactional:
                channel.withheld[one] = gone

    def do_settle_unknown(self, op):
        self._send(op, spec.Basic.Ack(op["tag"], op["multiple"]) if op["verb"] == "ack" else spec.Basic.Nack(op["tag"], op["multiple"], True))

    def do_recover(self, op):
        _, _, channel = self.at(op)
        if op["requeue"]:
            channel.unacked.clear()
        return self._call(op, spec.Basic.Recover(requeue=op["requeue"]))

    def do_confirm(self, op):
        answer = self._call(op, spec.Confirm.Select())
        self.at(op)[2].confirming |= answer is not None
        return answer

    def do_tx(self, op):
        _, _, channel = self.at(op)
        method = {"select": spec.Tx.Select, "commit": spec.Tx.Commit, "rollback": spec.Tx.Rollback}[op["step"]]
        if op["step"] == "rollback":
            channel.unacked.update(channel.withheld)
        if op["step"] != "select":
            channel.withheld = {}
        answer = self._call(op, method())
        channel.transactional |= answer is not None
        return answer

    def do_flow(self, op):
        return self._call(op, spec.Channel.Flow(active=True), "active")

    def do_close_channel(self, op):
        connection, number = op["on"]
        one = self.wires.get(connection)
        if one and not one.closed and number in one.channels and not one.channels[number].closed:
            channel = one.channels[number]
            one.send(number, spec.Channel.Close(200, "bye", 0, 0))
            one.flush()
            # Its answer is not a reply to wait for by itself: the observer's channel comes after it.
            self._sync(one)
            del one.channels[number]
            return len(channel.replies)
        return None

    def do_close_connection(self, op):
        one = self.wires.pop(op["on"][0], None)
        if one and not one.closed:
            one.close()

    def do_cancel_all(self, _):
        """Ends all consumers."""
        for one in self.wires.values():
            for number, channel in one.channels.items():
                if number != OBSERVER and not channel.closed and not one.closed:
                    for tag in sorted(channel.tags):
                        one.call(number, spec.Basic.Cancel(consumer_tag=tag))

    def _sync(self, one):
        one.channel(OBSERVER)
        one.call(OBSERVER, spec.Exchange.Declare(exchange=BARRIER, passive=True))

    # Seeing.

    def look(self):
        """All that was seen since `take`, after every channel has answered once more, and the counts of all queues."""
        asked = []
        for one in self.wires.values():
            for number, channel in one.channels.items():
                if number != OBSERVER and not channel.closed and not one.closed:
                    one.send(number, spec.Exchange.Declare(exchange=BARRIER, passive=True))
                    asked.append((one, channel))
            one.flush()
        for one, channel in asked:
            one.reply(channel)
        return {"counts": {queue: self._count(queue) for queue in self.queues}, **self._seen()}

    def _count(self, queue):
        """A queue's messages and consumers, or the code that it is refused with."""
        owner = self.wires.get(self.owners.get(queue))
        one = owner if owner and not owner.closed else self.observer
        one.channel(OBSERVER)
        answer = one.call(OBSERVER, spec.Queue.Declare(queue=self.name(queue), passive=True))
        if answer is None:
            return one.channels[OBSERVER].closed[0] if one.channels[OBSERVER].closed else "lost"
        # RabbitMQ counts whoever has messages of a quorum queue among its consumers, and of several only the active one.
        return (answer.message_count, answer.consumer_count if queue not in self.quorum else 0)

    def _seen(self):
        seen = {}
        for connection, one in self.wires.items():
            if one.closed:
                seen[connection] = self.plain(one.closed)
                continue
            for number, channel in one.channels.items():
                if number == OBSERVER:
                    continue
                what = {
                    "closed": self.plain(channel.closed),
                    "delivered": {tag: [self.told(*one) for one in all_] for tag, all_ in channel.deliveries.items() if all_},
                    "returned": [(*self.told(*one[:3]), "before its confirm" if one[3] or not channel.confirming else "after its confirm")
                                 for one in channel.returns],
                    "confirmed": dict(sorted(channel.confirms.items())),
                    "cancelled": sorted(channel.cancels),
                    "unasked": [str(one) for one in channel.replies],
                }
                what = {key: value for key, value in what.items() if value}
                if what:
                    seen[connection, number] = what
        return seen

    def told(self, method, properties, body):
        """A message as it is compared."""
        about = [type(method).__name__]
        for field in ("exchange", "routing_key", "redelivered", "message_count", "reply_code", "reply_text"):
            if hasattr(method, field):
                about.append(f"{field}={self.plain(getattr(method, field))!r}")
        values = {name: value for name, value in vars(properties).items() if value is not None}
        if "headers" in values:
            values["headers"] = self._headers(self.plain(values["headers"]))
            # An empty table of `basic.get` may have been one with the `x-delivery-count` that was taken away.
            if not values["headers"] and isinstance(method, spec.Basic.GetOk):
                del values["headers"]
        return (" ".join(about), wire.body_name(body), len(body), self.plain(values))

    @staticmethod
    def _headers(headers):
        """Headers without what differs on purpose, or by the hour."""
        # docs/protocols.md, `x-queue-type`: what was never given back has no `x-delivery-count`. 3.10 says 0 of it to `basic.get`.
        if headers.get("x-delivery-count") == ("l", 0):
            del headers["x-delivery-count"]
        deaths = headers.get("x-death")
        if deaths is not None and deaths[0] == "A":
            for kind, death in deaths[1]:
                if kind == "F" and death.get("time", ("", 0))[0] == "T":
                    death["time"] = "a time"
            # docs/protocols.md, "What is promised": dead letters carry `x-last-death-*`. RabbitMQ has them since 3.13. They say what the
            # first entry says.
            for what in DEATHS:
                headers.setdefault(f"x-last-death-{what}", deaths[1][0][1][what])
        return headers

    def take(self):
        """Forgets what was seen."""
        for one in self.wires.values():
            for channel in one.channels.values():
                channel.deliveries, channel.returns, channel.confirms, channel.cancels = {}, [], {}, []
        self.wires = {number: one for number, one in self.wires.items() if not one.closed}
        for one in self.wires.values():
            one.channels = {number: channel for number, channel in one.channels.items() if not channel.closed}

    def sweep(self, exchanges):
        """Deletes everything."""
        for one in self.wires.values():
            one.close()
        self.wires = {}
        for kind, names in (("queue", self.queues), ("exchange", exchanges)):
            for name in names:
                one = self.observer if not self.observer.closed else wire.Wire(self.address)
                self.observer = one
                one.channel(OBSERVER)
                real = self.name(name)
                one.call(OBSERVER, spec.Queue.Delete(queue=real) if kind == "queue" else spec.Exchange.Delete(exchange=real))


def wait(seconds):
    """Lets the brokers work."""
    time.sleep(seconds)  # tidy: pacing
