#!/usr/bin/env python3
"""Tests of the program: chat and its session files.

The models are the demo model with two or three of its tokens made control tokens.
"""

import os
import pty
import random
import shutil
import signal
import subprocess
import time
import unittest

from cli_support import COMMAND, DEMO, TIMEOUT, Case, environment, main, run

CONTROL = {
    "chatml": ["<|im_start|>", "<|im_end|>"],
    "llama-3": ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
}
EMULATED = len(COMMAND) > 1
FIRST = 4000  # ids of the tokens that become control tokens: FIRST, FIRST + 1, …
TEMPLATES = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
              "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}",
    "zephyr": "{{ '<|user|>\\n' + message['content'] + eos_token }} {{ '<|assistant|>' }}",
}
LINES = ["Once upon a time", "And then?", "What did the king say?"]


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def with_control_tokens(data, names):
    """A tokenizer.model whose pieces FIRST, FIRST + 1, … are these control tokens."""
    out, at, piece = bytearray(), 0, 0
    while at < len(data):
        begin = at
        key, at = varint(data, at)
        size, at = varint(data, at)
        at += size
        part = data[begin:at]
        if key == 1 << 3 | 2:
            if FIRST <= piece < FIRST + len(names):
                name = names[piece - FIRST].encode()
                message = b"\x0a" + bytes([len(name)]) + name + b"\x15\0\0\0\0\x18\x03"
                part = b"\x0a" + bytes([len(message)]) + message
            piece += 1
        out += part
    return bytes(out)


class ChatCase(Case):
    def model(self, kind, template=False):
        """A folder with the demo model as a model for that format."""
        folder = self.path("model-" + kind)
        if os.path.exists(folder):
            return folder
        os.mkdir(folder)
        for name in ("config.json", "model.safetensors"):
            os.symlink(os.path.join(DEMO, name), os.path.join(folder, name))
        with open(os.path.join(DEMO, "tokenizer.model"), "rb") as file:
            data = with_control_tokens(file.read(), CONTROL.get(kind, []))
        with open(os.path.join(folder, "tokenizer.model"), "wb") as file:
            file.write(data)
        if template:
            with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
                file.write('{"chat_template": "%s"}' % TEMPLATES[kind].replace("\n", "\\n"))
        return folder

    def chat(self, kind="chatml", lines=(), *arguments, **keywords):
        text = "".join(line + "\n" for line in lines).encode()
        return self.good("chat", "-m", self.model(kind), "--template", kind, "-n", "12",
                         *arguments, stdin=text, **keywords).decode()

    def begin(self, *arguments, n="12", **popen):
        """A chat that is running."""
        popen = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
                 **popen}
        return subprocess.Popen([*COMMAND, "chat", "-m", self.model("chatml"), "--template",
                                 "chatml", "-n", n, *arguments], env=environment(), **popen)


class Template(ChatCase):
    def test_none(self):
        self.bad(1, ["no chat template", "zephyr, chatml, llama-3 (--template NAME)"], "chat")
        self.bad(1, ["<|im_start|>", "--template"], "chat", "--template", "chatml")
        self.bad(1, ["<|start_header_id|>"], "chat", "--template", "llama-3")
        self.bad(2, ["--template takes zephyr, chatml or llama-3", "'alpaca'"], "chat", "--template",
                 "alpaca")

    def test_recognised(self):
        for kind in TEMPLATES:
            folder = self.model(kind, template=True)
            self.assertEqual(self.good("chat", "-m", folder, "-n", "12", stdin=b"Hello\n").decode(),
                             self.chat(kind, ["Hello"]))
            self.good("chat", "-m", folder, stdin=b"")
        self.write("model-chatml/tokenizer_config.json", b'{"chat_template": "[INST]"}')
        self.bad(1, "none of those that are supported", "chat", "-m", self.model("chatml"))

    def test_as_rendered(self):
        """The answer is the continuation of the rendered text."""
        rendered = {
            "chatml": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nA fox?<|im_end|>\n"
                      "<|im_start|>assistant\n",
            "llama-3": "<|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
                       "<|start_header_id|>user<|end_header_id|>\n\nA fox?<|eot_id|>"
                       "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "zephyr": "<|system|>\nBe kind.</s>\n<|user|>\nA fox?</s>\n<|assistant|>\n",
        }
        for kind, text in rendered.items():
            wanted = self.good("generate", "-m", self.model(kind), "-p", text, "--parse-special",
                               "-n", "12", "--seed", "5")
            self.assertEqual(self.chat(kind, ["A fox?"], "--system", "Be kind.", "--seed", "5"),
                             wanted.decode())

    def test_end_of_an_answer(self):
        """The end token ends an answer though config.json does not name it."""
        for kind, end in (("chatml", FIRST + 1), ("llama-3", FIRST + 2), ("zephyr", 2)):
            out = self.chat(kind, LINES, "--logit_bias", f"{end}=100")
            self.assertEqual(out, "\n" * len(LINES))


@unittest.skipIf(EMULATED, "an emulator is too slow")
class Talk(ChatCase):
    def test_pipe(self):
        """One line is one turn, the last one without its end too; empty lines are none."""
        out = self.chat("chatml", LINES)
        self.assertEqual(out, self.good(
            "chat", "-m", self.model("chatml"), "--template", "chatml", "-n", "12",
            stdin="\n".join([LINES[0], "", LINES[1] + "\r", LINES[2]]).encode()).decode())
        self.assertEqual(out, self.chat("chatml", [*LINES, "/exit", "more"]))
        self.assertTrue(out.startswith(self.chat("chatml", LINES[:1])))
        self.assertNotEqual(out, self.chat("chatml", LINES, "--seed", "2"))
        for change in (["--threads", "1"], ["--chunk", "3"], ["--isa", "scalar"]):
            self.assertEqual(self.chat("chatml", LINES, *change), out)

    def test_full_cache(self):
        folder = self.model("chatml")
        result = run("chat", "-m", folder, "--template", "chatml", "--ctx", "30", "-n", "0",
                     "--logit_bias", f"{FIRST + 1}=-inf", "--logit_bias", "2=-inf",
                     stdin=b"Hello\nAgain\n")
        self.assertEqual(result.code, 1)
        self.assertRegex(result.err, rb"\Aexactflash: stopped [^\n]*--ctx\n"
                                     rb"exactflash: [^\n]*does not fit[^\n]*\n\Z")

    def test_commands(self):
        for line, words in (("/what", "unknown command /what"), ("/save", "/save needs"),
                            ("/load ", "/load needs"), ("/load /no/such", "No such file"),
                            ("/save /no/such", "No such file")):
            self.bad(1, words, "chat", "-m", self.model("chatml"), "--template", "chatml",
                     stdin=(line + "\n").encode())
        self.bad(2, "--logit_bias takes", "chat", "--logit_bias", "x")

    def test_interrupt(self):
        """Ctrl-C stops the answer, not the program."""
        endless = ["--logit_bias", f"{FIRST + 1}=-inf", "--logit_bias", "2=-inf"]
        with self.begin(*endless, "--ctx", "100000", n="0") as process:
            for _ in range(3):
                process.stdin.write(b"Hello\n")
                process.stdin.flush()
                self.assertTrue(os.read(process.stdout.fileno(), 1))
                process.send_signal(signal.SIGINT)
                process.stdin.write(b"/next\n")  # answered on stderr once the answer has stopped
                process.stdin.flush()
                self.assertIn(b"/next", process.stderr.readline())
                self.assertTrue(os.read(process.stdout.fileno(), 65536).endswith(b"\n"))
            process.send_signal(signal.SIGINT)  # while it waits
            _, err = process.communicate(b"/exit\n", timeout=TIMEOUT)
        self.assertEqual((process.returncode, err), (1, b""))  # /next is no command

    def test_terminate(self):
        with self.begin() as process:
            process.stdin.write(b"Hello\n")
            process.stdin.flush()
            os.read(process.stdout.fileno(), 1)
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=TIMEOUT)
        self.assertEqual(process.returncode, 128 + signal.SIGTERM)

    def test_terminal(self):
        """A prompt for each line; Ctrl-C drops a line, Ctrl-D ends."""
        master, slave = pty.openpty()
        with self.begin(stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                        preexec_fn=lambda: os.close(os.open(os.ttyname(slave), os.O_RDWR))) \
                as process:
            os.close(slave)
            text = b""
            for keys in (b"Hello\n", b"dropped\x03", b"/nothing\n", b"\x04"):
                while not text.endswith(b"> "):
                    text += os.read(master, 4096)
                os.write(master, keys)
                text += b"|"
            process.wait(timeout=TIMEOUT)
        os.close(master)
        self.assertEqual(process.returncode, 0, text)
        self.assertEqual(text.count(b"> "), 4, text)
        self.assertIn(b"unknown command /nothing", text)
        self.assertNotIn(b"unknown command dropped", text)


@unittest.skipIf(EMULATED, "an emulator is too slow")
class Session(ChatCase):
    def session(self, *lines, name="s", **keywords):
        return self.chat("chatml", lines, "--session", self.path(name), **keywords)

    def test_goes_on(self):
        """In one piece, or each line in a program of its own: the same answers."""
        for kind in ("chatml", "zephyr", "llama-3"):
            wanted = self.chat(kind, LINES, "--seed", "9")
            path = self.path("s-" + kind)
            parts = [self.chat(kind, [line], "--session", path, *seed)
                     for line, seed in zip(LINES, (["--seed", "9"], [], ["--seed", "3"]))]
            self.assertEqual("".join(parts), wanted, kind)
        self.assertEqual(sorted(os.listdir(self.folder)),
                         ["model-chatml", "model-llama-3", "model-zephyr", "s-chatml", "s-llama-3",
                          "s-zephyr"])

    def test_save_and_load(self):
        path = self.path("kept file")
        both = self.chat("chatml", [LINES[0], f"/save {path}", LINES[1]])
        again = self.chat("chatml", ["Something else", f"/load {path}", LINES[1]])
        other = self.chat("chatml", ["Something else"])
        self.assertEqual(again[len(other):], both[len(self.chat("chatml", LINES[:1])):])

    def test_system_is_kept(self):
        self.chat("chatml", LINES[:1], "--session", self.path("s"), "--system", "Be kind.")
        result = run("chat", "-m", self.model("chatml"), "--template", "chatml", "-n", "12",
                     "--session", self.path("s"), "--system", "Be rude.",
                     stdin=LINES[1].encode())
        self.assertEqual(result.code, 0)
        self.assertIn(b"--system is left out", result.err)
        whole = self.chat("chatml", LINES[:2], "--system", "Be kind.")
        self.assertTrue(whole.endswith(result.out.decode()))

    def test_bad_files(self):
        """Refused with a word about it, and left as they are."""
        self.session(*LINES)
        with open(self.path("s"), "rb") as file:
            data = file.read()
        middle = len(data) // 2
        damaged = {
            "empty": (b"", "no session file"),
            "text": (b"Once upon a time", "no session file"),
            "cut": (data[:middle], "cut off"),
            "flipped": (data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1:], "damaged"),
            "newer": (data[:8] + b"\x02" + data[9:], "version 2"),
        }
        arguments = ["chat", "-m", self.model("chatml"), "--template", "chatml"]
        for name, (content, word) in damaged.items():
            path = self.write(name, content)
            self.bad(1, [path, word], *arguments, "--session", path, stdin=b"Hello\n")
            with open(path, "rb") as file:
                self.assertEqual(file.read(), content)
        self.bad(1, [self.path("s"), "--template"], "chat", "-m", self.model("chatml"), "--template",
                 "zephyr", "--session", self.path("s"))
        self.bad(1, [self.path("s"), "raise --ctx"], *arguments, "--ctx", "20", "--session",
                 self.path("s"))

    def test_other_model(self):
        self.session(*LINES)
        other = self.path("other")
        shutil.copytree(self.model("chatml"), other, symlinks=True)
        with open(os.path.join(DEMO, "config.json"), encoding="utf-8") as file:
            config = file.read()
        os.remove(os.path.join(other, "config.json"))
        self.assertIn('"rope_theta": 10000.0', config)
        self.write("other/config.json", config.replace('"rope_theta": 10000.0',
                                                       '"rope_theta": 10001.0').encode())
        self.bad(1, [self.path("s"), "another model"], "chat", "-m", other, "--template", "chatml",
                 "--session", self.path("s"))

    def test_kill(self):
        """kill -9 at random moments: the file is that of some whole turn, never another one."""
        rng = random.Random(1)
        talk = (LINES * 40)[:100]
        start = time.monotonic()
        self.session(*talk[:5], name="timing")
        turn = (time.monotonic() - start) / 5
        seen = set()
        for round_ in range(20):
            path = self.path(f"killed-{round_}")
            with self.begin("--session", path, "--ctx", "100000") as process:
                process.stdin.write("".join(line + "\n" for line in talk).encode())
                process.stdin.flush()
                time.sleep(rng.uniform(0, 8 * turn))
                process.kill()
                process.communicate()
            self.assertEqual(process.returncode, -signal.SIGKILL)
            if os.path.exists(path):
                seen.add(os.path.getsize(path))
                self.assertEqual(self.session(name=f"killed-{round_}"), "")
                self.session(LINES[0], name=f"killed-{round_}")
        self.assertGreater(len(seen), 2)


if __name__ == "__main__":
    main()
