"""What the judge of the crash tests must notice: small logs with one thing wrong each. A judge that misses one proves nothing."""

from ledger import Ledger, body, missing, name_of, out_of_order

WHOLE = {0: ("a", 0), 1: ("b", 0), 2: ("a", 1), 3: ("a", 2)}


def unnoticed():
    """Faults: what went unnoticed, or was found where nothing is wrong."""
    told = dict(WHOLE)
    cases = [
        ("nothing wrong", not list(missing(WHOLE, told)) and not list(out_of_order(WHOLE, {"a"}))),
        ("an acknowledged record that is gone", any(missing({0: ("a", 0), 1: ("b", 0), 2: ("a", 1)}, told))),
        ("another record at its offset", any(missing({**WHOLE, 3: ("b", 1)}, told))),
        ("a record that is there twice", any(out_of_order({**WHOLE, 4: ("a", 2)}, set()))),
        ("two records the other way round", any(out_of_order({0: ("a", 1), 1: ("a", 0)}, set()))),
        ("a hole in a lasting producer's records", any(out_of_order({0: ("a", 0), 1: ("a", 2)}, {"a"}))),
        ("a hole is no fault of a producer that died", not any(out_of_order({0: ("b", 0), 1: ("b", 2)}, {"a"}))),
        ("a body cut short", name_of(body("a", 7, 500)[:-1]) is None),
        ("a body with a changed byte", name_of(body("a", 7, 500)[:-1] + b"!") is None),
        ("a whole body", name_of(body("a", 7, 500)) == ("a", 7)),
        ("two records read at one offset", _two_at_one_offset()),
        ("two records acknowledged at one offset", _told_twice()),
    ]
    return [name for name, noticed in cases if not noticed]


def _two_at_one_offset():
    ledger = Ledger()
    ledger.see(0, 5, body("a", 1, 10))
    ledger.see(0, 5, body("a", 2, 10))
    return bool(ledger.broken)


def _told_twice():
    ledger = Ledger()
    ledger.acknowledge(0, 5, "a", 1)
    ledger.acknowledge(0, 5, "b", 1)
    return bool(ledger.broken)
