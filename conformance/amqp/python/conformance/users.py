"""Users and what they may do. Needs `--admin`, the broker's own command line."""

import contextlib
import struct

import pika

from .frames import CLOSE, Wire
from .harness import check, equal, refused, take, that, unique

PASSWORD = "pass word"


class Admin:
    """Makes and removes users, by the broker's own command line."""

    def __init__(self, context):
        self.run, self.rabbitmq = context.command, context.peer == "rabbitmq"

    def add(self, name, tags):
        if self.rabbitmq:
            self.run("add_user", name, PASSWORD)
            self.run("set_user_tags", name, *tags)
        else:
            self.run("user", "add", name, "--password", PASSWORD, *[f"--tag={tag}" for tag in tags])

    def permit(self, name, configure, write, read):
        if self.rabbitmq:
            self.run("set_permissions", "-p", "/", name, configure, write, read)
        else:
            self.run("user", "permissions", name, configure, write, read)

    def delete(self, name):
        self.run(*(["delete_user"] if self.rabbitmq else ["user", "delete"]), name)


@contextlib.contextmanager
def a_user(context, permissions=None, tags=()):
    """The name of a user that is there for as long."""
    admin, name = Admin(context), unique("user")
    admin.add(name, tags)
    if permissions:
        admin.permit(name, *permissions)
    try:
        yield name
    finally:
        admin.delete(name)


def logged_in(context, name, password=PASSWORD, **more):
    return context.connect(credentials=pika.PlainCredentials(name, password), **more)


def logs_in(context, mechanism, response):
    """What a login is answered with: `tune`, or the code and text of a close; None if the connection just ends."""
    wire = Wire(context)
    wire.raw(b"AMQP\x00\x00\x09\x01")
    wire.expect(10, 10)
    wants = b"\x1cauthentication_failure_closet\x01"
    properties = b"\x0ccapabilitiesF" + struct.pack(">I", len(wants)) + wants
    wire.method(0, 10, 11, struct.pack(">I", len(properties)) + properties + bytes([len(mechanism)]) + mechanism
                + struct.pack(">I", len(response)) + response + b"\x05en_US")
    try:
        frame = wire.receive()
    except ConnectionResetError:
        return None
    if frame is None:
        return None
    method = struct.unpack(">HH", frame[2][:4])
    if method == (10, 30):
        return "tune"
    equal(method, CLOSE, "method")
    return struct.unpack(">H", frame[2][4:6])[0], frame[2][7:7 + frame[2][6]].decode()


def amqplain(name, password):
    texts = [(b"LOGIN", name), (b"PASSWORD", password)]
    return b"".join(bytes([len(key)]) + key + b"S" + struct.pack(">I", len(value)) + value.encode() for key, value in texts)


@check("users log in with PLAIN and AMQPLAIN; another password or no such user is 403 in both", admin=True)
def mechanisms(context):
    with a_user(context, (".*", ".*", ".*")) as name:
        equal(logs_in(context, b"PLAIN", f"\0{name}\0{PASSWORD}".encode()), "tune")
        equal(logs_in(context, b"AMQPLAIN", amqplain(name, PASSWORD)), "tune")
        for mechanism, response in [(b"PLAIN", f"\0{name}\0wrong".encode()), (b"AMQPLAIN", amqplain(name, "wrong")),
                                    (b"PLAIN", f"\0no-{name}\0{PASSWORD}".encode()), (b"AMQPLAIN", amqplain("no-" + name, PASSWORD))]:
            text = (f"ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism.decode()}. "
                    "For details see the broker logfile.")
            equal(logs_in(context, mechanism, response), (403, text))


@check("a mechanism that is not offered ends the connection", admin=True)
def external(context):
    wire = Wire(context)
    wire.raw(b"AMQP\x00\x00\x09\x01")
    offered = wire.expect(10, 10)
    that(b"PLAIN" in offered and b"AMQPLAIN" in offered and b"EXTERNAL" not in offered, offered)
    that(logs_in(context, b"EXTERNAL", b"") != "tune", "EXTERNAL got in")


@check("a virtual host that is not there, or that a user has no permissions in, is refused with 530", admin=True)
def vhosts(context):
    with a_user(context) as name:
        for virtual_host, text in [("/", f"NOT_ALLOWED - access to vhost '/' refused for user '{name}'"),
                                   ("nowhere", "NOT_ALLOWED - vhost nowhere not found")]:
            # pika takes a close at this moment for a refusal of its own kind.
            try:
                logged_in(context, name, virtual_host=virtual_host)
                raise AssertionError("got in")
            except pika.exceptions.ConnectionClosedByBroker as error:
                equal((error.reply_code, error.reply_text), (530, text))
            except pika.exceptions.ProbableAccessDeniedError as error:
                that("530" in str(error) and text in str(error), str(error))


# What is named with these letters in front may be configured, written to, read from.
LETTERS = ("^[^-]*c", "^[^-]*w", "^[^-]*r")


def operations(own):
    """Each operation with what it is done to, and the letter without which it may not be."""
    bind = lambda channel, queue, exchange: channel.queue_bind(queue, exchange, "k")
    unbind = lambda channel, queue, exchange: channel.queue_unbind(queue, exchange, "k")
    exchange_bind = lambda channel, to, source: channel.exchange_bind(to, source, "k")
    exchange_unbind = lambda channel, to, source: channel.exchange_unbind(to, source, "k")
    publish = lambda channel, exchange: (channel.basic_publish(exchange, "k", b""), channel.queue_declare(own, passive=True))
    dead = lambda channel, queue, exchange: channel.queue_declare(unique(queue), auto_delete=True, arguments={"x-dead-letter-exchange": exchange})
    alternate = lambda channel, name, exchange: channel.exchange_declare(unique(name), arguments={"alternate-exchange": exchange})
    return [
        ("declare a queue", "queue", "c", lambda channel, name: channel.queue_declare(name)),
        ("bind a queue", "queue", "w", lambda channel, name: bind(channel, name, "cwr-exchange")),
        ("bind to an exchange", "exchange", "r", lambda channel, name: bind(channel, "cwr-queue", name)),
        ("unbind a queue", "queue", "w", lambda channel, name: unbind(channel, name, "cwr-exchange")),
        ("unbind from an exchange", "exchange", "r", lambda channel, name: unbind(channel, "cwr-queue", name)),
        ("purge", "queue", "r", lambda channel, name: channel.queue_purge(name)),
        ("get", "queue", "r", lambda channel, name: channel.basic_get(name)),
        ("consume", "queue", "r", lambda channel, name: channel.basic_consume(name, lambda *_: None)),
        ("publish", "exchange", "w", publish),
        ("declare an exchange", "exchange", "c", lambda channel, name: channel.exchange_declare(name)),
        ("bind an exchange", "exchange", "w", lambda channel, name: exchange_bind(channel, name, "cwr-exchange")),
        ("bind an exchange to one", "exchange", "r", lambda channel, name: exchange_bind(channel, "cwr-exchange", name)),
        ("unbind an exchange", "exchange", "w", lambda channel, name: exchange_unbind(channel, name, "cwr-exchange")),
        ("unbind an exchange from one", "exchange", "r", lambda channel, name: exchange_unbind(channel, "cwr-exchange", name)),
        ("dead-letter to an exchange", "exchange", "w", lambda channel, name: dead(channel, "cwr-dead", name)),
        ("have an alternate exchange", "exchange", "w", lambda channel, name: alternate(channel, "cwr-alternate", name)),
        ("delete a queue", "queue", "c", lambda channel, name: channel.queue_delete(name)),
        ("delete an exchange", "exchange", "c", lambda channel, name: channel.exchange_delete(name)),
    ]


@check("each operation asks for configure, write or read, on what it touches, and is refused with 403 without it", admin=True)
def by_operation(context):
    run = unique("")
    with context.connect() as guest, a_user(context, LETTERS) as name:
        channel = guest.channel()
        own = f"own{run}"
        channel.queue_declare(own)
        for letters in ["cwr", "wr", "cr", "cw"]:
            channel.queue_declare(f"{letters}-queue{run}")
            channel.exchange_declare(f"{letters}-exchange{run}")
        with logged_in(context, name) as connection:
            its = connection.channel()
            its.queue_declare(own, passive=True)
            for what, kind, letter, action in operations(own):
                within = lambda channel, thing: action(Renamed(channel, run), thing)
                without = "cwr".replace(letter, "") + f"-{kind}{run}"
                text = f"ACCESS_REFUSED - access to {kind} '{without}' in vhost '/' refused for user '{name}'"
                closing = connection.channel()
                try:
                    error = refused(403, text, lambda: within(closing, without))
                except AssertionError as failure:
                    raise AssertionError(f"{what}: {failure}") from failure
                equal(error.reply_text, text, what)
                try:
                    within(its, f"cwr-{kind}{run}")
                except pika.exceptions.ChannelClosedByBroker as failure:
                    raise AssertionError(f"{what}: {failure}") from failure
            for text, action in [
                ("access to exchange 'amq.default'", lambda c: (c.basic_publish("", own, b""), c.queue_declare(own, passive=True))),
                ("access to queue 'amq.gen-", lambda c: c.queue_declare("")),
                (f"access to queue 'cw-dead{run}'", lambda c: c.queue_declare(f"cw-dead{run}", arguments={"x-dead-letter-exchange": f"cw{run}"})),
                (f"access to exchange 'cw-alt{run}'", lambda c: c.exchange_declare(f"cw-alt{run}", arguments={"alternate-exchange": f"cw{run}"})),
            ]:
                refused(403, text, lambda action=action: action(connection.channel()))
            its.close()
        for letters in ["wr", "cr", "cw"]:
            channel.queue_delete(f"{letters}-queue{run}")
            channel.exchange_delete(f"{letters}-exchange{run}")
        channel.queue_delete(own)


class Renamed:
    """A channel on which names that a table says get what makes them this run's."""

    def __init__(self, channel, run):
        self.channel, self.run = channel, run

    def __getattr__(self, method):
        call = getattr(self.channel, method)
        mine = lambda value: value + self.run if value in ("cwr-queue", "cwr-exchange") else value
        return lambda *args, **more: call(*[mine(a) for a in args], **more)


@check("who may not do something does not learn whether it could be done", admin=True)
def nothing_learned(context):
    with a_user(context, ("^$", "^$", "^$")) as name, logged_in(context, name) as connection:
        absent = unique("absent")
        for kind, action in [
            ("exchange", lambda c: (c.basic_publish(absent, "k", b""), c.queue_declare("", exclusive=True))),
            ("queue", lambda c: c.queue_purge(absent)),
            ("queue", lambda c: c.queue_bind(absent, "amq.direct", "k")),
            ("queue", lambda c: c.queue_unbind(absent, "amq.direct", "k")),
            ("queue", lambda c: c.basic_get(absent)),
            ("queue", lambda c: c.basic_consume(absent, lambda *_: None)),
            ("queue", lambda c: c.queue_delete(absent)),
            ("exchange", lambda c: c.exchange_delete(absent)),
        ]:
            channel = connection.channel()
            refused(403, f"access to {kind} '{absent}' in vhost '/' refused for user '{name}'", lambda: action(channel))


@check("a message may name its own user alone, unless that user is an impersonator", admin=True)
def user_id(context):
    queue = unique("q")
    with context.connect() as guest, a_user(context, (".*", ".*", ".*")) as name, \
            a_user(context, (".*", ".*", ".*"), ["impersonator"]) as other:
        channel = guest.channel()
        channel.queue_declare(queue)
        for user, said in [(name, name), (other, name)]:
            with logged_in(context, user) as connection:
                its = connection.channel()
                its.confirm_delivery()
                its.basic_publish("", queue, b"", pika.BasicProperties(user_id=said))
            method, properties, _ = take(channel, queue)
            channel.basic_ack(method.delivery_tag)
            equal(properties.user_id, said)
        with logged_in(context, name) as connection:
            its = connection.channel()
            its.confirm_delivery()
            text = f"PRECONDITION_FAILED - user_id property set to '{other}' but authenticated user was '{name}'"
            refused(406, text, lambda: its.basic_publish("", queue, b"", pika.BasicProperties(user_id=other)))
        channel.queue_delete(queue)


@check("permissions that are taken away close the next channel that needs them", admin=True)
def taken(context):
    queue = unique("q")
    with context.connect() as guest, a_user(context, ("", "", queue)) as name:
        channel = guest.channel()
        channel.queue_declare(queue)
        with logged_in(context, name) as connection:
            connection.channel().basic_get(queue)
            Admin(context).permit(name, "", "", "")
            text = f"ACCESS_REFUSED - access to queue '{queue}' in vhost '/' refused for user '{name}'"
            refused(403, text, lambda: connection.channel().basic_get(queue))
        channel.queue_delete(queue)


@check("permissions that are taken away count for the next message that a transaction publishes", admin=True, peer="millstream")
def taken_from_a_transaction(context):
    # RabbitMQ remembers for a while what a channel may do.
    with a_user(context, ("", ".*", "")) as name, logged_in(context, name) as connection:
        channel = connection.channel()
        channel.tx_select()
        channel.basic_publish("amq.direct", "k", b"")
        channel.tx_commit()
        Admin(context).permit(name, "", "", "")
        channel.basic_publish("amq.direct", "k", b"")
        refused(403, "access to exchange 'amq.direct'", channel.tx_commit)
