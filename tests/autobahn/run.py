"""Runs the Autobahn cases against the echo at HOST:PORT, all but compression, and sums them up by group."""

import asyncio
import os
import sys
from collections import Counter, defaultdict

import kosoku

COMPRESSION = ["12.*", "13.*"]
# What the suite has besides compression; fewer would be a run that proves less than it says.
CASES = 301
ACCEPTED = {"OK", "NON-STRICT", "INFORMATIONAL"}


def verdict(case):
    """The worse of the two: of the messages, and of the closing handshake."""
    behaviour, close = case.behavior.value, case.behavior_close.value
    return behaviour if behaviour not in ACCEPTED or close in ACCEPTED else close


async def main(address):
    try:
        cases = await kosoku.run_fuzzingclient(address, None, COMPRESSION, concurrency=8)
    except kosoku.FailureError as failure:
        cases = failure.results
    groups = defaultdict(Counter)
    for case in cases:
        groups[int(case.case_id.split(".")[0])][verdict(case)] += 1
    for group, verdicts in sorted(groups.items()):
        print(f"  {group:>2}.*  " + ", ".join(f"{count} {name}" for name, count in sorted(verdicts.items())))
    failed = [case for case in cases if not case.passed]
    for case in cases:
        if not case.passed or verdict(case) == "NON-STRICT":
            print(f"  {case.case_id}: {verdict(case)}: {case.result} {case.result_close}")
    print(f"autobahn: {len(cases) - len(failed)} passed, {len(failed)} failed")
    if len(cases) != CASES:
        print(f"autobahn: {len(cases)} cases ran where there should be {CASES}")
    return 1 if failed or len(cases) != CASES else 0


status = asyncio.run(main(sys.argv[1]))
sys.stdout.flush()
# Not sys.exit: kosoku's own threads outlive its cases, and in one run of fifteen abort an interpreter that takes itself
# apart below them.
os._exit(status)
