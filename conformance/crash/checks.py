"""Counting checks, one line each, and the closing line."""


class Checks:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.skipped = 0

    def that(self, name, faults, ok=""):
        """One check: it holds when `faults` is empty. `ok` says what was looked at."""
        faults = list(faults)
        if faults:
            self.failed += 1
            more = " (and %d more)" % (len(faults) - 3) if len(faults) > 3 else ""
            print("FAIL %s: %s%s" % (name, "; ".join(faults[:3]), more), flush=True)
        else:
            self.passed += 1
            print("ok %s%s" % (name, " (%s)" % ok if ok else ""), flush=True)

    def skip(self, name, why):
        """A check that this machine cannot make."""
        self.skipped += 1
        print("skip %s: %s" % (name, why), flush=True)

    def close(self):
        """Prints the closing line; gives the exit status."""
        more = ", %d skipped" % self.skipped if self.skipped else ""
        print("%d passed, %d failed%s" % (self.passed, self.failed, more), flush=True)
        return 1 if self.failed or not (self.passed or self.skipped) else 0
