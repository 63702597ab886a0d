#!/usr/bin/env python3
"""Tests of the program: test_cli.py SOURCE_DIR COMMAND...

COMMAND is the program, with an emulator in front where it was built for another machine.
"""

import array
import errno
import fcntl
import json
import os
import pty
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import unittest

SOURCE = sys.argv[1]
COMMAND = sys.argv[2:]
DEMO = os.path.join(SOURCE, "demo-model")
VOCABULARY = 4096
TIMEOUT = 600

GENERATE_KEYS = {
    "text", "tokens", "prompt_tokens", "load_s", "prefill_tokens_per_s", "decode_tokens_per_s",
    "time_to_first_token_s", "peak_rss_bytes",
}
OPTIONS = {
    "generate": ["-p", "--file", "--no-bos", "--parse-special", "-n", "--temp", "--top_p", "--seed",
                 "--ignore-eos", "--echo", "--json", "-m", "--ctx", "--kv_cache_max_len", "--chunk",
                 "--attention", "--threads", "--isa", "--help"],
    "logits": ["--ids", "--all", "-o", "-m", "--ctx", "--kv_cache_max_len", "--chunk",
               "--attention", "--threads", "--isa", "--help"],
    "tokenize": ["-p", "--file", "--no-bos", "--parse-special", "--json", "-m", "--help"],
    "info": ["--json", "-m", "--ctx", "--kv_cache_max_len", "--threads", "--isa", "--help"],
}


ENDLESS = ["generate", "-p", "Once", "-n", "100000", "--ctx", "100000", "--ignore-eos"]


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


def environment(**changes):
    env = {k: v for k, v in os.environ.items() if k not in ("XF_ISA", "XF_DEMO_MODEL")}
    env.update(changes)
    return env


def run(*arguments, stdin=b"", stdout=subprocess.PIPE, env=None, command=None, **popen):
    done = subprocess.run([*(command or COMMAND), *arguments], input=stdin, stdout=stdout,
                          stderr=subprocess.PIPE, env=env or environment(), timeout=TIMEOUT,
                          **popen)
    return Result(done.returncode, done.stdout, done.stderr)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="exactflash-test-")
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)
        return self.path(name)

    def good(self, *arguments, **keywords):
        """Runs a command that must succeed without a word on stderr; its stdout."""
        result = run(*arguments, **keywords)
        self.assertEqual((result.code, result.err), (0, b""), arguments)
        return result.out

    def bad(self, code, words, *arguments, **keywords):
        """Runs a command that must fail with one line on stderr that holds the words."""
        result = run(*arguments, **keywords)
        self.assertEqual(result.code, code, (arguments, result.err))
        self.assertRegex(result.err, rb"\Aexactflash: [^\n]+\n\Z", arguments)
        for word in words if isinstance(words, list) else [words]:
            self.assertIn(word.encode(), result.err, arguments)
        return result

    def generated(self, *arguments, **keywords):
        return json.loads(self.good("generate", *arguments, "--json", **keywords))

    def logits(self, *arguments, **keywords):
        """(rows, data) of the file that logits writes."""
        path = self.path("logits.npy")
        self.good("logits", *arguments, "-o", path, **keywords)
        with open(path, "rb") as file:
            return self.npy(file.read())

    def npy(self, data):
        self.assertEqual(data[:8], b"\x93NUMPY\x01\x00")
        length, = struct.unpack("<H", data[8:10])
        self.assertEqual((10 + length) % 64, 0)
        header = data[10:10 + length].decode("latin-1")
        shape = re.fullmatch(
            r"\{'descr': '<f4', 'fortran_order': False, 'shape': \((\d+), (\d+)\), \} *\n", header)
        self.assertIsNotNone(shape, header)
        rows, columns = int(shape[1]), int(shape[2])
        self.assertEqual(columns, VOCABULARY)
        self.assertEqual(len(data), 10 + length + 4 * rows * columns)
        return rows, data[10 + length:]


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
            "--chunk": ["0", "-4", "x", "65537"],
            "--ctx": ["-1", "x", "16777217"],
            "--kv_cache_max_len": ["-1", "1e3"],
            "--attention": ["", "flas", "flash|standard", "FLASH"],
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


class Info(Case):
    def test_json(self):
        answer = json.loads(self.good("info", "--json"))
        self.assertEqual(list(answer), ["model", "tokenizer", "machine", "memory"])
        self.assertEqual(answer["model"]["path"], DEMO)
        self.assertEqual(answer["model"]["parameters"], 11540736)
        self.assertEqual(answer["model"]["weight_type"], "bf16")
        self.assertEqual(answer["model"]["rms_norm_eps"], 1e-05)
        self.assertEqual(answer["tokenizer"],
                         {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2})
        self.assertIn(answer["machine"]["isa"], answer["machine"]["isas"])
        self.assertEqual(answer["machine"]["isa"], answer["machine"]["isas"][0])
        self.assertIn("scalar", answer["machine"]["isas"])
        self.assertGreater(answer["machine"]["threads"], 0)
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
        answer = json.loads(self.good("info", "--json", env=environment(XF_ISA="scalar")))
        self.assertEqual(answer["machine"]["isa"], "scalar")

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


class Terminal(Case):
    def shown(self, *arguments, interrupt_after=None):
        """(code, stdout, what a terminal at stderr was sent). SIGINT is sent when that matches."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=slave,
                              env=environment()) as process:
            os.close(slave)
            text = ""
            while part := self.read_terminal(master):
                text += part
                if interrupt_after and re.search(interrupt_after, text):
                    process.send_signal(signal.SIGINT)
                    break
            out = process.stdout.read()
        os.close(master)
        return process.returncode, out, text

    def read_terminal(self, master):
        try:
            return os.read(master, 65536).decode()
        except OSError as error:
            if error.errno != errno.EIO:  # the other end is closed
                raise
            return ""

    def visible(self, text):
        """The lines that are left on the terminal."""
        lines = [""]
        column = 0
        for character in text:
            if character == "\r":
                column = 0
            elif character == "\n":
                lines.append("")
                column = 0
            else:
                lines[-1] = lines[-1][:column].ljust(column) + character + lines[-1][column + 1:]
                column += 1
        return [line.rstrip() for line in lines]

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
    unittest.main(argv=sys.argv[:1], verbosity=2)
