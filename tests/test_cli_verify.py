#!/usr/bin/env python3
"""Tests of the program: verify."""

import json
import os
import shutil

from cli_support import COMMAND, DEMO, Case, TerminalCase, main, run

EMULATED = len(COMMAND) > 1
# Of the demo model, on every machine. Another one is another numerics version.
FINGERPRINT = "704c-0751-0147-00db, numerics 1"
SHORT = ["--prompts", "Once upon a time", "--max_new_tokens", "5"]


class Flash(Case):
    def test_demo(self):
        if EMULATED:
            self.skipTest("an emulator is too slow")
        lines = self.good("verify", "flash", *SHORT, "--prompts", "The king").decode().splitlines()
        self.assertEqual(len(lines), 3 * 3 + 1)
        self.assertEqual(lines[-1], "PASS")
        for i, line in enumerate(lines[:-1]):
            self.assertTrue(line.startswith(f"PASS  prompt {i // 3 + 1}: "), line)
        self.assertIn("max ", lines[0])

    def test_json(self):
        """Of a model without a tokenizer; two ways of adding do differ, a little."""
        self.write_small_model()
        answer = json.loads(self.good("verify", "flash", "-m", self.folder, *SHORT, "--json"))
        self.assertIs(answer["passed"], True)
        self.assertEqual([check["check"] for check in answer["checks"]],
                         [f"prompt {i}: {what}" for i in (1, 2)
                          for what in ("prefill logits", "decode logits", "generated text")])
        for check in answer["checks"][3:5]:
            self.assertTrue(0 < check["mean_difference"] <= check["max_difference"] < check["bound"])

    def test_cache_types(self):
        """Roundings that fall to the other side move logits further."""
        self.write_small_model()
        for cache in ("f16", "bf16", "i8"):
            self.assertEqual(self.good("verify", "flash", "-m", self.folder, *SHORT, "--cache-type",
                                       cache).splitlines()[-1], b"PASS")

    def test_small_weights(self):
        """Exact activations: those of int8 would make steps of roundings."""
        if EMULATED:
            self.skipTest("an emulator is too slow")
        path = self.path("x.gguf")
        self.good("convert", "--checkpoint_path", DEMO, "--quantize", "q4_k", "-o", path)
        for command in (["verify", "flash", *SHORT], ["selftest", "-n", "5"]):
            lines = self.good(*command, "-m", path).splitlines()
            self.assertEqual(lines[-1], b"PASS")
        self.assertIn(b"PASS  flash, f32 activations: decode gives the bits of prefill", lines)
        self.assertIn(b"PASS  flash: decode gives the bits of prefill", lines)

    def test_mistakes(self):
        self.bad(2, "say what to verify", "verify")
        self.bad(2, "flash|converted|bits", "verify", "quickly")
        self.bad(2, "unexpected argument 'bits'", "verify", "flash", "bits")
        self.bad(2, "--converted", "verify", "flash", "--converted", "x")
        self.bad(2, "--quick", "verify", "flash", "--quick")
        self.bad(2, "--max-new-tokens takes", "verify", "flash", "-n", "0")
        self.bad(1, "missing", "verify", "flash", "-m", self.path("missing"))


class Bits(Case):
    def fingerprint(self, *arguments):
        answer = json.loads(self.good("verify", "bits", "--json", *arguments))
        self.assertIs(answer["passed"], True)
        return answer["fingerprint"]

    def isas(self):
        return json.loads(self.good("info", "--json"))["machine"]["isas"]

    def test_demo(self):
        """The same on every machine: the number is stored."""
        if not EMULATED:
            self.assertEqual(self.fingerprint("--quick"), FINGERPRINT)
        for isa in self.isas()[:1 if EMULATED else None]:
            self.assertEqual(self.fingerprint("--quick", "--isa", isa, "--threads", "1"),
                             FINGERPRINT)

    def test_all_configurations(self):
        self.write_small_model()
        lines = self.good("verify", "bits", "-m", self.folder).decode().splitlines()
        self.assertEqual(lines[:-2], [f"PASS  {isa}, 54 configurations" for isa in self.isas()])
        self.assertRegex(lines[-2], r"\Afingerprint: ([0-9a-f]{4}-){3}[0-9a-f]{4}, numerics 1\Z")
        self.assertEqual(lines[-1], "PASS")
        self.assertIn(self.fingerprint("-m", self.folder, "--threads", "3"), lines[-2])

    def test_cache_types(self):
        self.write_small_model()
        seen = [self.fingerprint("-m", self.folder, "--quick", "--cache-type", cache)
                for cache in ("f32", "f16", "bf16", "i8")]
        self.assertRegex(seen[1], r"numerics 1, f16 cache\Z")
        self.assertRegex(seen[2], r"numerics 1, bf16 cache\Z")
        self.assertRegex(seen[3], r"numerics 1, i8 cache\Z")
        self.assertEqual(len({fingerprint.partition(",")[0] for fingerprint in seen}), 4)

    def test_another_model(self):
        """One bit of a weight is enough."""
        self.write_small_model()
        before = self.fingerprint("-m", self.folder, "--quick")
        path = self.path("model.safetensors")
        with open(path, "rb") as file:
            data = bytearray(file.read())
        data[-1000] ^= 1
        self.write("model.safetensors", data)
        self.assertNotEqual(self.fingerprint("-m", self.folder, "--quick"), before)

    def test_mistakes(self):
        self.bad(2, "fixed input", "verify", "bits", "-p", "Once")
        self.bad(1, "missing", "verify", "bits", "-m", self.path("missing"))
        self.bad(2, "unknown", "verify", "bits", "--isa", "unknown")


class Converted(Case):
    def verify(self, converted, checkpoint):
        return run("verify", "converted", "--converted", converted, "--checkpoint_path",
                   checkpoint, *SHORT)

    def copy(self):
        """A folder with the demo model, of which single files may be changed."""
        folder = self.path("copy")
        os.mkdir(folder)
        for name in ("config.json", "tokenizer.model", "model.safetensors"):
            shutil.copy(os.path.join(DEMO, name), folder)
        return folder

    def test_the_same(self):
        result = self.verify(DEMO, DEMO)
        self.assertEqual((result.code, result.err), (0, b""))
        self.assertEqual(result.out.decode().splitlines(),
                         ["weights: bf16", *(f"PASS  prompt 1: {what}" for what in
                                             ("tokens", "prefill logits", "decode logits",
                                              "generated text")), "PASS"])

    def test_another_weight(self):
        """One that changes all logits."""
        folder = self.copy()
        path = os.path.join(folder, "model.safetensors")
        with open(path, "rb") as file:
            data = bytearray(file.read())
        header = int.from_bytes(data[:8], "little")
        begin = json.loads(data[8:8 + header])["model.norm.weight"]["data_offsets"][0]
        data[8 + header + begin] ^= 64
        with open(path, "wb") as file:
            file.write(data)
        result = self.verify(folder, DEMO)
        self.assertEqual((result.code, result.err), (1, b""))
        self.assertRegex(result.out.decode(), r"FAIL  prompt 1: prefill logits: \d+ of \d+ values "
                         r"differ, first at position 0, logit \d+; max difference \S+\n")
        self.assertEqual(result.out.splitlines()[-1], b"FAIL")

    def test_mistakes(self):
        self.bad(2, "--checkpoint_path", "verify", "converted", "--converted", DEMO)
        self.bad(1, "missing", "verify", "converted", "--converted", DEMO, "--checkpoint_path",
                 self.path("missing"))
        self.write_small_model()
        for a, b in ((self.folder, DEMO), (DEMO, self.folder)):
            self.bad(1, [" has 64 tokens" if a != DEMO else " 64: ", "not the same model"],
                     "verify", "converted", "--converted", a, "--checkpoint_path", b, *SHORT)


class Terminal(TerminalCase):
    def test_interrupt(self):
        for kind in ("flash", "bits"):
            code, out, _ = self.shown("verify", kind, "--json",
                                      interrupt_after=r"loading|verifying|avx|scalar|neon")
            self.assertEqual((code, out), (130, b""))


if __name__ == "__main__":
    main()
