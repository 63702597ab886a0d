#!/usr/bin/env python3
"""Tests of the program: bench memory."""

import json
import os
import re
import xml.etree.ElementTree as ElementTree

from cli_support import COMMAND, Case, main

EMULATED = len(COMMAND) > 1  # the memory of an emulator is not the program's
LENGTHS = [512 << i for i in range(7)]
SVG = "{http://www.w3.org/2000/svg}"


class Memory(Case):
    def memory(self, *arguments):
        return json.loads(self.good("bench", "memory", "--json", *arguments))

    def rows(self, *arguments):
        rows = self.memory(*arguments)["lengths"]
        self.assertEqual([row["seq_len"] for row in rows], LENGTHS)
        return rows

    def test_bounds(self):
        """What is promised: 128 times less at 2,048 tokens with up to 16 threads, and less with
        flash at 2,048 than with standard at 512."""
        for threads in range(1, 17):
            answer = self.memory("--run-to", "0", "--threads", str(threads))
            self.assertEqual((answer["threads"], answer["batch"], answer["heads"],
                              answer["kv_heads"], answer["head_dim"]), (threads, 1, 32, 4, 64))
            rows = {row["seq_len"]: row for row in answer["lengths"]}
            self.assertGreaterEqual(rows[2048]["ratio"], 128)
            self.assertGreaterEqual(rows[2048]["ratio_16_threads"], 128)
            self.assertLess(rows[2048]["flash_bytes"], rows[512]["standard_bytes"])
            for row in answer["lengths"]:
                self.assertEqual(row["scores_bytes"], 32 * row["seq_len"] ** 2 * 4)
                self.assertGreater(row["standard_bytes"], row["scores_bytes"])
                self.assertLess(row["standard_bytes"], 1.1 * row["scores_bytes"])
                self.assertLess(row["flash_bytes"], threads * 100e3)
                self.assertAlmostEqual(row["ratio"], row["standard_bytes"] / row["flash_bytes"], 3)
                if threads == 16:
                    self.assertEqual(row["flash_bytes"], row["flash_bytes_16_threads"])

    def test_longer_takes_no_more(self):
        rows = self.rows("--run-to", "0")
        self.assertEqual(len({row["flash_bytes"] for row in rows[2:]}), 1)

    def test_not_run(self):
        for row in self.rows("--run-to", "511"):
            self.assertIsNone(row["flash_peak_growth_bytes"])
            self.assertIsNone(row["standard_peak_growth_bytes"])
            self.assertFalse(row["standard_skipped"])

    def test_run(self):
        if EMULATED:
            self.skipTest("under an emulator")
        rows = self.rows("--run-to", "1023", "--threads", "2")
        if rows[0]["standard_skipped"]:
            self.skipTest("not enough memory")
        self.assertGreater(rows[0]["standard_peak_growth_bytes"], 0.9 * rows[0]["scores_bytes"])
        self.assertLess(rows[0]["standard_peak_growth_bytes"], 2 * rows[0]["scores_bytes"])
        # A sanitizer's own memory counts too; standard attention takes all of scores_bytes.
        self.assertLess(rows[0]["flash_peak_growth_bytes"], 0.5 * rows[0]["scores_bytes"])
        self.assertIsNone(rows[1]["standard_peak_growth_bytes"])

    def test_table(self):
        lines = self.good("bench", "memory", "--run-to", "0", "--threads", "3").decode().splitlines()
        self.assertIn("32 query heads, 4 KV heads, head_dim 64, batch 1", lines[0])
        self.assertRegex(lines[1], r"^seq_len +flash x3 +flash x16 +standard +ratio +ratio x16")
        rows = self.rows("--run-to", "0", "--threads", "3")
        for line, row in zip(lines[2:], rows):
            words = line.split()
            self.assertEqual(len(words), 8)
            self.assertEqual(int(words[0]), row["seq_len"])
            self.assertEqual(words[1], f"{row['flash_bytes'] / 1e6:.2f}")
            self.assertEqual(words[3], f"{row['standard_bytes'] / 1e6:.2f}")
            self.assertEqual(words[6:], ["-", "-"])

    def plotted(self, text):
        """The number of lines and of dots, where all of them lie inside the picture."""
        root = ElementTree.fromstring(text)
        self.assertEqual(root.tag, SVG + "svg")
        _, _, width, height = map(float, root.get("viewBox").split())
        paths = [g.find(SVG + "path") for g in root.iter(SVG + "g")]
        paths = [path.get("d") for path in paths if path is not None]
        numbers = [float(x) for path in paths for x in re.findall(r"-?\d+\.\d", path)]
        for x, y in zip(numbers[::2], numbers[1::2]):
            self.assertTrue(0 < x < width and 0 < y < height, (x, y))
        words = " ".join(text.text for text in root.iter(SVG + "text"))
        for word in ["32768", "GB", "standard", "flash, 16 threads", "seq_len"]:
            self.assertIn(word, words)
        return len(paths), len(list(root.iter(SVG + "circle")))

    def test_plot(self):
        path = self.path("memory.svg")
        table = self.good("bench", "memory", "--run-to", "0", "--plot", path)
        self.assertEqual(table, self.good("bench", "memory", "--run-to", "0"))
        with open(path, encoding="utf-8") as file:
            text = file.read()
        self.assertEqual(self.plotted(text), (3, 0))
        self.assertEqual(self.good("bench", "memory", "--run-to", "0", "--plot", "-").decode(), text)
        if not EMULATED:
            self.good("bench", "memory", "--run-to", "512", "--plot", path)
            with open(path, encoding="utf-8") as file:
                lines, dots = self.plotted(file.read())
            self.assertEqual(lines, 3)
            self.assertIn(dots, (3, 4))  # two of them in the legend; standard may be skipped

    def test_misuse(self):
        self.bad(2, "stdout", "bench", "memory", "--json", "--plot", "-")
        self.bad(2, "speed|memory", "bench", "memroy")
        self.bad(2, "--run-to takes", "bench", "memory", "--run-to", "32769")
        self.bad(2, "sse9", "bench", "memory", "--isa", "sse9")
        missing = os.path.join(self.folder, "missing", "memory.svg")
        self.bad(1, "memory.svg", "bench", "memory", "--run-to", "0", "--plot", missing)


if __name__ == "__main__":
    main()
