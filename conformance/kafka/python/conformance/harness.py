"""What checks of Kafka's clients share: where the broker is, and the public text. Registering and running is `suite`'s."""

import pathlib

from suite import check, equal, that, unique, until  # noqa: F401  (for the checks)

DATA = pathlib.Path(__file__).resolve().parents[2] / "data"
TEXT = DATA / "opticks.txt"


class Context:
    """What a check is told: the broker's address and which broker it is."""

    def __init__(self, bootstrap, peer):
        self.bootstrap = bootstrap
        self.peer = peer
        host, port = bootstrap.rsplit(":", 1)
        self.address = (host, int(port))


def text_lines():
    """The public text as a list of lines of bytes, without their line feeds."""
    data = TEXT.read_bytes()
    assert data.endswith(b"\n")
    return data[:-1].split(b"\n")
