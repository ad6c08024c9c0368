"""Users of AMQP and their permissions, seen by a real client: the texts are RabbitMQ's."""

import pika

from clients import SMALL, amqp, listens
from harness import check, equal


def connected(server, name, password):
    host, port = listens(server, "amqp").rsplit(":", 1)
    credentials = pika.PlainCredentials(name, password)
    return pika.BlockingConnection(pika.ConnectionParameters(host, int(port), credentials=credentials))


def denied(connection, what, action):
    channel = connection.channel()
    try:
        action(channel)
        channel.queue_declare("", exclusive=True)
    except pika.exceptions.ChannelClosedByBroker as error:
        equal((error.reply_code, error.reply_text), (403, "ACCESS_REFUSED - access to %s in vhost '/' refused for user 'ann'" % what))
        return
    raise AssertionError("%s: not denied" % what)


@check("what a user's permissions do not allow closes the channel with 403 and RabbitMQ's text, and a change of them counts at once")
def _(place):
    server = place.serve(*SMALL)
    amqp(server).queue_declare("jobs", durable=True)
    server.ok("user", "add", "ann", "--password", "p")
    try:
        connected(server, "ann", "p")
        raise AssertionError("let in without permissions")
    except (pika.exceptions.ConnectionClosedByBroker, pika.exceptions.ProbableAccessDeniedError):
        pass
    server.ok("user", "permissions", "ann", "^$", "^amq\\.default$", "^jobs$")
    connection = connected(server, "ann", "p")
    denied(connection, "queue 'mine'", lambda channel: channel.queue_declare("mine"))
    denied(connection, "exchange 'amq.direct'", lambda channel: channel.basic_publish("amq.direct", "jobs", b""))
    denied(connection, "queue 'jobs'", lambda channel: channel.queue_delete("jobs"))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("", "jobs", b"1")
    equal(channel.basic_get("jobs", auto_ack=True)[2], b"1")
    server.ok("user", "permissions", "ann", "^$", "^amq\\.default$", "^none$")
    denied(connection, "queue 'jobs'", lambda channel: channel.basic_get("jobs"))
