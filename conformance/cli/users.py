"""`user`: who may log in over AMQP, and what each may do."""

import socket
import struct

from harness import check, equal, holds, until
from serving import samples
from settings import SMALL


def amqp_login(address, user, password):
    """Logs in with PLAIN; gives `in`, or the code and text of the refusal."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        file = connection.makefile("rb")

        def frame():
            kind, _, size = struct.unpack(">BHI", file.read(7))
            payload = file.read(size)
            file.read(1)
            return kind, payload

        connection.sendall(b"AMQP\x00\x00\x09\x01")
        frame()
        wants = b"\x1cauthentication_failure_closet\x01"
        properties = b"\x0ccapabilitiesF" + struct.pack(">I", len(wants)) + wants
        response = b"\0%s\0%s" % (user.encode(), password.encode())
        body = struct.pack(">HHI", 10, 11, len(properties)) + properties + b"\x05PLAIN" + struct.pack(">I", len(response)) + response + b"\x05en_US"
        connection.sendall(struct.pack(">BHI", 1, 0, len(body)) + body + b"\xce")
        _, payload = frame()
        method = struct.unpack(">HH", payload[:4])
        if method == (10, 30):
            return "in"
        equal(method, (10, 50), "the answer to start-ok")
        length = payload[6]
        return struct.unpack(">H", payload[4:6])[0], payload[7:7 + length].decode()


@check("a user logs in with its password, from the option or from standard input, also after a restart")
def _(place):
    server = place.serve(*SMALL)
    equal(amqp_login(server.amqp, "guest", "guest"), "in")
    code, text = amqp_login(server.amqp, "guest", "wrong")
    equal(code, 403)
    holds(text, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN")
    holds(server.ok("user", "add", "ann", "--password", "first", "--tag", "monitoring").out, "user ann")
    server.ok("user", "add", "bob", stdin="se cret\n")
    equal(amqp_login(server.amqp, "ann", "first"), "in")
    equal(amqp_login(server.amqp, "bob", "se cret"), "in")
    equal(amqp_login(server.amqp, "bob", "first")[0], 403)
    server.ok("user", "passwd", "ann", stdin="second\n")
    server.ok("user", "delete", "guest")
    server.kill()
    server = place.serve(*SMALL)
    equal(amqp_login(server.amqp, "ann", "second"), "in")
    equal(amqp_login(server.amqp, "ann", "first")[0], 403)
    equal(amqp_login(server.amqp, "guest", "guest")[0], 403)
    equal([u["name"] for u in server.ok("user", "list", "--json").json()["users"]], ["ann", "bob"])


@check("metrics count AMQP's connections and refused logins")
def _(place):
    server = place.serve(*SMALL)
    amqp_login(server.amqp, "guest", "guest")
    amqp_login(server.amqp, "guest", "wrong")
    found = until(lambda: (lambda m: m["millstream_amqp_connections"] == 0 and m)(samples(server.get("/metrics")[2])), "the ends")
    equal(found["millstream_amqp_connections_accepted_total"], 2.0)
    equal(found["millstream_amqp_logins_refused_total"], 1.0)
    equal(found["millstream_amqp_published_messages_total"], 0.0)


@check("user permissions are set, shown, listed and taken away")
def _(place):
    server = place.serve(*SMALL)
    server.ok("user", "add", "ann", "--password", "p")
    holds(server.ok("user", "list").out, "guest  administrator  /", ".*", "ann")
    server.ok("user", "permissions", "ann", "", "^amq\\.default$", "^jobs")
    equal(server.ok("user", "permissions", "ann", "--json").json()["permissions"],
          {"/": {"configure": "", "write": "^amq\\.default$", "read": "^jobs"}})
    holds(server.ok("user", "permissions", "ann").out, "^jobs", "VHOST")
    server.ok("user", "permissions", "ann", "--clear")
    equal(server.ok("user", "permissions", "ann", "--json").json()["permissions"], {})


@check("users that cannot be made or changed are refused, and say why")
def _(place):
    server = place.serve(*SMALL)
    holds(server.refused("user", "add", "guest", "--password", "p"), "exists")
    holds(server.refused("user", "add", "ann"), "no password")
    holds(server.refused("user", "add", "ann", "--password", "p", "--tag", "a,b"), "tags")
    for action in (["delete", "nobody"], ["passwd", "nobody", "--password", "p"], ["permissions", "nobody"],
                   ["permissions", "nobody", ".*", ".*", ".*"]):
        holds(server.refused("user", *action), "nobody")
    holds(server.refused("user", "permissions", "guest", "(", ".*", ".*"), "configure")
    holds(server.refused("user", "permissions", "guest", ".*", ".*", ".*", "--vhost", "other"), "virtual host")
    holds(server.refused("user", "permissions", "guest", ".*"), "Usage")


@check("a damaged file of users stops the start by name, and nobody gets in by it")
def _(place):
    server = place.serve(*SMALL)
    server.ok("user", "add", "ann", "--password", "p")
    server.stop()
    path = "%s/users" % place.data
    with open(path, "r+b") as file:
        text = file.read()
        assert b"$argon2id$" in text and b"\np\n" not in text, text
        file.seek(25)
        file.write(bytes([text[25] ^ 1]))
    holds(place.fails(*SMALL), "users", "checksum")
