"""Random histories: `make(seed)` gives a list of operations, which are dicts of plain values, so that they can be printed and read again.

What is listed in docs/protocols.md under "What differs from RabbitMQ on purpose", or differs between RabbitMQ 3.10 and 4, is left out
here; each place says which line."""

import random

QUEUES = ["@q1", "@q2", "@q3", "@q4"]
SERVER_NAMED = ["@s1", "@s2"]
EXCHANGES = ["@x1", "@x2", "@x3", "@x4"]
KINDS = ["direct", "fanout", "topic", "headers"]
KEYS = ["a", "b", "a.b", "a.b.c", "a..c", "", "b.c", "*", "#"]
PATTERNS = ["a", "b", "a.*", "a.#", "*.b.*", "#", "*", "#.c", "a.*.c", "", "#.#", "*.#", "a.b.#"]
FAR_MS = 3_600_000

HEADER_VALUES = [
    ("t", True), ("t", False), ("b", -5), ("B", 200), ("s", -300), ("u", 60000), ("I", -70000), ("I", 5), ("i", 4000000000), ("l", 1 << 40), ("l", 5),
    ("f", 1.5), ("d", 2.25), ("d", 5.0), ("D", (2, 314)), ("S", "text"), ("S", ""), ("x", b"\x00\xffbytes"), ("x", b"text"), ("T", 1500000000), ("V", None),
    ("A", []), ("A", [("I", 1), ("S", "two"), ("A", [("t", True)])]), ("F", {}), ("F", {"a": ("I", 1), "b": ("F", {"c": ("S", "d")})}),
    ("I", 1500000000), ("S", "5"),
]
BAD_ARGUMENTS = [
    {"x-message-ttl": ("S", "abc")}, {"x-message-ttl": ("l", -1)}, {"x-max-length": ("S", "5")}, {"x-max-length": ("I", -1)},
    {"x-max-length-bytes": ("t", True)}, {"x-max-priority": ("I", 256)}, {"x-max-priority": ("I", -1)}, {"x-max-priority": ("S", "5")},
    {"x-overflow": ("S", "no-such")}, {"x-overflow": ("I", 1)}, {"x-dead-letter-routing-key": ("S", "key")},
    {"x-dead-letter-exchange": ("I", 1)}, {"x-single-active-consumer": ("S", "yes")}, {"x-queue-type": ("S", "no-such")},
    {"x-expires": ("I", 0)}, {"x-expires": ("I", -1)}, {"x-message-ttl": ("d", 1.5)}, {"x-message-ttl": ("V", None)}, {"x-queue-type": ("I", 1)},
    {"x-dead-letter-exchange": ("S", ""), "x-dead-letter-routing-key": ("I", 5)}, {"x-message-ttl": ("l", 1 << 40)}, {"x-max-length": ("f", 1.0)},
]


class Maker:
    """Makes one history."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        chance = self.random.random
        self.quorum = chance() < 0.25
        self.transactions = chance() < 0.3
        self.wrong = chance() < 0.5
        self.global_qos = not self.quorum and chance() < 0.3
        self.dead_key = chance() < 0.5
        # docs/protocols.md: "What is given back goes to whoever waits before a limit is held against it". So one or the other.
        self.gives_back = chance() < 0.6
        # Whether a message with no time to live is expired or pushed out by the next of a burst depends on which comes first.
        self.no_time = chance() < 0.3
        self.bodies = 0
        self.tags = 0
        self.consumers = []
        self.definitions = {queue: self.definition() for queue in QUEUES}
        self.kinds = {exchange: self.random.choice(KINDS) for exchange in EXCHANGES}
        self.exchange_definitions = {exchange: self.exchange_definition() for exchange in EXCHANGES}

    def yes(self, chance):
        return self.random.random() < chance

    def on(self):
        """A connection and a channel; the first of each more often."""
        return (self.random.choice([1, 1, 2]), self.random.choice([1, 1, 2]))

    def queue(self):
        return self.random.choice(QUEUES + SERVER_NAMED[:1]) if self.yes(0.9) else self.random.choice(SERVER_NAMED)

    def exchange(self):
        if self.yes(0.03):
            return "@none"
        return self.random.choice(EXCHANGES)

    # Definitions.

    def definition(self):
        """How a queue is declared."""
        chance, pick = self.yes, self.random.choice
        arguments = {}
        quorum = self.quorum and chance(0.6)
        if quorum:
            arguments["x-queue-type"] = ("S", "quorum")
            if chance(0.4):
                arguments["x-delivery-limit"] = ("I", pick([0, 1, 2]))
        elif chance(0.1):
            arguments["x-queue-type"] = ("S", "classic")
        if chance(0.15):
            arguments["x-message-ttl"] = (pick("Il"), 0 if self.no_time and chance(0.7) else FAR_MS)
        # docs/protocols.md: "A limit of a quorum queue is as exact as a classic one's". RabbitMQ refuses only after one was over it.
        limits = ["drop-head"] if quorum else ["drop-head", "reject-publish", "reject-publish-dlx"]
        if not self.gives_back and chance(0.5):
            arguments["x-max-length"] = (pick("Ilsb"), pick([0, 1, 2, 3, 5]))
        if not self.gives_back and chance(0.3):
            arguments["x-max-length-bytes"] = ("I", pick([0, 5, 30, 200]))
        if chance(0.4):
            arguments["x-overflow"] = ("S", pick(limits))
        if chance(0.2) and not quorum:
            arguments["x-max-priority"] = (pick("IB"), pick([1, 3, 10, 255]))
        if chance(0.15):
            arguments["x-single-active-consumer"] = ("t", chance(0.8))
        if chance(0.45):
            arguments["x-dead-letter-exchange"] = ("S", pick(["", *EXCHANGES, "@none"]))
            if self.dead_key and chance(0.7):
                arguments["x-dead-letter-routing-key"] = ("S", pick([*QUEUES, *QUEUES, "a.b", ""]))
        if chance(0.1):
            arguments["x-unknown"] = pick(HEADER_VALUES)
        return {"durable": quorum or chance(0.5), "exclusive": not quorum and chance(0.12), "auto_delete": not quorum and chance(0.12), "arguments": arguments}

    def exchange_definition(self):
        arguments = {}
        if self.yes(0.3):
            arguments["alternate-exchange"] = ("S", self.random.choice([*EXCHANGES, "amq.fanout" if self.yes(0.1) else "@none"]))
        return {"durable": self.yes(0.5), "auto_delete": self.yes(0.12), "internal": self.yes(0.1), "arguments": arguments}

    def declare_queue(self, name):
        op = {"do": "queue", "on": self.on(), "queue": name, "passive": self.yes(0.08), **self.definitions[name]}
        if self.yes(0.1):
            other = self.definition()
            field = self.random.choice(list(other))
            op[field] = other[field]
        if self.wrong and self.yes(0.1):
            op["arguments"] = {**op["arguments"], **self.random.choice(BAD_ARGUMENTS)}
            op["queue"] = self.random.choice([name, "@fresh"])
        return op

    def declare_server_named(self):
        alias = self.random.choice(SERVER_NAMED)
        definition = self.definition()
        if "x-queue-type" in definition["arguments"]:
            definition = {"durable": False, "exclusive": True, "auto_delete": False, "arguments": {}}
        return {"do": "queue", "on": self.on(), "queue": "", "alias": alias, "passive": False, **definition}

    def declare_exchange(self, name):
        op = {"do": "exchange", "on": self.on(), "exchange": name, "type": self.kinds[name], "passive": self.yes(0.08), **self.exchange_definitions[name]}
        if self.yes(0.1):
            op["type"] = self.random.choice(KINDS)
        if self.yes(0.1):
            other = self.exchange_definition()
            field = self.random.choice(list(other))
            op[field] = other[field]
        return op

    def binding(self, bind):
        source = self.exchange()
        kind = self.kinds.get(source, "direct")
        to = "exchange" if self.yes(0.3) else "queue"
        target = self.exchange() if to == "exchange" else self.queue()
        arguments = {}
        if kind == "headers":
            arguments = self.header_pattern()
        elif self.yes(0.05):
            arguments = {"extra": self.random.choice(HEADER_VALUES)}
        # docs/protocols.md: "Unbinding somebody else's exclusive queue": RabbitMQ says so only if there was such a binding.
        if not bind and to == "queue":
            target = self.random.choice([queue for queue in QUEUES if not self.definitions[queue]["exclusive"]] or ["@none"])
        key = self.random.choice(PATTERNS if kind == "topic" else KEYS + QUEUES)
        return {"do": "bind", "bind": bind, "on": self.on(), "to": to, "target": target, "exchange": source, "key": key, "arguments": arguments}

    def header_pattern(self):
        arguments = {}
        if self.yes(0.9):
            arguments["x-match"] = ("S", self.random.choice(["all", "any", "all-with-x", "any-with-x"]))
        for name in self.random.sample(["h1", "h2", "h3", "x-h4"], self.random.choice([0, 1, 1, 2])):
            arguments[name] = self.random.choice(HEADER_VALUES)
        return arguments

    # Messages.

    def headers(self):
        headers = {}
        for name in self.random.sample(["h1", "h2", "h3", "x-h4"], self.random.choice([1, 2, 3])):
            headers[name] = self.random.choice(HEADER_VALUES)
        # docs/protocols.md: "a message that gets a new key when it is dead-lettered keeps its `CC`"; 3.10 drops it.
        if not self.dead_key and self.yes(0.2):
            for name in self.random.choice([["CC"], ["BCC"], ["CC", "BCC"]]):
                headers[name] = ("A", [("S", self.random.choice(KEYS + QUEUES)) for _ in range(self.random.choice([0, 1, 2]))])
        return headers

    def properties(self):
        chance, pick = self.yes, self.random.choice
        properties = {}
        if chance(0.5):
            properties["headers"] = self.headers() if chance(0.9) else {}
        if chance(0.6):
            properties["delivery_mode"] = pick([1, 2])
        if chance(0.35):
            properties["priority"] = pick([0, 1, 2, 3, 5, 9, 200])
        if chance(0.1):
            properties["expiration"] = "0" if self.no_time and chance(0.7) else str(FAR_MS)
        for name, values in {
            "content_type": ["text/plain", ""], "content_encoding": ["utf-8"], "correlation_id": ["c1", ""], "reply_to": ["@q1", "nobody"], "message_id": ["m1"],
            "timestamp": [0, 1500000000, 1 << 40], "type": ["a-type"], "user_id": ["guest"], "app_id": ["app"], "cluster_id": ["cluster"],
        }.items():
            if chance(0.07):
                properties[name] = pick(values)
        return properties

    def publish(self):
        if self.yes(0.45):
            exchange, key = "", self.queue()
        else:
            exchange, key = self.exchange(), self.random.choice(KEYS + QUEUES[:1])
        count = 1 if self.no_time or self.yes(0.75) else self.random.choice([2, 3, 6])
        bodies = []
        for _ in range(count):
            self.bodies += 1
            bodies.append((f"m{self.bodies}", self.random.choice([0, 0, 0, 1, 20, 100]) if self.yes(0.98) else 300_000))
        return {"do": "publish", "on": self.on(), "exchange": exchange, "key": key, "mandatory": self.yes(0.3), "properties": self.properties(), "bodies": bodies}

    # What is done with them.

    def get(self):
        return {"do": "get", "on": self.on(), "queue": self.queue(), "no_ack": self.yes(0.3)}

    def consume(self):
        self.tags += 1
        tag = f"c{self.tags}"
        on = self.on()
        self.consumers.append((on, tag))
        arguments = {"x-priority": ("I", self.random.choice([-1, 1, 2, 10]))} if self.yes(0.25) else {}
        if self.wrong and self.yes(0.05):
            arguments = {"x-priority": ("S", "high")}
        if self.wrong and self.yes(0.05):
            on, tag = self.random.choice(self.consumers)
        return {"do": "consume", "on": on, "queue": self.queue(), "tag": tag, "no_ack": self.yes(0.25), "no_local": self.yes(0.05),
                "exclusive": not self.quorum and self.yes(0.1), "arguments": arguments}

    def cancel(self):
        on, tag = self.random.choice(self.consumers) if self.consumers and self.yes(0.9) else (self.on(), "nobody")
        return {"do": "cancel", "on": on, "tag": tag}

    def qos(self):
        return {"do": "qos", "on": self.on(), "count": self.random.choice([0, 1, 1, 2, 3]), "channel_wide": self.global_qos and self.yes(0.5)}

    def settle(self):
        verb = self.random.choice(["ack", "nack", "nack", "reject"])
        return {"do": "settle", "on": self.on(), "verb": verb, "pick": self.random.randrange(8), "multiple": verb != "reject" and self.yes(0.3),
                "all": self.yes(0.3), "requeue": self.gives_back and self.yes(0.5)}

    def tx(self):
        return {"do": "tx", "on": self.on(), "step": self.random.choice(["select", "commit", "commit", "rollback"])}

    def mistake(self):
        """What the protocol answers with an error."""
        on, pick = self.on(), self.random.choice
        queue, exchange = self.queue(), self.exchange()
        declare = {"do": "exchange", "on": on, "exchange": exchange, "type": "direct", "passive": False, "durable": False, "auto_delete": False,
                   "internal": False, "arguments": {}}
        plain = {"durable": False, "exclusive": False, "auto_delete": False, "arguments": {}}
        publish = {**self.publish(), "on": on}
        return pick([
            {**declare, "exchange": "amq.mine"}, {**declare, "exchange": ""}, {**declare, "type": "no-such"}, {**declare, "exchange": "amq.topic"},
            {**declare, "exchange": "amq.direct", "durable": True}, {**declare, "exchange": "@none", "passive": True}, {**declare, "exchange": "", "passive": True},
            {**declare, "exchange": "@x9", "arguments": {"alternate-exchange": ("I", 5)}},
            {"do": "exchange_delete", "on": on, "exchange": pick(["amq.direct", "", "amq.headers", "@none"]), "if_unused": self.yes(0.3)},
            {"do": "queue", "on": on, "queue": "amq.mine", "passive": False, **plain}, {"do": "queue", "on": on, "queue": "@none", "passive": True, **plain},
            {"do": "queue", "on": on, "queue": "@fresh", "passive": False, **plain, "arguments": pick(BAD_ARGUMENTS)},
            {"do": "queue_delete", "on": on, "queue": "@none", "if_unused": self.yes(0.5), "if_empty": self.yes(0.5)},
            {"do": "purge", "on": on, "queue": pick(["@none", ""])}, {"do": "get", "on": on, "queue": pick(["@none", ""]), "no_ack": False},
            {**self.binding(self.yes(0.5)), "exchange": pick(["", "@none", "amq.direct"]), "on": on},
            {**self.binding(self.yes(0.5)), "target": pick(["", "@none"]), "on": on},
            {**self.binding(True), "to": "queue", "target": queue, "exchange": "amq.headers", "arguments": {"x-match": pick([("S", "none"), ("I", 1)])}},
            {**publish, "exchange": "@none"}, {**publish, "immediate": True}, {**publish, "properties": {"user_id": "somebody"}},
            {**publish, "properties": {"expiration": pick(["abc", "-1", "1.5", "", "99999999999", "5 "])}},
            {**publish, "properties": {"headers": {pick(["CC", "BCC"]): pick([("S", "a"), ("A", [("I", 1)]), ("V", None)])}}},
            {"do": "qos", "on": on, "count": 1, "size": 10, "channel_wide": False}, {"do": "recover", "on": on, "requeue": False},
            {"do": "settle_unknown", "on": on, "verb": pick(["ack", "nack"]), "tag": pick([99999, 1, 2]), "multiple": self.yes(0.5)},
            {"do": "settle_unknown", "on": on, "verb": pick(["ack", "nack"]), "tag": 0, "multiple": self.yes(0.5)},
            {"do": "tx", "on": on, "step": pick(["commit", "rollback", "select"])}, {"do": "confirm", "on": on},
            {**self.consume(), "queue": pick(["@none", ""])}, {"do": "cancel", "on": on, "tag": ""},
        ])

    def operation(self):
        deletions = [
            lambda: {"do": "queue_delete", "on": self.on(), "queue": self.queue(), "if_unused": not self.quorum and self.yes(0.3),
                     "if_empty": not self.quorum and self.yes(0.3)},
            lambda: {"do": "exchange_delete", "on": self.on(), "exchange": self.exchange(), "if_unused": self.yes(0.4)},
        ]
        if self.gives_back:
            deletions += [lambda: {"do": "close_channel", "on": self.on()}, lambda: {"do": "close_connection", "on": self.on()}]
        weighted = [
            (28, self.publish), (12, self.get), (9, self.consume), (3, self.cancel), (4, self.qos), (20, self.settle),
            (2 if self.gives_back else 0, lambda: {"do": "recover", "on": self.on(), "requeue": True}),
            (2, lambda: {"do": "confirm", "on": self.on()}),
            (2, lambda: {"do": "purge", "on": self.on(), "queue": self.queue()}),
            (3, lambda: self.declare_queue(self.random.choice(QUEUES))), (1, self.declare_server_named),
            (2, lambda: self.declare_exchange(self.random.choice(EXCHANGES))), (4, lambda: self.binding(True)), (2, lambda: self.binding(False)),
            (3, self.random.choice(deletions)), (1, lambda: {"do": "flow", "on": self.on()}),
            (6 if self.transactions else 0, self.tx), (4 if self.wrong else 0, self.mistake),
        ]
        return self.random.choices([make for _, make in weighted], [weight for weight, _ in weighted])[0]()

    def history(self, length):
        ops = [self.declare_queue(queue) for queue in QUEUES if self.yes(0.85)]
        ops += [self.declare_exchange(exchange) for exchange in EXCHANGES if self.yes(0.75)]
        ops += [self.binding(True) for _ in range(self.random.choice([2, 4, 7]))]
        if self.yes(0.5):
            ops += [{"do": "confirm", "on": (connection, 1)} for connection in (1, 2)]
        return ops + [self.operation() for _ in range(length)]


def make(seed):
    """The history of a seed."""
    maker = Maker(seed)
    return maker.history(maker.random.choice([15, 25, 40]))
