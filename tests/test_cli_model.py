#!/usr/bin/env python3
"""Tests of the program: perplexity, bench and selftest."""

import array
import json
import math
import os
import signal

from cli_support import COMMAND, DEMO, SOURCE, VOCABULARY, Case, TerminalCase, main

EMULATED = len(COMMAND) > 1
SCALE = int(os.environ.get("XF_TEST_SCALE", "100"))
TEXT = ("There was once a king who had three daughters. The eldest was proud, the second was vain, "
        "and the youngest went into the forest every day to gather wood.\n")
PERPLEXITY = 11.204177762109376  # of that text, in windows of 16


def held_out():
    """Path of the text that the demo model's card gives perplexities of, or None."""
    fixtures = os.environ.get("XF_FIXTURES", os.path.join(SOURCE, "../shared/fixtures"))
    path = os.path.join(fixtures, "../demo-model/heldout.txt")
    return path if os.path.exists(path) else None


def log_softmax(row):
    largest = max(row)
    total = math.log(math.fsum(math.exp(x - largest) for x in row))
    return [x - largest - total for x in row]


class Perplexity(Case):
    def measure(self, *arguments, **keywords):
        answer = json.loads(self.good("perplexity", *arguments, "--json", **keywords))
        self.assertEqual(list(answer), ["perplexity", "tokens"])
        return answer

    def isas(self):
        return json.loads(self.good("info", "--json"))["machine"]["isas"]

    def test_definition(self):
        """From the logits that `logits` writes, with Python's own logarithms."""
        ids = json.loads(self.good("tokenize", "-p", TEXT, "--json"))["ids"]
        for n in (3, 8, 11):
            windows = [[1, *ids[i + 1:i + n]] for i in range(0, len(ids) - n + 1, n)]
            losses = []
            for window in windows:
                _, data = self.logits("--ids", ",".join(map(str, window)), "--all")
                values = array.array("f", data)
                for at in range(n // 2 + 1, n):
                    row = values[(at - 1) * VOCABULARY:at * VOCABULARY]
                    losses.append(-log_softmax(row)[window[at]])
            answer = self.measure("--file", "-", "--ctx", str(n), stdin=TEXT.encode())
            self.assertEqual(answer["tokens"], len(losses))
            wanted = math.exp(math.fsum(losses) / len(losses))
            self.assertLess(abs(answer["perplexity"] / wanted - 1), 1e-12, n)

    def test_same_bits(self):
        """Of numerics 1, on every machine, whatever changes speed only."""
        path = self.write("text", TEXT.encode())
        wanted = {"perplexity": PERPLEXITY, "tokens": 14}
        changes = [["--threads", "1"], ["--threads", "3"], ["--chunk", "1"], ["--chunk", "7"],
                   *(["--isa", isa] for isa in self.isas())]
        for change in changes:
            self.assertEqual(self.measure("-f", path, "--ctx", "16", *change), wanted, change)

    def test_held_out(self):
        """The first windows of the held-out text; the whole is in ci/full."""
        path = held_out()
        if EMULATED:
            self.skipTest("an emulator is too slow")
        if not path:
            self.skipTest("no held-out text beside the fixtures")
        with open(path, "rb") as file:
            start = file.read(max(1, 8 * SCALE // 100) * 1960)
        text = self.write("text", start)
        wanted = self.measure("--file", text)
        self.assertGreaterEqual(wanted["tokens"], 255)
        self.assertEqual(wanted["tokens"] % 255, 0)
        self.assertTrue(15 < wanted["perplexity"] < 25, wanted)
        changes = [["--threads", "1", "--chunk", "100"], ["--isa", self.isas()[-1]]]
        for change in changes + [["--isa", isa, "--threads", "2"] for isa in self.isas()[:-1]]:
            self.assertEqual(self.measure("--file", text, *change), wanted, change)

    def test_text(self):
        line = self.good("perplexity", "-f", "-", "--ctx", "16", stdin=TEXT.encode()).decode()
        self.assertRegex(line, r"\Aperplexity \d+\.\d{6}: \d+ tokens scored in \d+ windows of 16\n\Z")

    def test_mistakes(self):
        self.bad(2, "--file FILE", "perplexity")
        for ctx in ("0", "2", "x", "16777217"):
            self.bad(2, "--ctx takes", "perplexity", "-f", "-", "--ctx", ctx)
        self.bad(1, ["1 tokens", "window of 512", "--ctx"], "perplexity", "-f", "-")
        self.bad(1, "No such file", "perplexity", "-f", self.path("missing"))
        for name in ("config.json", "model.safetensors"):
            os.symlink(os.path.join(DEMO, name), self.path(name))
        self.bad(1, "tokenizer.model", "perplexity", "-m", self.folder, "-f", "-")


class Bench(Case):
    KEYS = ["test", "tokens_per_s", "tokens_per_s_min", "tokens_per_s_max", "samples",
            "clean_samples", "fma_peak_gflops", "read_gbps", "threads", "isa", "fast",
            "weight_type", "parameters"]

    def test_json(self):
        answer = json.loads(self.good("bench", "-p", "16", "-n", "3", "--threads", "2", "-r", "2",
                                      "--json"))
        self.assertEqual([test["test"] for test in answer], ["pp16", "tg3"])
        for test in answer:
            self.assertEqual(list(test), self.KEYS)
            self.assertEqual((test["threads"], test["samples"]), (2, 2))
            self.assertLessEqual(test["tokens_per_s_min"], test["tokens_per_s"] * (1 + 1e-9))
            self.assertGreater(test["fma_peak_gflops"], 0)
            self.assertGreater(test["read_gbps"], 0)
            self.assertEqual(test["fast"], "none")

    def test_choices(self):
        answer = json.loads(self.good("bench", "-p", "0", "-n", "2", "-r", "1", "--isa", "scalar",
                                      "--json"))
        self.assertEqual([(test["test"], test["isa"]) for test in answer], [("tg2", "scalar")])
        self.bad(2, "both 0", "bench", "-p", "0", "-n", "0")
        self.bad(2, "-r takes", "bench", "-r", "0")

    def test_table(self):
        lines = self.good("bench", "-p", "4", "-n", "1", "-r", "1").decode().splitlines()
        self.assertEqual(len(lines), 3)
        self.assertRegex(lines[0], r"\Atest +tokens/s +least +most +peak GFLOPS +read GB/s")
        for line, name in zip(lines[1:], ("pp4", "tg1")):
            self.assertRegex(line, rf"\A{name}( +\d+\.\d+){{5}} +\d+  \w+\Z")


class Selftest(Case):
    CHECKS = 13

    def test_demo(self):
        if EMULATED:
            self.skipTest("an emulator is too slow")
        lines = self.good("selftest", "-n", "5").decode().splitlines()
        self.assertEqual(len(lines), self.CHECKS + 1)
        self.assertEqual(lines[-1], "PASS")
        for line in lines[:-1]:
            self.assertTrue(line.startswith("PASS  "), line)

    def test_json_without_tokenizer(self):
        self.write_small_model()
        answer = json.loads(self.good("selftest", "-m", self.folder, "-n", "3", "--json"))
        self.assertIs(answer["passed"], True)
        self.assertEqual(len(answer["checks"]), self.CHECKS)
        compared = [check for check in answer["checks"] if "max_difference" in check]
        self.assertEqual(len(compared), 2)
        for check in compared:  # two ways of adding do differ, a little
            self.assertTrue(0 < check["mean_difference"] <= check["max_difference"] < check["bound"])

    def test_a_model_that_fails(self):
        """A weight that is not a number reaches every logit."""
        for name in ("config.json", "tokenizer.model"):
            os.symlink(os.path.join(DEMO, name), self.path(name))
        with open(os.path.join(DEMO, "model.safetensors"), "rb") as file:
            data = bytearray(file.read())
        header = int.from_bytes(data[:8], "little")
        begin = json.loads(data[8:8 + header])["model.norm.weight"]["data_offsets"][0]
        data[8 + header + begin:8 + header + begin + 2] = b"\xC0\x7F"
        self.write("model.safetensors", data)
        result = self.bad_test("selftest", "-m", self.folder)
        self.assertIn("FAIL  flash: forward of one token: logits are not finite\n", result)
        self.assertEqual(result.splitlines()[-1], "FAIL")
        answer = json.loads(self.bad_test("selftest", "-m", self.folder, "--json"))
        self.assertIs(answer["passed"], False)
        self.assertEqual(answer["checks"][-1]["why"], "logits are not finite")
        self.bad(1, "not finite", "perplexity", "-m", self.folder, "-f", "-", "--ctx", "16",
                 stdin=TEXT.encode())

    def test_no_model(self):
        self.bad(1, "missing", "selftest", "-m", self.path("missing"))


class Terminal(TerminalCase):
    def test_progress(self):
        path = self.write("text", TEXT.encode() * 4)
        code, out, text = self.shown("perplexity", "-f", path, "--ctx", "16")
        self.assertEqual(code, 0)
        self.assertRegex(text, r"scoring the text: +\d+ %")
        self.assertEqual(self.visible(text), [""])
        self.assertTrue(out.startswith(b"perplexity "))
        code, _, text = self.shown("bench", "-p", "4", "-n", "1", "-r", "2")
        self.assertEqual(code, 0)
        self.assertRegex(text, r"measuring pp4: +\d+ %")
        self.assertEqual(self.visible(text), [""])

    def test_interrupt(self):
        path = self.write("text", TEXT.encode() * 3000)
        for arguments, stage in ((["perplexity", "-f", path], r"scoring"),
                                 (["bench", "-r", "1000", "-n", "100000"], r"measuring")):
            code, out, _ = self.shown(*arguments, "--json", interrupt_after=stage)
            self.assertEqual((code, out), (128 + signal.SIGINT, b""))


if __name__ == "__main__":
    main()
