#!/usr/bin/env python3
"""Tests of the program: convert, and what the others make of a converted file."""

import json
import os
import resource
import shutil
import signal

from cli_support import COMMAND, DEMO, Case, TerminalCase, main, run

EMULATED = len(COMMAND) > 1


class Convert(Case):
    def convert(self, *arguments, source=DEMO):
        """The path that the line of output begins with."""
        line = self.good("convert", "--checkpoint_path", source, *arguments).decode()
        self.assertRegex(line, r"\A[^\n]+: [0-9.]+ MB, cache of \d+ positions, prefill( [0-9,]+)?, "
                         r"(flash|standard) attention\n\Z")
        return line[:line.rindex(": ")]

    def files(self):
        return sorted(os.listdir(self.folder))

    def test_same_story(self):
        """The file, its tokenizer and the checkpoint tell the same."""
        path = self.convert("--output", self.path("x.gguf"))
        self.assertEqual(self.files(), ["x.gguf"])
        arguments = ["-p", "Once upon a time", "-n", "4" if EMULATED else "30", "--seed", "5"]
        self.assertEqual(self.good("generate", "-m", path, *arguments),
                         self.good("generate", "-m", DEMO, *arguments))
        verify = ["verify", "converted", "--converted", path, "--checkpoint_path", DEMO, "-n", "3"]
        self.assertEqual(self.good(*verify).splitlines()[-1], b"PASS")

    def test_packed(self):
        path = self.convert("--output_path", self.folder, "--output_name_prefix", "x", "--packed")
        self.assertEqual(self.files(), ["x_bf16_packed_ekv1024.gguf"])
        arguments = ["-p", "Once upon a time", "-n", "4" if EMULATED else "30", "--seed", "5"]
        self.assertEqual(self.good("generate", "-m", path, *arguments),
                         self.good("generate", "-m", DEMO, *arguments))
        self.bad(1, [path, "is a packed file"], "convert", "--checkpoint_path", path, "-o",
                 self.path("y.gguf"))
        path = self.convert("--output_path", self.folder, "--output_name_prefix", "x", "--packed",
                            "--quantize", "true", "--kv_cache_max_len", "9")
        self.assertEqual(self.files(), ["x_bf16_packed_ekv1024.gguf", "x_q8_packed_ekv9.gguf"])
        info = json.loads(self.good("info", "-m", path, "--json"))
        self.assertEqual((info["model"]["weight_type"], info["plan"]["kv_cache_max_len"]),
                         ("i8_row", 9))

    def test_names(self):
        """As the seed system names its files."""
        self.write_small_model()
        prefix = os.path.basename(self.folder)
        cases = (([], f"{prefix}_f32_ekv1024.gguf"),
                 (["--quantize", "none"], f"{prefix}_f32_ekv1024.gguf"),
                 (["--quantize=false"], f"{prefix}_f32_ekv1024.gguf"),
                 (["--quantize", "f16", "--kv_cache_max_len", "512"], f"{prefix}_f16_ekv512.gguf"),
                 (["--output_name_prefix", "tiny", "--quantize", "bf16"], "tiny_bf16_ekv1024.gguf"))
        for i, (arguments, name) in enumerate(cases):
            folder = self.path(f"out{i}")
            os.mkdir(folder)
            path = self.convert("--output_path", folder, *arguments, source=self.folder + "/")
            self.assertEqual((path, os.listdir(folder)), (os.path.join(folder, name), [name]))
        again = self.convert("--output_path", self.path("out0"), "--output_name_prefix", "y",
                             source=path)
        self.assertEqual(os.path.basename(again), "y_bf16_ekv1024.gguf")

    def test_quantized(self):
        """Every type, smaller in the order of its bits, near the checkpoint, and with one text for
        one file."""
        sizes = []
        kinds = ("bf16", "q8_0", "i8_row", "q6_k", "q5_1", "q5_0", "q5_k", "q4_1",
                 "q4_k")
        for kind in kinds[:4] if EMULATED else kinds:  # the others take long; test_workflow has q4_k
            path = self.convert("--output", self.path(f"{kind}.gguf"), "--quantize", kind)
            sizes.append(os.path.getsize(path))
            weights = json.loads(self.good("info", "-m", path, "--json"))["model"]["weight_type"]
            self.assertEqual(weights, kind)
            if EMULATED and kind != "q6_k":
                continue
            lines = self.good("verify", "converted", "--converted", path, "--checkpoint_path", DEMO,
                              "-p", "Once upon a time", "-n", "3").decode().splitlines()
            self.assertEqual((lines[0], lines[-1]), (f"weights: {kind}", "PASS"))
        self.assertEqual(sizes, sorted(sizes, reverse=True))
        self.assertEqual(self.convert("--output_path", self.folder, "--output_name_prefix", "x",
                                      "--quantize", "true"), self.path("x_q8_ekv1024.gguf"))

    def plan(self, path, *arguments):
        info = json.loads(self.good("info", "-m", path, "--json", *arguments))
        return info["plan"], info["memory"]["kv_capacity"]

    def test_plan(self):
        self.write_small_model()
        path = self.convert("--output", self.path("x.gguf"), source=self.folder)
        usual = {"prefill_seq_lens": [64, 128, 256, 512], "kv_cache_max_len": 1024,
                 "attention": "flash"}
        self.assertEqual(self.plan(path), (usual, 1024))
        self.assertEqual(self.plan(path, "--ctx", "70"), (usual, 70))
        for lengths in (["--prefill_seq_lens", "5,9"],
                        ["--prefill_seq_lens", "5", "--prefill_seq_lens", "9"]):
            self.convert("--output", path, "--force", *lengths, "--kv_cache_max_len", "10",
                         "--use_flash_attention", "false", source=self.folder)
            self.assertEqual(self.plan(path), ({"prefill_seq_lens": [5, 9], "kv_cache_max_len": 10,
                                                "attention": "standard"}, 10))
        self.convert("--output", path, "--force", "--kv_cache_max_len", "100", source=self.folder)
        self.assertEqual(self.plan(path)[0]["prefill_seq_lens"], [64])

    def test_generate_obeys(self):
        """The capacity, unless told otherwise."""
        path = self.convert("--output", self.path("x.gguf"), "--kv_cache_max_len", "4",
                            "--prefill_seq_lens", "2")
        prompt = ["generate", "-m", path, "-p", "Once upon a time there was", "-n", "1"]
        self.bad(1, ["kv_cache_max_len", "of 4"], *prompt)
        self.assertTrue(self.good(*prompt, "--kv_cache_max_len", "100"))

    def test_template(self):
        """The chat template comes along."""
        for name in os.listdir(DEMO):
            os.symlink(os.path.join(DEMO, name), self.path(name))
        self.write("chat_template.jinja", b"{{'<|user|>'}}{{eos_token}}{{'<|assistant|>'}}")
        path = self.convert("--output", self.path("x.gguf"), source=self.folder)
        shutil.rmtree(self.path("none"), ignore_errors=True)
        said = [self.good("chat", "-m", model, "-n", "3", "--temp", "0", stdin=b"Hello\n")
                for model in (path, self.folder)]
        self.assertEqual(*said)


class Mistakes(Case):
    def setUp(self):
        super().setUp()
        self.write_small_model()
        os.mkdir(self.path("out"))
        self.output = self.path("out/x.gguf")

    def refused(self, code, words, *arguments, **keywords):
        self.bad(code, words, "convert", "--checkpoint_path", self.folder, "--output", self.output,
                 *arguments, **keywords)
        self.assertEqual(os.listdir(self.path("out")), [])

    def test_usage(self):
        self.bad(2, "--checkpoint_path", "convert")
        self.refused(2, "none|f16", "--quantize", "int4")
        self.refused(2, "not both", "--output_name_prefix", "x")
        for lengths in ("", "0", "64,", "x", "-1", "99999999999", ",".join("1" * 17)):
            self.refused(2, "--prefill_seq_lens", "--prefill_seq_lens", lengths)
        self.refused(2, "--kv_cache_max_len takes", "--kv_cache_max_len", "0")
        self.refused(2, "true|false", "--use_flash_attention", "maybe")

    def test_plan_that_cannot_be(self):
        self.refused(1, ["kv_cache_max_len", "1024"], "--kv_cache_max_len", "1025")
        self.refused(1, ["prefill_seq_lens", "101"], "--kv_cache_max_len", "100",
                     "--prefill_seq_lens", "101")
        self.refused(1, "ascend", "--prefill_seq_lens", "64,64")

    def test_no_checkpoint(self):
        self.bad(1, "missing", "convert", "--checkpoint_path", self.path("missing"))
        self.bad(1, "path of the model is empty", "convert", "--checkpoint_path", "")
        os.mkdir(self.path("empty"))
        self.bad(1, "config.json", "convert", "--checkpoint_path", self.path("empty"))

    def test_another_architecture(self):
        with open(self.path("config.json"), encoding="utf-8") as file:
            config = json.load(file)
        config["architectures"] = ["MistralForCausalLM"]
        self.write("config.json", json.dumps(config).encode())
        self.refused(1, ["MistralForCausalLM", "LlamaForCausalLM"])

    def test_a_file_that_is_there(self):
        with open(self.output, "wb") as file:
            file.write(b"old")
        arguments = ["convert", "--checkpoint_path", self.folder, "--output", self.output]
        self.bad(1, ["x.gguf", "there already"], *arguments)
        with open(self.output, "rb") as file:
            self.assertEqual(file.read(), b"old")
        self.good(*arguments, "--force")
        self.assertEqual(os.listdir(self.path("out")), ["x.gguf"])

    def test_no_such_folder(self):
        self.bad(1, "No such file", "convert", "--checkpoint_path", self.folder, "--output",
                 self.path("no/x.gguf"))
        self.bad(1, "no regular file", "convert", "--checkpoint_path", self.folder, "--output",
                 self.path("out"), "--force")

    def test_full_disk(self):
        """A limit of file sizes is met at the same place as the end of a disk."""
        if EMULATED:
            self.skipTest("the limit would be the emulator's")
        for limit in (100, 5000, 20000):
            def limited(limit=limit):
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            self.refused(1, ["x.gguf", "write"], preexec_fn=limited)


class Terminal(TerminalCase):
    def test_interrupt(self):
        """Nothing is left, however impatient the user is, and by whatever the program is ended."""
        os.mkdir(self.path("out"))
        for number, times in ((signal.SIGINT, 1), (signal.SIGINT, 20), (signal.SIGHUP, 2)):
            code, out, text = self.shown("convert", "--checkpoint_path", DEMO, "--output_path",
                                         self.path("out"), "--threads", "1", "--isa", "scalar",
                                         "--quantize", "q4_k", interrupt_after=r"converting: +[1-9]",
                                         signals=[number] * times)
            self.assertIn("converting", text)
            self.assertEqual((code, out, os.listdir(self.path("out"))), (128 + number, b"", []))


if __name__ == "__main__":
    main()
