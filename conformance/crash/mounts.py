"""Small file systems of their own, to be filled: in memory, and ext4 on a loop device."""

import argparse
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager

from checks import Checks

KINDS = ("tmpfs", "ext4")
MIB = 1 << 20


class NotHere(Exception):
    """This machine mounts no such file system; says why."""


def _run(*command):
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotHere("%s is not installed" % command[0]) from None
    if ended.returncode != 0:
        raise NotHere("%s: %s" % (command[0], " ".join(ended.stderr.split()) or "status %d" % ended.returncode))


@contextmanager
def mounted(kind, path, mib):
    """A file system of so many MiB at `path`, gone afterwards."""
    if os.geteuid() != 0:
        raise NotHere("not root: cannot mount")
    os.makedirs(path)
    image = path + ".image"
    if kind == "tmpfs":
        _run("mount", "-t", "tmpfs", "-o", "size=%dm" % mib, "none", path)
    else:
        with open(image, "wb") as file:
            file.truncate(mib << 20)
        _run("mkfs.ext4", "-q", "-m", "0", image)
        _run("mount", "-o", "loop", image, path)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=False)
        if os.path.exists(image):
            os.remove(image)


class Eater:
    """Another program that takes all that is free."""

    def __init__(self, path):
        self.path = path

    def eat(self):
        with open(self.path, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(MIB))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def leave(self):
        if os.path.exists(self.path):
            os.remove(self.path)


def on_each(name, description, mib, run):
    """A program: has `run(kind, binary, directory, checks)` done with a file system of each kind at the directory's `data`. Its exit status."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--mib", type=int, default=mib, help="size of the file system")
    arguments = parser.parse_args()
    checks = Checks()
    for kind in KINDS:
        if arguments.only not in (None, kind):
            continue
        directory = tempfile.mkdtemp(prefix=name.replace(",", "").replace(" ", "-") + "-")
        failed = checks.failed
        try:
            with mounted(kind, os.path.join(directory, "data"), arguments.mib):
                run(kind, os.path.abspath(arguments.binary), directory, checks)
        except NotHere as why:
            checks.skip("%s, %s" % (name, kind), why)
        if checks.failed == failed:
            shutil.rmtree(directory)
        else:
            print("kept for a look: %s" % directory, file=sys.stderr)
    return checks.close()
