"""Small file systems of their own, to be filled: in memory, and ext4 on a loop device."""

import os
import subprocess
from contextlib import contextmanager

KINDS = ("tmpfs", "ext4")


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
