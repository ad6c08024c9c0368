"""Checks: registered by name, run one after another, counted."""

import time
import traceback

WITHIN_S = 30
REGISTERED = []


class Skip(Exception):
    """This machine cannot make the check; says why."""


def check(name):
    """Registers a function of one place as a check."""

    def register(function):
        REGISTERED.append((name, function))
        return function

    return register


def until(condition, what, within_s=WITHIN_S):
    """Waits until `condition` gives something true, and gives that."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError("not in %d s: %s" % (within_s, what))
        time.sleep(0.01)  # tidy: pacing


def equal(found, wanted, what=""):
    assert found == wanted, "%s%r, not %r" % (what and what + ": ", found, wanted)


def holds(text, *words):
    """Every one of `words` stands in `text`."""
    for word in words:
        assert word in text, "no %r in %r" % (word, text)


def run_all(place_for, only):
    """Runs the checks whose name holds `only`; gives the exit status."""
    passed = failed = skipped = 0
    for number, (name, function) in enumerate(REGISTERED):
        if only not in name:
            continue
        place = place_for(str(number))
        try:
            function(place)
            passed += 1
            print("ok %s" % name, flush=True)
        except Skip as why:
            skipped += 1
            print("skip %s: %s" % (name, why), flush=True)
        except Exception as error:  # noqa: BLE001  (whatever it was, the check failed)
            failed += 1
            at = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in at if not frame.filename.endswith("harness.py")]
            line = "%s:%d" % (own[-1].name, own[-1].lineno) if own else "?"
            print("FAIL %s: %s (%s)" % (name, " ".join(str(error).split()) or type(error).__name__, line), flush=True)
        finally:
            place.end()
    more = ", %d skipped" % skipped if skipped else ""
    print("%d passed, %d failed%s" % (passed, failed, more), flush=True)
    return 1 if failed or not passed else 0
