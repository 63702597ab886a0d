#!/usr/bin/env python3
"""Tests of the program: how tokens are chosen."""

import json
import math

from cli_support import COMMAND, GENERATE_KEYS, Case, main

EMULATED = len(COMMAND) > 1
STEPS = 12 if EMULATED else 30
KING = ["-p", "The king", "-n", str(STEPS)]


class Sampling(Case):
    def tokens(self, *change):
        return self.generated(*KING, *change)["tokens"]

    def test_off(self):
        """Options at their defaults change nothing."""
        wanted = self.tokens()
        for change in (["--top_k", "0"], ["--top_k", "4096"], ["--min_p", "0"], ["--typical", "1"],
                       ["--repeat_penalty", "1"], ["--frequency_penalty", "0"],
                       ["--presence_penalty", "0"], ["--repeat_last_n", "1"],
                       ["--stop", "no such text"], ["--logit_bias", "300=0"], ["--logprobs", "1"]):
            self.assertEqual(self.tokens(*change), wanted, change)

    def test_same_on_every_isa(self):
        isas = json.loads(self.good("info", "--json"))["machine"]["isas"]
        plain = self.tokens()
        for change in (["--top_k", "10"], ["--min_p", "0.1"], ["--typical", "0.5"],
                       ["--repeat_penalty", "1.3"], ["--frequency_penalty", "0.7"],
                       ["--presence_penalty", "1.5", "--top_p", "0.9"],
                       ["--logit_bias", "300=8", "--logit_bias=301=-inf"]):
            wanted = self.tokens(*change)
            self.assertNotEqual(wanted, plain, change)
            for isa in isas:
                self.assertEqual(self.tokens(*change, "--isa", isa), wanted, (change, isa))

    def test_greedy(self):
        """The narrowest cuts leave the most probable token."""
        greedy = self.tokens("--temp", "0")
        for change in (["--top_k", "1"], ["--min_p", "1"]):
            self.assertEqual(self.tokens(*change), greedy, change)

    def test_bias(self):
        self.assertEqual(self.tokens("--logit_bias", "300=1000", "--temp", "0"), STEPS * [300])
        self.assertNotIn(300, self.tokens("--logit_bias", "300=1000", "--logit_bias", "300=-inf"))
        for value in ("", "5", "5=", "=1", "x=1", "-1=1", "5=nan", "5=inf", "5=1x", "1e1=2"):
            self.bad(2, ["--logit_bias takes", f"'{value}'"], "generate", "-p", "a",
                     "--logit_bias", value)
        self.bad(1, "token 4096", "generate", "-p", "a", "--logit_bias", "4096=1")
        many = [word for i in range(65) for word in ("--logit_bias", f"{i}=1")]
        self.bad(2, "--logit_bias may be given 64 times", "generate", "-p", "a", *many)

    def test_penalties(self):
        tokens = self.tokens("--presence_penalty", "100", "--repeat_last_n", "1000")
        self.assertEqual(len(set(tokens)), len(tokens))
        tokens = self.tokens("--frequency_penalty", "-100")
        self.assertLess(len(set(tokens)), 5)

    def test_stop(self):
        whole = self.generated(*KING)["text"]
        for begin in range(1, len(whole) - 8, 7):
            for length in (1, 2, 8):
                stop = whole[begin:begin + length]
                wanted = whole[:whole.index(stop)]
                answer = self.generated(*KING, "--stop", "no such text", "--stop", stop)
                self.assertEqual(answer["text"], wanted, stop)
        self.assertEqual(self.good("generate", *KING, "--stop", stop).decode(), wanted + "\n")
        self.bad(2, "--stop takes", "generate", "-p", "a", "--stop", "")
        self.bad(1, "not UTF-8", "generate", "-p", "a", "--stop", b"\xff")

    def test_logprobs(self):
        answer = self.generated(*KING, "--logprobs", "3")
        self.assertEqual(set(answer), GENERATE_KEYS | {"logprobs"})
        self.assertEqual([item["token"] for item in answer["logprobs"]], answer["tokens"])
        for item in answer["logprobs"]:
            best = [one["logprob"] for one in item["best"]]
            self.assertEqual(len(best), 3)
            self.assertEqual(best, sorted(best, reverse=True))
            self.assertLessEqual(sum(map(math.exp, best)), 1.000001)
            self.assertLessEqual(item["logprob"], best[0])
            for one in item["best"]:
                if one["token"] == item["token"]:
                    self.assertEqual(one["logprob"], item["logprob"])
        greedy = self.generated(*KING, "--logprobs", "1", "--temp", "0")["logprobs"]
        for item in greedy:
            self.assertEqual(item["best"], [{"token": item["token"], "logprob": item["logprob"]}])
        self.assertEqual(self.generated("-p", "a", "-n", "0", "--logprobs", "1")["logprobs"], [])
        self.bad(2, "--logprobs needs --json", "generate", "-p", "a", "--logprobs", "1")

    def test_values(self):
        wrong = {
            "--top_k": ["-1", "x", "1.5"],
            "--min_p": ["-0.1", "1.1", "nan"],
            "--typical": ["-0.1", "2", ""],
            "--repeat_penalty": ["0", "-1", "inf"],
            "--frequency_penalty": ["nan", "101"],
            "--presence_penalty": ["-101", "x"],
            "--repeat_last_n": ["0", "-1", "16777217"],
            "--logprobs": ["0", "101"],
        }
        for option, values in wrong.items():
            for value in values:
                self.bad(2, [f"{option} takes ", f"'{value}'"], "generate", "-p", "a", option,
                         value)


if __name__ == "__main__":
    main()
