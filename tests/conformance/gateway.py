"""Starts a gateway in front of one server, and fixture servers; ends them with the block that started them."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import time
import urllib.error
import urllib.request

# Longest for a gateway or a server to listen, or for a gateway to have met its server, in seconds.
STARTING = 20
# Longest to end after SIGTERM, in seconds.
ENDING = 10
# What /upstreams says of a server that the gateway has met.
MET = ("up", "ready", "serving")


@contextlib.contextmanager
def running(command, log, needle):
    """Runs a command until the block ends; gives what it printed that `needle`, with one group, matches."""
    with open(log, "w+") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + STARTING
        while True:
            with open(log) as printed:
                found = needle.search(printed.read())
            if found:
                break
            if process.poll() is not None or time.monotonic() > end:
                with open(log) as printed:
                    raise RuntimeError(f"{shlex.join(command)} does not listen:\n{printed.read()[-2000:]}")
            time.sleep(0.02)
        yield found, process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def fixture(command, log):
    """A server of ours over HTTP: its URL."""
    with running([*command, "http", "0"], log, re.compile(r"^(http://\S+)$", re.M)) as (found, _):
        yield found[1]


@contextlib.contextmanager
def gateway(upstream, log, *options):
    """A gateway in front of a server: `upstream` is ["--http", URL] or ["--stdio", COMMAND]. Gives host:port."""
    lakh = os.environ.get("LAKH", "target/release/lakh")
    command = [lakh, "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *options, *upstream]
    printed = re.compile(r"^clients +(\S+).*\n(?:.*\n)*?admin +(\S+)", re.M)
    with running(command, log, printed) as (found, process):
        wait_for_upstreams(found[2])
        yield found[1]
        if process.poll() is not None:
            raise RuntimeError(f"the gateway has ended with {process.returncode}; see {log}")


def wait_for_upstreams(admin):
    """Returns when the gateway has met all its servers."""
    end, told = time.monotonic() + STARTING, "nothing"
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError, ValueError, ConnectionError):
            with urllib.request.urlopen(f"{admin.rstrip('/')}/upstreams", timeout=5) as answer:
                told = json.load(answer)
            known = told if isinstance(told, list) else told.get("upstreams", [])
            if known and all(it.get("state") in MET for it in known):
                return
        time.sleep(0.02)
    raise RuntimeError(f"the gateway has not met its servers; /upstreams tells {told}")
