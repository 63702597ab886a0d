"""What the tests of the program share. Each is run as TEST.py SOURCE_DIR COMMAND...

COMMAND is the program, with an emulator in front where it was built for another machine.
"""

import array
import errno
import fcntl
import json
import math
import os
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
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
ENDLESS = ["generate", "-p", "Once", "-n", "100000", "--ctx", "100000", "--ignore-eos"]


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


def environment(**changes):
    env = {k: v for k, v in os.environ.items() if k not in ("XF_ISA", "XF_DEMO_MODEL")}
    env["XF_TUNING"] = ""  # what this machine's user keeps is no part of a test
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

    def bad_test(self, *arguments):
        """stdout of a command that must fail, silently on stderr."""
        result = run(*arguments)
        self.assertEqual((result.code, result.err), (1, b""))
        return result.out.decode()

    def write_small_model(self, seed=1):
        """One layer, random weights."""
        width, vocab, inner = 32, 64, 48
        config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"],
                  "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": 1,
                  "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": vocab,
                  "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "hidden_act": "silu",
                  "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2}
        layer = "model.layers.0."
        shapes = {"model.embed_tokens.weight": [vocab, width], "model.norm.weight": [width],
                  layer + "input_layernorm.weight": [width],
                  layer + "post_attention_layernorm.weight": [width],
                  layer + "self_attn.q_proj.weight": [width, width],
                  layer + "self_attn.k_proj.weight": [width // 2, width],
                  layer + "self_attn.v_proj.weight": [width // 2, width],
                  layer + "self_attn.o_proj.weight": [width, width],
                  layer + "mlp.gate_proj.weight": [inner, width],
                  layer + "mlp.up_proj.weight": [inner, width],
                  layer + "mlp.down_proj.weight": [width, inner]}
        numbers, header, data = random.Random(seed), {}, b""
        for name, shape in shapes.items():
            values = array.array("f", (numbers.gauss(0, 1) for _ in range(math.prod(shape))))
            header[name] = {"dtype": "F32", "shape": shape,
                            "data_offsets": [len(data), len(data) + 4 * len(values)]}
            data += values.tobytes()
        text = json.dumps(header).encode()
        self.write("config.json", json.dumps(config).encode())
        self.write("model.safetensors", len(text).to_bytes(8, "little") + text + data)

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


class TerminalCase(Case):
    def shown(self, *arguments, interrupt_after=None, signals=(signal.SIGINT,)):
        """(code, stdout, what a terminal at stderr was sent). The signals are sent when that
        matches."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=slave,
                              env=environment()) as process:
            os.close(slave)
            text = ""
            while part := self.read_terminal(master):
                text += part
                if interrupt_after and re.search(interrupt_after, text):
                    for number in signals:
                        process.send_signal(number)
                        time.sleep(0.002)  # or they would become one
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


def main():
    unittest.main(argv=sys.argv[:1], verbosity=2)
