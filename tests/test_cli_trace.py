#!/usr/bin/env python3
"""Tests of the program: --trace."""

import json
import os
import signal
import subprocess
import time

from cli_support import COMMAND, TIMEOUT, Case, TerminalCase, environment, main

LAYERS = 12
PER_LAYER = {"rms_norm": 2, "linear": 4, "rotary_embedding": 1, "kv_write": 1, "silu_mul": 1,
             "scaled_dot_product_attention": 1, "add": 2}
PROMPT = ["generate", "-p", "Once upon a time", "--temp", "0"]


class Trace(Case):
    def spans(self, *arguments):
        """The spans of each lane."""
        path = self.path("trace.json")
        told = self.good(*PROMPT, *arguments, "--trace", path)
        self.assertEqual(told, self.good(*PROMPT, *arguments))
        with open(path, encoding="utf-8") as file:
            events = json.load(file)["traceEvents"]
        lanes = {event["tid"]: [] for event in events if event["name"] == "thread_name"}
        for event in events:
            if event["ph"] == "X":
                lanes[event["tid"]].append(event)
        return lanes

    def test_every_operator(self):
        """Of a prompt and two tokens."""
        operators = self.spans("-n", "3", "--threads", "1")[0]
        counts = {}
        for event in operators:
            counts[event["cat"]] = counts.get(event["cat"], 0) + 1
        wanted = {name: 3 * LAYERS * n for name, n in PER_LAYER.items()}
        wanted["embedding"] = 3
        wanted["rms_norm"] += 3
        wanted["linear"] += 3
        self.assertEqual(counts, wanted)
        self.assertEqual(operators[0]["args"], {"layer": -1, "rows": 5, "position": 0})
        self.assertEqual(operators[-1]["args"], {"layer": -1, "rows": 1, "position": 6})

    def test_threads(self):
        """A thread's span lies within its operator's, and lanes go forward."""
        lanes = self.spans("-n", "2", "--threads", "3")
        self.assertTrue({0, 1} < set(lanes) <= {0, 1, 2, 3})
        for lane in lanes.values():
            for before, after in zip(lane, lane[1:]):
                self.assertLessEqual(before["ts"] + before["dur"], after["ts"] + 0.01)
        for number in set(lanes) - {0}:
            for event in lanes[number]:
                self.assertTrue(any(
                    op["name"] == event["name"] and op["args"] == event["args"] and
                    op["ts"] <= event["ts"] + 0.01 and
                    event["ts"] + event["dur"] <= op["ts"] + op["dur"] + 0.01
                    for op in lanes[0]))

    def test_mistakes(self):
        self.bad(1, "No such file", *PROMPT, "--trace", self.path("no/trace.json"))
        self.bad(2, "--trace needs", *PROMPT, "--trace")
        self.bad(1, "missing", "generate", "-p", "x", "-m", self.path("missing"), "--trace",
                 self.path("trace.json"))
        self.assertEqual(os.listdir(self.folder), [])


class Terminal(TerminalCase):
    def test_interrupted(self):
        """What was done until Ctrl-C is in the file."""
        path = self.path("trace.json")
        code, _, _ = self.shown("perplexity", "-f", self.write("text", b"Once upon a time " * 4000),
                                "--ctx", "16", "--trace", path, interrupt_after="scoring")
        self.assertEqual(code, 130)
        with open(path, encoding="utf-8") as file:
            json.load(file)

    def test_ended(self):
        """By a second Ctrl-C, at once: no file is left that is not whole, the trace or another."""
        ids = ["--ids", ",".join(1000 * ["5"]), "-o", self.path("logits.npy")]
        for arguments, stage in ((["logits", *ids], "reading"),
                                 (["generate", "-p", 500 * "Once "], "reading"),
                                 (["bench", "--tune"], "attention")):
            # Many, because two that come while the program waits for a CPU are one.
            code, out, _ = self.shown(*arguments, "--trace", self.path("trace.json"), "--threads",
                                      "1", "--isa", "scalar", interrupt_after=stage,
                                      signals=20 * [signal.SIGINT])
            self.assertEqual((code, out, os.listdir(self.folder)), (-signal.SIGINT, b"", []),
                             arguments[0])

    def test_ended_unwatched(self):
        """bench memory knows no first Ctrl-C that only asks: each ends it."""
        with subprocess.Popen([*COMMAND, "bench", "memory", "--run-to", "1024", "--trace",
                               self.path("trace.json")], stdout=subprocess.PIPE,
                              env=environment()) as process:
            while process.poll() is None and not os.listdir(self.folder):
                time.sleep(0.001)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=TIMEOUT)
        self.assertEqual((process.returncode, out, os.listdir(self.folder)),
                         (-signal.SIGINT, b"", []))


if __name__ == "__main__":
    main()
