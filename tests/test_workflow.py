#!/usr/bin/env python3
"""Runs docs/workflow.md as it stands: every block of commands, and its table of fingerprints."""

import os
import re
import shlex
import subprocess
import unittest

from cli_support import COMMAND, DEMO, SOURCE, Case, environment, main

EMULATED = len(COMMAND) > 1
STORIES = os.path.join(os.environ.get("XF_FIXTURES", os.path.join(SOURCE, "../shared/fixtures")),
                       "stories260k/hf")
# An emulator has no time for more than its own instruction set, one configuration after the other.
EMULATED_BITS = "--isa neon --threads 1" if EMULATED else ""
TYPES = "none f16 bf16 i8_row q8_0 q4_0 q4_1 q5_0 q5_1 q4_k q5_k q6_k"
EMULATED_TYPES = "i8_row q8_0 q4_k"  # of the demo model, the larger of the two
PROGRAM = """
set -euo pipefail
exactflash() {
  local narrow=()
  if [[ $1 == verify && $2 == bits ]]; then narrow=(%s); fi
  %s "$@" "${narrow[@]}"
}
"""


def page():
    with open(os.path.join(SOURCE, "docs/workflow.md"), encoding="utf-8") as file:
        return file.read()


class Workflow(Case):
    def run_page(self, checkpoint, types):
        """What the page's commands print."""
        blocks = re.findall(r"^```sh\n(.*?)^```$", page(), re.MULTILINE | re.DOTALL)
        self.assertGreater(len(blocks), 6)
        text = PROGRAM % (EMULATED_BITS, shlex.join(COMMAND)) + "".join(blocks)
        text, n = re.subn(r"(?m)^checkpoint=.*", f"checkpoint={shlex.quote(checkpoint)}", text)
        self.assertEqual(n, 1)
        if EMULATED and checkpoint == DEMO:  # 600 tokens in four ways take minutes
            text, n = re.subn(r"(?m)^exactflash verify flash .*", "", text)
            self.assertEqual(n, 1)
        self.assertEqual(text.count(f"for type in {TYPES};"), 3)
        text = text.replace(f"for type in {TYPES};", f"for type in {types};")
        done = subprocess.run(["bash", "-c", text], cwd=self.folder, env=environment(),
                              capture_output=True, text=True, check=False, timeout=3000)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertNotIn("FAIL", done.stdout)
        return done.stdout

    def check(self, checkpoint, column, types):
        told = self.run_page(checkpoint, types)
        rows = re.findall(r"^\| (\w+) \| ((?:\w{4}-){3}\w{4}) \| ((?:\w{4}-){3}\w{4}) \|$", page(),
                          re.MULTILINE)
        got = re.findall(r"^file: (\w+)\n(?:PASS .*\n)+fingerprint: (\S+), numerics 1$", told,
                         re.MULTILINE)
        self.assertEqual([row[0] for row in rows], TYPES.split())
        self.assertEqual(got, [(row[0], row[column]) for row in rows if row[0] in types.split()])
        self.assertTrue(os.path.exists(self.path("timeline.json")))

    def test_demo_model(self):
        self.check(DEMO, 1, EMULATED_TYPES if EMULATED else TYPES)

    @unittest.skipUnless(os.path.isdir(STORIES), "no stories260k")
    def test_stories(self):
        self.check(STORIES, 2, TYPES)


if __name__ == "__main__":
    main()
