#!/usr/bin/env python3
"""Tests of the program: command lines, tokenize, info."""

import json
import os
import re
import shutil

from cli_support import COMMAND, DEMO, SOURCE, VOCABULARY, Case, environment, main, run

SAMPLING = ["--temp", "--top_k", "--top_p", "--min_p", "--typical", "--repeat_penalty",
            "--frequency_penalty", "--presence_penalty", "--repeat_last_n", "--logit_bias", "--stop",
            "--seed"]
OPTIONS = {
    "generate": ["-p", "--file", "--no-bos", "--parse-special", "-n", *SAMPLING, "--logprobs",
                 "--ignore-eos", "--echo", "--json", "-m", "--ctx", "--kv_cache_max_len", "--chunk",
                 "--attention", "--trace", "--cache-type", "--fast", "--activations", "--threads", "--isa",
                 "--help"],
    "chat": ["--system", "--template", "--session", "-n", *SAMPLING, "-m", "--ctx",
             "--kv_cache_max_len", "--chunk", "--attention", "--trace", "--cache-type",
             "--fast", "--activations", "--threads", "--isa", "--help"],
    "logits": ["--ids", "--all", "-o", "-m", "--ctx", "--kv_cache_max_len", "--chunk",
               "--attention", "--trace", "--cache-type", "--fast", "--activations", "--threads", "--isa", "--help"],
    "tokenize": ["-p", "--file", "--no-bos", "--parse-special", "--json", "-m", "--help"],
    "perplexity": ["--file", "--ctx", "--json", "-m", "--chunk", "--attention", "--trace",
                   "--cache-type", "--fast", "--activations", "--threads", "--isa", "--help"],
    "bench": ["-p", "-n", "-r", "--json", "--plot", "--run-to", "-m", "--chunk",
              "--attention", "--trace", "--cache-type", "--fast", "--activations", "--threads", "--isa", "--help"],
    "selftest": ["-p", "-n", "--json", "-m", "--activations", "--threads", "--isa", "--help"],
    "convert": ["--checkpoint_path", "--output", "--output_path", "--output_name_prefix",
                "--quantize", "--prefill_seq_lens", "--kv_cache_max_len", "--use_flash_attention",
                "--packed", "--force", "--threads", "--isa", "--help"],
    "verify": ["--prompts", "--max-new-tokens", "--converted", "--checkpoint_path", "--quick",
               "--json", "-m", "--cache-type", "--activations", "--threads", "--isa", "--help"],
    "man": ["-o", "--help"],
    "completion": ["--help"],
    "info": ["--json", "-m", "--ctx", "--kv_cache_max_len", "--cache-type", "--fast", "--activations",
             "--threads", "--isa", "--help"],
}


class Usage(Case):
    def test_no_command(self):
        result = run()
        self.assertEqual((result.code, result.out), (2, b""))
        self.assertIn(b"usage: exactflash", result.err)

    def test_version(self):
        with open(os.path.join(SOURCE, "CMakeLists.txt"), encoding="utf-8") as file:
            version = re.search(r"VERSION (\d+\.\d+\.\d+)", file.read())[1]
        self.assertRegex(self.good("--version").decode(),
                         rf"\Aexactflash {re.escape(version)}, numerics \d+\n\Z")

    def test_help(self):
        text = self.good("--help").decode()
        self.assertEqual(text, self.good("-h").decode())
        for command, options in OPTIONS.items():
            self.assertRegex(text, rf"(?m)^  {command} ")
            page = self.good(command, "--help").decode()
            self.assertEqual(page, self.good(command, "-h").decode())
            self.assertIn(f"usage: exactflash {command}", page)
            self.assertIn("\nexamples:\n  exactflash ", page.replace("echo hello | ", ""))
            for option in options:
                self.assertRegex(page, rf"(?m)^  (-\S+, )?{re.escape(option)}\b", command)

    def test_help_shows_defaults(self):
        page = self.good("generate", "--temp", "0.1", "-n", "7", "--help").decode()
        self.assertRegex(page, r"--temp.*\(default 0.8\)")
        self.assertRegex(page, r"-n.*\(default 256\)")

    def test_help_as_a_value(self):
        self.assertEqual(self.good("tokenize", "-p", "--help", "--no-bos"),
                         self.good("tokenize", "--no-bos", "--prompt=--help"))

    def test_unknown_names(self):
        self.bad(2, ["unknown command 'genrate'", "did you mean generate?"], "genrate")
        self.bad(2, "unknown command 'xyz'", "xyz")
        self.bad(2, ["unknown option '--versoin'", "did you mean --version?"], "--versoin")
        self.bad(2, ["--tmp", "did you mean --temp?", "see exactflash generate --help"],
                 "generate", "-p", "a", "--tmp", "1")
        self.bad(2, ["--kv_cache_max_lan", "did you mean --kv_cache_max_len?"], "generate",
                 "--kv_cache_max_lan", "1")
        result = self.bad(2, "unknown option --frobnicate", "info", "--frobnicate")
        self.assertNotIn(b"did you mean", result.err)
        self.bad(2, "unknown option -x", "info", "-x")
        self.bad(2, "unexpected argument 'hello'", "generate", "hello")
        self.bad(2, "unknown option --xxxxx", "info", "--" + 5000 * "x")

    def test_one_line_whatever_the_words(self):
        self.bad(2, "unexpected argument 'a?b?[31m'", "generate", "a\nb\x1b[31m")

    def test_values(self):
        """Every value that is not what its option takes, by option."""
        wrong = {
            "-n": ["-1", "abc", "", "1.5", "1e9", "0x10", " 3", "3 ", "+3", "2147483648",
                   "99999999999999999999999"],
            "--temp": ["-0.1", "nan", "inf", "-inf", "warm", "", "0.5x", "1e400", "1001"],
            "--top_p": ["-0.1", "1.1", "nan", "", "p"],
            "--seed": ["-1", "abc", "", "1.0", "18446744073709551616"],
            "--threads": ["-1", "two", "1025", ""],
            "--chunk": ["-4", "x", "65537"],
            "--ctx": ["-1", "x", "16777217"],
            "--kv_cache_max_len": ["-1", "1e3"],
            "--attention": ["", "flas", "flash|standard", "FLASH"],
            "--activations": ["", "int", "int8|f32", "i8", "F32"],
            "--cache-type": ["", "i4", "F16", "f32|f16", "float16"],
        }
        for option, values in wrong.items():
            name = "--ctx" if option == "--kv_cache_max_len" else option
            for value in values:
                self.bad(2, [f"{name} takes ", f"'{value}'"], "generate", "-p", "a", option, value)
            self.bad(2, f"{name} needs a value", "generate", "-p", "a", option)
        self.bad(2, "--json takes no value", "generate", "-p", "a", "--json=1")

    def test_spellings(self):
        wanted = self.generated("-p", "The fox", "-n", "3", "--ctx", "64", "--top_p", "0.9",
                                "--max-tokens", "4")["tokens"]
        self.assertEqual(len(wanted), 4)
        for arguments in (["--kv_cache_max_len", "64", "--top-p", "0.9"],
                          ["--kv-cache-max-len=64", "--top_p=0.9"]):
            self.assertEqual(self.generated("--prompt=The fox", "--max_tokens=4",
                                            *arguments)["tokens"], wanted)

    def test_missing_arguments(self):
        self.bad(2, "-p TEXT or --file FILE", "generate")
        self.bad(2, "-p TEXT or --file FILE", "tokenize")
        self.bad(2, "not both", "generate", "-p", "a", "--file", "b")
        self.bad(2, "not both", "tokenize", "-p", "a", "--file", "-")
        self.bad(2, "--ids", "logits", "-o", self.path("x.npy"))
        self.bad(2, "-o", "logits", "--ids", "1")

    def test_full_output(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        for arguments in (["--version"], ["--help"], ["generate", "--help"], ["info"],
                          ["info", "--json"], ["tokenize", "-p", "a"],
                          ["tokenize", "-p", "a", "--json"], ["generate", "-p", "a", "-n", "3"],
                          ["generate", "-p", "a", "-n", "3", "--json"],
                          ["logits", "--ids", "1", "-o", "-"]):
            with open("/dev/full", "wb") as full:
                self.bad(1, ["cannot write standard output", "No space left"], *arguments,
                         stdout=full)


class Tokenize(Case):
    @classmethod
    def setUpClass(cls):
        with open(os.path.join(DEMO, "greedy_reference.json"), encoding="utf-8") as file:
            cls.item = json.load(file)["items"][0]

    def ids(self, *arguments, **keywords):
        answer = json.loads(self.good("tokenize", *arguments, "--json", **keywords))
        self.assertEqual(list(answer), ["ids"])
        return answer["ids"]

    def test_ids(self):
        prompt, wanted = self.item["prompt"], self.item["prompt_ids"]
        for model in ([], ["-m", DEMO], ["-m", os.path.join(DEMO, "tokenizer.model")],
                      ["-m", os.path.join(DEMO, "tokenizer.json")]):
            self.assertEqual(self.ids(*model, "-p", prompt), wanted)
        self.assertEqual(self.ids("-p", prompt, "--no-bos"), wanted[1:])
        self.assertEqual(self.good("tokenize", "-p", prompt).decode(),
                         " ".join(map(str, wanted)) + "\n")
        path = self.write("text", prompt.encode())
        self.assertEqual(self.ids("--file", path), wanted)
        self.assertEqual(self.ids("-f", "-", stdin=prompt.encode()), wanted)

    def test_special(self):
        self.assertNotIn(2, self.ids("-p", "a</s>"))
        self.assertEqual(self.ids("-p", "a</s>", "--parse-special")[-1], 2)

    def test_empty(self):
        self.assertEqual(self.ids("-p", ""), [1])
        self.assertEqual(self.ids("-p", "", "--no-bos"), [])
        self.assertEqual(self.good("tokenize", "--file", "-", "--no-bos"), b"\n")

    def test_any_bytes(self):
        """Byte b that is not in the vocabulary is the token 3 + b."""
        ids = self.ids("--file", "-", "--no-bos", stdin=b"a\0b\xff\xfe")
        self.assertIn(3, ids)
        self.assertEqual(ids[-2:], [3 + 0xFF, 3 + 0xFE])

    def test_long_input(self):
        line = b"The king had three daughters.\n"
        ids = self.ids("--file", "-", stdin=line * 20000)
        self.assertGreater(len(ids), 100000)

    def test_bad_files(self):
        missing = self.path("missing")
        self.bad(1, [missing, "No such file"], "tokenize", "--file", missing)
        self.bad(1, [self.folder, "directory"], "tokenize", "--file", self.folder)
        self.bad(1, missing, "tokenize", "-m", missing, "-p", "a")
        self.bad(1, "tokenizer.model", "tokenize", "-m", self.folder, "-p", "a")


class Info(Case):
    def test_json(self):
        answer = json.loads(self.good("info", "--json"))
        self.assertEqual(list(answer), ["model", "tokenizer", "machine", "memory"])
        self.assertEqual(answer["model"]["path"], DEMO)
        self.assertEqual(answer["model"]["parameters"], 11540736)
        self.assertEqual(answer["model"]["weight_type"], "bf16")
        self.assertEqual([share["type"] for share in answer["model"]["weight_types"]],
                         ["bf16", "f32"])
        self.assertEqual(sum(share["bytes"] for share in answer["model"]["weight_types"]),
                         answer["memory"]["weight_bytes"])
        self.assertEqual(answer["model"]["rms_norm_eps"], 1e-05)
        self.assertEqual(answer["tokenizer"],
                         {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2})
        self.assertIn(answer["machine"]["isa"], answer["machine"]["isas"])
        self.assertEqual(answer["machine"]["isa"], answer["machine"]["isas"][0])
        self.assertIn("scalar", answer["machine"]["isas"])
        self.assertGreater(answer["machine"]["threads"], 0)
        self.assertEqual(answer["memory"]["kv_type"], "f32")
        self.assertEqual(answer["memory"]["kv_bytes_per_position"], 2 * 4 * 12 * 2 * 64)
        self.assertEqual(answer["memory"]["kv_capacity"], 2048)
        # bf16, without the embedding, whose rows are read from the file.
        self.assertGreaterEqual(answer["memory"]["weight_bytes"], 2 * (11540736 - 4096 * 256))
        self.assertGreater(answer["memory"]["peak_rss_bytes"], 1 << 20)

    def test_choices(self):
        answer = json.loads(self.good("info", "--json", "--isa", "scalar", "--threads", "2",
                                      "--ctx", "5"))
        self.assertEqual(answer["machine"]["isa"], "scalar")
        self.assertEqual(answer["machine"]["threads"], 2)
        self.assertEqual(answer["memory"]["kv_capacity"], 5)
        for cache in ("f16", "bf16"):
            answer = json.loads(self.good("info", "--json", "--cache-type", cache))
            self.assertEqual(answer["memory"]["kv_type"], cache)
            self.assertEqual(answer["memory"]["kv_bytes_per_position"], 2 * 2 * 12 * 2 * 64)
        answer = json.loads(self.good("info", "--json", "--cache-type", "i8"))
        self.assertEqual(answer["memory"]["kv_bytes_per_position"], 2 * 12 * 2 * (64 + 4))
        answer = json.loads(self.good("info", "--json", env=environment(XF_ISA="scalar")))
        self.assertEqual(answer["machine"]["isa"], "scalar")
        self.assertEqual(answer["machine"]["fast"], "none")
        answer = json.loads(self.good("info", "--json", "--fast", "--isa", "scalar"))
        self.assertEqual(answer["machine"]["fast"], "none")

    def test_text(self):
        text = self.good("info").decode()
        for line in (r"model", r"  vocab_size +4096", r"machine", r"  isa +\"\w+\"", r"memory"):
            self.assertRegex(text, rf"(?m)^{line}$")

    def test_without_tokenizer(self):
        for name in ("config.json", "model.safetensors"):
            shutil.copy(os.path.join(DEMO, name), self.folder)
        answer = json.loads(self.good("info", "--json", "-m", self.folder))
        self.assertIn("tokenizer.model", answer["tokenizer"]["error"])

    def test_where_the_demo_model_is(self):
        """XF_DEMO_MODEL, else ../share beside the program, else the source tree."""
        os.makedirs(self.path("bin"))
        os.makedirs(self.path("share/exactflash"))
        program = shutil.copy(COMMAND[-1], self.path("bin/exactflash"))
        installed = self.path("share/exactflash/demo-model")
        os.symlink(DEMO, installed)
        command = [*COMMAND[:-1], program]

        def found(**changes):
            answer = json.loads(self.good("info", "--json", command=command,
                                          env=environment(**changes)))
            return os.path.normpath(answer["model"]["path"])

        self.assertEqual(found(), os.path.realpath(self.folder) + installed[len(self.folder):])
        self.assertEqual(found(XF_DEMO_MODEL=DEMO), DEMO)
        os.remove(installed)
        self.assertEqual(found(), DEMO)


if __name__ == "__main__":
    main()
