#!/usr/bin/env python3
"""Where a decode step's time goes: a Markdown table of a timeline that `exactflash generate --trace`
wrote. The threads' shares are the time in which they were in kernels, of the wall time of all steps of
one token; what is missing there is waiting, sampling, and the writing of the timeline.

usage: bench/steps.py TIMELINE
"""

import json
import sys
from bisect import bisect_right
from collections import Counter
from pathlib import Path

OPERATORS = 0  # the timeline's row of whole operators; the others are threads


def decode_steps(events):
    """(begin, end) of each forward pass of one token but the last, whose end is not known."""
    first = [e for e in events if e["tid"] == OPERATORS and e["cat"] == "embedding"]
    pairs = zip(first, first[1:], strict=False)
    return [(e["ts"], following["ts"]) for e, following in pairs if e["args"]["rows"] == 1]


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    events = [e for e in json.loads(Path(sys.argv[1]).read_text())["traceEvents"] if e["ph"] == "X"]
    steps = decode_steps(events)
    if not steps:
        sys.exit(f"{sys.argv[1]}: no step of one token; generate two tokens or more")
    begins = [begin for begin, _ in steps]
    wall = sum(end - begin for begin, end in steps)
    operators, busy = Counter(), Counter()
    for e in events:
        step = bisect_right(begins, e["ts"]) - 1
        if step < 0 or e["ts"] >= steps[step][1]:
            continue
        if e["tid"] == OPERATORS:
            operators[e["name"]] += e["dur"]
        else:
            busy[e["tid"]] += e["dur"]
    print("| operator | µs a step | share |\n|---|---|---|")
    for name, time in operators.most_common():
        print(f"| {name} | {time / len(steps):.1f} | {100 * time / wall:.1f} % |")
    for thread, time in sorted(busy.items()):
        print(f"| *thread {thread - 1} in kernels* | {time / len(steps):.1f} | {100 * time / wall:.1f} % |")


if __name__ == "__main__":
    main()
