"""Runs a client command with a gateway between it and the server whose URL is the last argument.

Usage: through.py COMMAND... URL
"""

import os
import subprocess
import sys
import tempfile

from gateway import gateway

*command, url = sys.argv[1:]
with tempfile.NamedTemporaryFile(suffix=".log") as log:
    try:
        with gateway(["--http", url], log.name) as address:
            code = subprocess.run([*command, f"http://{address}/mcp"]).returncode
    finally:
        sys.stderr.write(log.read().decode(errors="replace")[-20_000:])
# The children of the gateway, if any, have ended with it.
os._exit(code)
