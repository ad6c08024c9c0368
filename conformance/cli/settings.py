"""Settings: flags, environment, TOML file, which of them wins, and what is refused."""

import os

from harness import check, equal, holds
from program import free_port
from wire import Connection

SMALL = ("--set", "log.segment_bytes=1048576")


def write(place, text):
    path = os.path.join(place.folder, "settings.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def partitions_by_default(server):
    server.ok("topic", "create", "asked")
    return server.ok("topic", "describe", "asked", "--json").json()["partitions"]


@check("a setting comes from the TOML file, over it the environment, over that the command line")
def _(place):
    file = write(place, "[topics]\npartitions = 3\n[log]\nsegment_bytes = 1048576\n")
    env = {"MILLSTREAM_TOPICS_PARTITIONS": "4"}
    cases = [((), None, 3), ((), env, 4), (("--set", "topics.partitions=5"), env, 5)]
    for number, (flags, environment, wanted) in enumerate(cases):
        server = place.serve("--config", file, *flags, env=environment, data="%s-%d" % (place.data, number))
        equal(partitions_by_default(server), wanted)
        server.stop()


@check("the file's own name, addresses and the data directory come from the environment too")
def _(place):
    file = write(place, "[topics]\npartitions = 7\n[log]\nsegment_bytes = 1048576\n")
    port = free_port()
    data = os.path.join(place.folder, "elsewhere")
    env = {"MILLSTREAM_CONFIG": file, "MILLSTREAM_KAFKA_LISTEN": "off", "MILLSTREAM_HTTP_LISTEN": "127.0.0.1:%d" % port}
    server = place.serve(env=env, kafka=None, http=None, data=data)
    equal(server.http, "127.0.0.1:%d" % port)
    equal(server.kafka, None)
    equal(partitions_by_default(server), 7)
    assert os.path.isdir(data)


@check("an unknown setting is refused wherever it stands")
def _(place):
    holds(place.fails("--set", "topics.colour=red"), "topics.colour", "--help")
    holds(place.fails("--config", write(place, "[topics]\ncolour = 'red'\n")), "settings.toml", "topics.colour")
    holds(place.fails(env={"MILLSTREAM_TOPICS_COLOUR": "red"}), "MILLSTREAM_TOPICS_COLOUR")
    equal(place.digest(), {})


@check("a value that is not of its kind is refused with its name and what it must be")
def _(place):
    holds(place.fails("--set", "topics.partitions=many"), "topics.partitions", "many", "whole number")
    holds(place.fails("--set", "topics.partitions=0"), "topics.partitions", "must be 1 to")
    holds(place.fails("--set", "log.segment_bytes=1048577"), "log.segment_bytes", "4096")
    holds(place.fails("--set", "topics.auto_create=maybe"), "topics.auto_create", "true or false")
    holds(place.fails("--set", "topics.partitions"), "KEY=VALUE")
    holds(place.fails(kafka="nowhere"), "kafka.listen", "HOST:PORT")
    holds(place.fails("--kafka-advertised", "here"), "kafka.advertised", "HOST:PORT")


@check("a file that is not there, or is not TOML, is refused by name")
def _(place):
    holds(place.fails("--config", "absent.toml"), "absent.toml")
    holds(place.fails("--config", write(place, "topics = [")), "settings.toml", "TOML")


@check("an address that other machines reach is refused without --insecure")
def _(place):
    holds(place.fails(kafka="0.0.0.0:0"), "kafka.listen", "--insecure")
    holds(place.fails(http="[::]:0"), "http.listen", "--insecure")
    holds(place.fails(env={"MILLSTREAM_KAFKA_LISTEN": "0.0.0.0:0"}, kafka=None), "kafka.listen", "--insecure")
    equal(place.digest(), {})


@check("the log's words go to standard error, as many as asked for")
def _(place):
    server = place.serve(*SMALL, "--log", "debug")
    equal(server.stop(), 0)
    quiet = place.serve(*SMALL, "--log", "error")
    equal(quiet.stop(), 0)
    equal(quiet.errors(), "")
    holds(place.fails("--log", "millstream=loud"), "loud")


@check("clients are told the address that is advertised, not the one that is listened on")
def _(place):
    server = place.serve(*SMALL, "--kafka-advertised", "broker.example.org:19092")
    equal(Connection(server.kafka).brokers(), [("broker.example.org", 19092)])
    server.stop()
    server = place.serve(*SMALL, env={"MILLSTREAM_KAFKA_ADVERTISED": "[::1]:29092"})
    equal(Connection(server.kafka).brokers(), [("::1", 29092)])
    server.stop()
    server = place.serve("--config", write(place, "[kafka]\nadvertised = 'from.a.file:9'\n[log]\nsegment_bytes = 1048576\n"))
    equal(Connection(server.kafka).brokers(), [("from.a.file", 9)])
    server.stop()
    server = place.serve(*SMALL)
    host, port = server.kafka.split(":")
    equal(Connection(server.kafka).brokers(), [(host, int(port))], "without one")
