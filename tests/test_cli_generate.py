#!/usr/bin/env python3
"""Tests of the program: generate, logits, and what a terminal shows."""

import array
import json
import os
import resource
import shutil
import signal
import subprocess

from cli_support import (COMMAND, DEMO, ENDLESS, GENERATE_KEYS, TIMEOUT, VOCABULARY, Case,
                         TerminalCase, environment, main, run)


class Generate(Case):
    def test_greedy_reference(self):
        """Equal until a step where the two best logits are closer than 0.01."""
        with open(os.path.join(DEMO, "greedy_reference.json"), encoding="utf-8") as file:
            items = json.load(file)["items"]
        self.assertGreater(len(items), 0)
        for item in items:
            wanted = item["greedy_ids"]
            answer = self.generated("-p", item["prompt"], "-n", str(len(wanted)), "--temp", "0",
                                    "--ignore-eos", "--threads", "1")
            self.assertEqual(answer["prompt_tokens"], len(item["prompt_ids"]))
            same = item["first_small_margin_at"]
            if item["smallest_margin"] >= 0.01:
                self.assertIsNone(same)
                self.assertEqual(answer["text"], item["text"])
            self.assertEqual(answer["tokens"][:same], wanted[:same], item["prompt"])

    def test_json(self):
        answer = self.generated("-p", "Once upon a time", "-n", "8")
        self.assertEqual(set(answer), GENERATE_KEYS)
        self.assertEqual(len(answer["tokens"]), 8)
        for token in answer["tokens"]:
            self.assertTrue(isinstance(token, int) and 0 <= token < VOCABULARY)
        for key in GENERATE_KEYS - {"text", "tokens"}:
            self.assertGreater(answer[key], 0, key)
        self.assertGreater(answer["peak_rss_bytes"], 1 << 20)

    def test_few_tokens(self):
        for n in range(3):
            answer = self.generated("-p", "Once", "-n", str(n))
            self.assertEqual(set(answer), GENERATE_KEYS)
            self.assertEqual(len(answer["tokens"]), n)
            self.assertEqual(answer["decode_tokens_per_s"] is None, n < 2)
            self.assertEqual(answer["time_to_first_token_s"] is None, n < 1)
        self.assertEqual(self.good("generate", "-p", "Once", "-n", "0"), b"\n")

    def test_text(self):
        prompt = "There was once a king who had three daughters."
        arguments = ["-p", prompt, "-n", "12", "--temp", "0"]
        text = self.generated(*arguments)["text"]
        self.assertEqual(text[:5], " The ")
        self.assertEqual(self.good("generate", *arguments).decode(), text + "\n")
        self.assertEqual(self.good("generate", *arguments, "--echo").decode(),
                         prompt + text + "\n")

    def test_prompt_sources(self):
        wanted = self.generated("-p", "The fox", "-n", "5")["tokens"]
        path = self.write("prompt", b"The fox")
        self.assertEqual(self.generated("--file", path, "-n", "5")["tokens"], wanted)
        self.assertEqual(self.generated("--file", "-", "-n", "5", stdin=b"The fox")["tokens"],
                         wanted)

    def test_same_tokens(self):
        """Whatever changes speed only, or is said twice, does not change the tokens."""
        arguments = ["-p", "One day the old woman went into the forest", "-n", "10", "--temp",
                     "0.9"]
        wanted = self.generated(*arguments)["tokens"]
        isas = json.loads(self.good("info", "--json"))["machine"]["isas"]
        changes = [[], ["--seed", "1"], ["--threads", "1"], ["--threads", "3"], ["--chunk", "1"],
                   ["--chunk", "3"], ["--ctx", "64"], ["-m", DEMO], ["--attention", "flash"],
                   ["--top_p", "1"], *(["--isa", isa] for isa in isas)]
        for change in changes:
            self.assertEqual(self.generated(*arguments, *change)["tokens"], wanted, change)
        self.assertNotEqual(self.generated(*arguments, "--seed", "2")["tokens"], wanted)
        self.assertNotEqual(self.generated(*arguments, "--seed", str(2**64 - 1))["tokens"], wanted)

    def test_sampling(self):
        greedy = self.generated("-p", "The king", "-n", "10", "--temp", "0")["tokens"]
        for change in (["--temp", "0.0"], ["--temp", "1e-6"], ["--top_p", "0.000001"],
                       ["--attention", "standard", "--temp", "0"]):
            self.assertEqual(self.generated("-p", "The king", "-n", "10", *change)["tokens"],
                             greedy, change)
        self.assertNotEqual(self.generated("-p", "The king", "-n", "10", "--temp", "5")["tokens"],
                            greedy)

    def test_characters_stay_whole(self):
        """At a high temperature byte tokens come often; the text must be UTF-8 and the same."""
        arguments = ["-p", "The king", "-n", "60", "--temp", "50", "--ignore-eos", "--seed", "3",
                     "--threads", "1"]
        text = self.generated(*arguments)["text"]
        self.assertEqual(self.good("generate", *arguments).decode(), text + "\n")

    def test_full_cache(self):
        for ctx, n in ((11, 1), (12, 2), (20, 10)):
            arguments = ["generate", "-p", "There was once a king who had three daughters.",
                         "--ctx", str(ctx), "-n", "30", "--temp", "0", "--json"]
            result = run(*arguments)
            self.assertEqual(result.code, 0)
            self.assertRegex(result.err, rb"\Aexactflash: stopped [^\n]*--ctx\n\Z")
            self.assertEqual(len(json.loads(result.out)["tokens"]), n)
        self.bad(1, ["11 tokens", "10 positions"], "generate", "-p",
                 "There was once a king who had three daughters.", "--ctx", "10")
        self.bad(1, "KV cache", "generate", "--file", "-", stdin=3000 * b"king ")

    def test_empty_prompt(self):
        self.assertEqual(self.generated("-p", "", "-n", "2")["prompt_tokens"], 1)
        self.bad(1, ["empty", "--no-bos"], "generate", "-p", "", "--no-bos")

    def test_bad_models(self):
        missing = self.path("missing")
        self.bad(1, missing, "generate", "-m", missing, "-p", "a")
        self.bad(1, "config.json", "generate", "-m", self.folder, "-p", "a")
        self.bad(1, missing, "generate", "-p", "a", env=environment(XF_DEMO_MODEL=missing))
        for name in ("config.json", "model.safetensors"):
            shutil.copy(os.path.join(DEMO, name), self.folder)
        self.bad(1, "tokenizer.model", "generate", "-m", self.folder, "-p", "a")
        self.bad(1, missing, "generate", "--file", missing)

    def test_bad_isa(self):
        self.bad(2, "sse9", "generate", "-p", "a", "--isa", "sse9")
        self.bad(2, ["sse9", "XF_ISA"], "generate", "-p", "a", env=environment(XF_ISA="sse9"))

    def test_interrupt(self):
        with subprocess.Popen([*COMMAND, *ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=environment()) as process:
            first = os.read(process.stdout.fileno(), 4096)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT)
        self.assertEqual((process.returncode, err), (130, b""))
        self.assertEqual((first + out).decode()[-1], "\n")


class Logits(Case):
    IDS = "1,845,312,764,261,759,435"

    def test_rows(self):
        rows, last = self.logits("-m", DEMO, "--ids", self.IDS)
        self.assertEqual(rows, 1)
        rows, every = self.logits("--ids", self.IDS, "--all")
        self.assertEqual(rows, 7)
        self.assertEqual(every[-4 * VOCABULARY:], last)
        for change in (["--chunk", "1"], ["--chunk", "3"], ["--threads", "1"], ["--ctx", "7"],
                       ["--isa", "scalar"]):
            self.assertEqual(self.logits("--ids", self.IDS, "--all", *change)[1], every, change)
            self.assertEqual(self.logits("--ids", self.IDS, *change)[1], last, change)

    def test_greedy(self):
        """The logits are those that generate chooses from."""
        values = array.array("f", self.logits("--ids", "1,845,312,764")[1])
        text = json.loads(self.good("tokenize", "-p", "There was once", "--json"))["ids"]
        self.assertEqual(text, [1, 845, 312, 764])
        token = self.generated("-p", "There was once", "-n", "1", "--temp", "0")["tokens"]
        self.assertEqual(token, [values.index(max(values))])

    def test_standard_attention(self):
        flash = array.array("f", self.logits("--ids", self.IDS)[1])
        standard = array.array("f", self.logits("--ids", self.IDS, "--attention", "standard")[1])
        self.assertLess(max(abs(a - b) for a, b in zip(flash, standard)), 1e-3)

    def test_cache_types(self):
        """Logits of their own, the same whatever changes speed only."""
        exact = array.array("f", self.logits("--ids", self.IDS)[1])
        for cache, most in (("f16", 0.05), ("bf16", 0.5), ("i8", 1)):
            change = ["--ids", self.IDS, "--cache-type", cache]
            wanted = self.logits(*change)[1]
            values = array.array("f", wanted)
            self.assertTrue(0 < max(abs(a - b) for a, b in zip(exact, values)) < most, cache)
            for speed in (["--chunk", "1"], ["--isa", "scalar", "--threads", "1"]):
                self.assertEqual(self.logits(*change, *speed)[1], wanted, speed)

    def test_standard_output(self):
        self.assertEqual(self.npy(self.good("logits", "--ids", "1,2", "--all", "-o", "-"))[0], 2)

    def test_replaces_a_file(self):
        os.symlink("real.npy", self.path("link.npy"))
        self.write("real.npy", b"old")
        self.good("logits", "--ids", "1", "-o", self.path("link.npy"))
        self.assertTrue(os.path.islink(self.path("link.npy")))
        with open(self.path("real.npy"), "rb") as file:
            self.npy(file.read())
        self.assertEqual(sorted(os.listdir(self.folder)), ["link.npy", "real.npy"])

    def test_bad_ids(self):
        for ids in ("", ",", "1,", "1,,2", "a", "-1", "1;2", "1.0", "2147483648", "1, 2"):
            self.bad(2, "--ids takes whole numbers", "logits", "--ids", ids, "-o", self.path("x"))
        for ids in ("4096", "1,2,5000"):
            self.bad(1, ids.split(",")[-1], "logits", "--ids", ids, "-o", self.path("x"))
        self.bad(1, ["3 ids", "2 positions", "--ctx"], "logits", "--ids", "1,2,3", "--ctx", "2",
                 "-o", self.path("x"))
        self.assertEqual(os.listdir(self.folder), [])

    def test_nothing_is_left_of_a_failure(self):
        """Neither a half file nor the loss of the old one."""
        path = self.write("old.npy", b"old")
        self.bad(1, "4096", "logits", "--ids", "1,4096", "--chunk", "1", "--all", "-o", path)
        limit = (40000, 40000)  # bytes: less than the three rows need
        self.bad(1, [path, "File too large"], "logits", "--ids", "1,2,3", "--all", "-o", path,
                 restore_signals=False,  # SIGXFSZ stays ignored
                 preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"old")
        self.assertEqual(os.listdir(self.folder), ["old.npy"])

    def test_bad_output(self):
        path = self.path("no/such/folder.npy")
        self.bad(1, ["cannot write", path, "No such file"], "logits", "--ids", "1", "-o", path)
        self.bad(1, ["cannot write", self.folder], "logits", "--ids", "1", "-o", self.folder)
        if os.path.exists("/dev/full"):
            self.bad(1, ["cannot write /dev/full", "No space left"], "logits", "--ids", "1", "-o",
                     "/dev/full")


class Terminal(TerminalCase):
    def test_progress(self):
        arguments = ["generate", "-p", "There was once a king who had three daughters.", "--chunk",
                     "2", "-n", "2", "--temp", "0"]
        code, out, text = self.shown(*arguments)
        self.assertEqual(code, 0)
        self.assertRegex(text, r"loading the model: +\d+ %")
        self.assertRegex(text, r"reading the prompt: +\d+ %")
        self.assertEqual(self.visible(text), [""])
        self.assertEqual(out, self.good(*arguments))  # which also sees to a silent pipe

    def test_progress_of_logits(self):
        code, _, text = self.shown("logits", "--ids", "1,2,3", "--chunk", "1", "-o",
                                   self.path("x.npy"))
        self.assertEqual(code, 0)
        self.assertRegex(text, r"reading the prompt: +\d+ %")
        self.assertEqual(self.visible(text), [""])

    def test_interrupt_while_generating_json(self):
        """After the prompt, whose line has been taken away: what there is comes out whole."""
        code, out, _ = self.shown(*ENDLESS, "--json",
                                  interrupt_after=r"reading the prompt: +0 %\r +\r\Z")
        self.assertEqual(code, 130)
        self.assertEqual(set(json.loads(out)), GENERATE_KEYS)

    def test_error_takes_the_line(self):
        code, _, text = self.shown("logits", "--ids", "1,4096", "--chunk", "1", "-o",
                                   self.path("x.npy"))
        self.assertEqual(code, 1)
        lines = self.visible(text)
        self.assertTrue(lines[0].startswith("exactflash: ") and "%" not in lines[0], lines)
        self.assertEqual(lines[1:], [""])


if __name__ == "__main__":
    main()
