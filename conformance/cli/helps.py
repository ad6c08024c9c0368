"""`--help`: every command tells its options."""

from harness import check, equal, holds

OPTIONS = {
    ("serve",): ["--config", "--data-dir", "--kafka", "--kafka-advertised", "--amqp", "--aws", "--http", "--insecure", "--set", "--log",
                 "MILLSTREAM_", "topics.auto_create", "log.segment_bytes", "./millstream-data", "127.0.0.1:9092", "127.0.0.1:5672", "127.0.0.1:4566", "127.0.0.1:15672"],
    ("topic",): ["create", "list", "describe", "alter", "delete"],
    ("topic", "create"): ["--partitions", "--set", "--json", "--server"],
    ("topic", "list"): ["--json", "--server"],
    ("topic", "describe"): ["--json", "--server"],
    ("topic", "alter"): ["--partitions", "--set", "--unset", "--json"],
    ("topic", "delete"): ["--server"],
    ("queue",): ["create", "list", "describe", "delete", "purge", "peek", "publish", "redrive", "redrives", "cancel-redrive", "unpark"],
    ("queue", "create"): ["--ttl", "--max-length", "--max-bytes", "--overflow", "--max-priority", "--attempts", "--backoff",
                          "--dead-letter-exchange", "--dead-letter-routing-key", "--lease", "--delay", "--expires", "--single-active", "--on-exhausted", "--fifo", "--id-window", "--ordering", "--key-from"],
    ("queue", "list"): ["--span", "--json", "--server"],
    ("queue", "describe"): ["--span", "--json"],
    ("queue", "delete"): ["--if-unused", "--if-empty"],
    ("queue", "peek"): ["--max", "--key-separator", "--json"],
    ("queue", "publish"): ["--file", "--priority", "--ttl", "--delay", "--id", "--header", "--property"],
    ("queue", "redrive"): ["--to", "--max", "--rate", "--detach"],
    ("queue", "redrives"): ["--wait", "--json"],
    ("exchange",): ["create", "list", "describe", "delete"],
    ("exchange", "create"): ["--type", "--internal", "--auto-delete", "--alternate", "--argument"],
    ("binding",): ["create", "list", "delete"],
    ("binding", "create"): ["--kind", "--key", "--argument"],
    ("user",): ["add", "list", "delete", "passwd", "permissions"],
    ("user", "add"): ["--password", "--tag", "--server"],
    ("user", "permissions"): ["CONFIGURE", "WRITE", "READ", "--vhost", "--clear"],
    ("bridge",): ["create", "list", "describe", "pause", "resume", "delete"],
    ("bridge", "create"): ["--from-topic", "--from-queue", "--from-dead-letters-of", "--start", "--to-queue", "--to-exchange", "--to-topic",
                           "--filter", "--group", "--dedup", "--routing-key", "--priority", "--delay-ms", "--header", "--on-poison",
                           "--on-trimmed", "literal:TEXT"],
    ("bridge", "list"): ["--json", "--server"],
    ("bridge", "resume"): ["--on-poison", "--on-trimmed"],
    ("produce",): ["--file", "--key-separator", "--partition", "--header", "--json", "--server"],
    ("consume",): ["--from", "--partition", "--group", "--follow", "--max", "--count", "--no-ack", "--key-separator", "--json", "--server",
                   "earliest", "latest", "offset:N", "time:MS"],
    ("group",): ["list", "describe", "delete", "reset-offsets"],
    ("group", "list"): ["--json"],
    ("group", "describe"): ["--json"],
    ("group", "delete"): ["--server"],
    ("group", "reset-offsets"): ["--topic", "--partition", "--to-earliest", "--to-latest", "--to-offset", "--to-time", "--shift-by",
                                 "--dry-run", "--json"],
}


@check("every command's --help names its options")
def _(place):
    for command, options in OPTIONS.items():
        ended = place.run(*command, "--help")
        equal(ended.code, 0, " ".join(command))
        holds(ended.out, *options)
    holds(place.run("--help").out, "serve", "topic", "produce", "consume", "group")
    holds(place.run("--version").out, "millstream ")


@check("a command or an option that is not there is refused with status 2")
def _(place):
    for words in (["fly"], ["topic", "fly"], ["consume", "t", "--fast"], []):
        ended = place.run(*words)
        equal(ended.code, 2, " ".join(words))
        holds(ended.err, "Usage")
