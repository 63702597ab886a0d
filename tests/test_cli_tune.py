#!/usr/bin/env python3
"""Tests of the program: bench --tune and the file that it keeps."""

import json
import os
import unittest

from cli_support import COMMAND, Case, environment, main, run

EMULATED = len(COMMAND) > 1
SLOW = EMULATED or int(os.environ.get("XF_TEST_SCALE", "100")) < 100  # a sanitizer's build, too
CHOICES = [8, 16, 32, 64, 128, 256]
DEFAULTS = {128: 32, 512: 64, 2048: 256}


class Tune(Case):
    def setUp(self):
        super().setUp()
        self.file = self.path("a/b/tuning.json")
        self.env = environment(XF_TUNING=self.file)

    def tune(self, *arguments, env=None):
        return run("bench", "--tune", "-r", "1", *arguments, env=env or self.env)

    def tuned(self, env=None):
        """What info says of this machine, with the program's remarks."""
        done = run("info", "--json", env=env or self.env)
        self.assertEqual(done.code, 0)
        return json.loads(done.out)["machine"]["tuned_q_blocks"], done.err.decode()

    def entry(self, q_blocks):
        """Puts a choice for this CPU into the file."""
        os.makedirs(os.path.dirname(self.file), exist_ok=True)
        if not os.path.exists(self.file):
            self.assertEqual(self.tune("--threads", "1").code, 0)
        with open(self.file, encoding="utf-8") as file:
            entries = json.load(file)
        entries[0]["q_blocks"] = q_blocks
        self.write("a/b/tuning.json", json.dumps(entries).encode())

    @unittest.skipIf(EMULATED, "an emulator is too slow")
    def test_finds_and_keeps(self):
        done = self.tune("--json", "--threads", "1")
        self.assertEqual((done.code, done.err), (0, b""))
        answer = json.loads(done.out)
        self.assertEqual(answer["file"], self.file)
        self.assertEqual({row["seq_len"]: row["default"] for row in answer["lengths"]}, DEFAULTS)
        kept = []
        for row in answer["lengths"]:
            self.assertEqual([int(choice) for choice in row["seconds"]], CHOICES)
            times = {int(choice): seconds for choice, seconds in row["seconds"].items()}
            self.assertIn(row["best"], (row["default"], min(times, key=times.get)))
            self.assertLessEqual(times[row["best"]], times[row["default"]])
            kept.append(0 if row["best"] == row["default"] else row["best"])
        self.assertEqual(self.tuned(), (kept, ""))
        self.assertEqual(os.listdir(os.path.dirname(self.file)), ["tuning.json"])
        with open(self.file, encoding="utf-8") as file:
            self.assertEqual([entry["q_blocks"] for entry in json.load(file)], [kept])

    @unittest.skipIf(SLOW, "would take too long here")
    def test_one_entry_for_each_isa(self):
        isas = [isa for isa in json.loads(self.good("info", "--json"))["machine"]["isas"]
                if isa != "scalar"]  # which would take long
        for isa in 2 * isas[:2]:
            self.assertEqual(self.tune("--isa", isa).code, 0)
        with open(self.file, encoding="utf-8") as file:
            self.assertEqual(sorted(entry["isa"] for entry in json.load(file)), sorted(isas[:2]))

    @unittest.skipIf(SLOW, "would take too long here")
    def test_same_bits(self):
        prompt = ["--ids", ",".join(str(300 + i) for i in range(250))]
        want = self.logits(*prompt)
        for q_blocks in ([1, 2, 3], [4096, 0, 8]):
            self.entry(q_blocks)
            self.assertEqual(self.tuned(), (q_blocks, ""))
            self.assertEqual(self.logits(*prompt, env=self.env), want)

    @unittest.skipIf(SLOW, "would take too long here")
    def test_unusable_entries_are_ignored(self):
        for q_blocks in ([1, 2], [1, 2, -1], [1, 2, 4097], [1, 2, 0.5], "x", None, [1, "2", 3]):
            self.entry(q_blocks)
            tuned, said = self.tuned()
            self.assertEqual(tuned, [0, 0, 0])
            self.assertIn(self.file, said)
            self.assertIn("q_blocks", said)

    def test_unusable_file_is_ignored(self):
        os.makedirs(os.path.dirname(self.file))
        for text in (b"", b"{}", b"[", b"\xff"):
            self.write("a/b/tuning.json", text)
            tuned, said = self.tuned()
            self.assertEqual(tuned, [0, 0, 0])
            self.assertIn(self.file, said)
        self.write("a/b/tuning.json", b"[1, {}, {\"cpu\": 3}]")
        self.assertEqual(self.tuned(), ([0, 0, 0], ""))

    def test_places(self):
        home = environment(HOME=self.folder)
        del home["XF_TUNING"]
        home.pop("XDG_CONFIG_HOME", None)
        for env, name in ((home, ".config/exactflash/tuning.json"),
                          ({**home, "XDG_CONFIG_HOME": self.path("xdg")},
                           "xdg/exactflash/tuning.json")):
            os.makedirs(os.path.dirname(self.path(name)))
            self.write(name, b"{")
            self.assertIn(self.path(name), self.tuned(env)[1])

    @unittest.skipIf(SLOW, "would take too long here")
    def test_nowhere_to_keep_it(self):
        self.write("a", b"a file")
        done = self.tune()
        self.assertEqual((done.code, done.out), (1, b""))
        self.assertIn(self.path("a"), done.err.decode())
        done = self.tune(env=environment(XF_TUNING=""))
        self.assertEqual(done.code, 1)
        self.assertIn("XF_TUNING", done.err.decode())

    def test_misuse(self):
        self.bad(2, "memory", "bench", "memory", "--tune")


if __name__ == "__main__":
    main()
