#!/usr/bin/env python3
"""Tests of the program: manual pages and completion, which are made of the tables of options."""

import os
import re
import shutil
import subprocess

from cli_support import TIMEOUT, Case, environment, main


def words_of(page):
    """Names of the commands in the program's help, or of the options in a command's."""
    return [name for line in re.findall(r"(?m)^  ([-\w][^\s,]*(?:, -\S+)?) ", page.split("examples:")[0])
            for name in line.split(", ")]


class Manual(Case):
    def setUp(self):
        super().setUp()
        self.commands = [word for word in words_of(self.good("--help").decode())
                         if not word.startswith("-")]
        self.assertIn("generate", self.commands)

    def options(self, command):
        return words_of(self.good(command, "--help").decode())

    def tool(self, *command, stdin=b""):
        """stdout of a program that must succeed without a word."""
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=TIMEOUT,
                              check=False, env=environment(LC_ALL="C.UTF-8", COLUMNS="80"))
        self.assertEqual((done.returncode, done.stderr), (0, b""), command)
        return done.stdout.decode()


class Pages(Manual):
    def plain(self, roff):
        """What the page says, as one line of ASCII."""
        for written, meant in ((rb"\-", b"-"), (rb"\(aq", b"'"), (rb"\e", b"\\")):
            roff = roff.replace(written, meant)
        return re.sub(r"\\f[BIR]", "", roff.decode("ascii"))

    def test_commands(self):
        page = self.plain(self.good("man"))
        self.assertTrue(page.startswith('.TH "exactflash" 1 '), page)
        for command in self.commands:
            self.assertIn(f"\n{command}\n", page)
            self.assertIn(f".BR exactflash-{command} (1)", page)

    def test_options(self):
        for command in self.commands:
            page = self.plain(self.good("man", command))
            self.assertIn(f"exactflash-{command} - ", page)
            for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS"):
                self.assertIn(f"\n.SH {section}\n", page)
            for option in self.options(command):
                self.assertRegex(page, rf"(?m)^(.*, )?{re.escape(option)}\b", command)
        self.assertIn("(default 256)", self.plain(self.good("man", "generate")))

    def test_folder(self):
        self.good("man", "-o", self.folder)
        names = ["exactflash.1", *(f"exactflash-{command}.1" for command in self.commands)]
        self.assertEqual(sorted(os.listdir(self.folder)), sorted(names))
        with open(self.path("exactflash-info.1"), "rb") as file:
            self.assertEqual(file.read(), self.good("man", "info"))
        missing = self.path("no/such")
        self.bad(1, ["cannot write", missing], "man", "-o", missing)

    def test_mistakes(self):
        self.bad(2, ["unknown command 'genrate'", "did you mean generate?"], "man", "genrate")
        self.bad(2, "leave out 'info'", "man", "info", "-o", self.folder)
        self.bad(2, "unexpected argument 'logits'", "man", "info", "logits")

    def test_groff(self):
        if not shutil.which("groff"):
            self.skipTest("no groff")
        for command in ("", *self.commands):
            roff = self.good("man", *filter(None, [command]))
            text = self.tool("groff", "-ww", "-man", "-Tutf8", "-P-c", "-P-b", "-P-u", stdin=roff)
            self.assertIn("EXIT STATUS", text)
        self.assertIn("{\"ids\":[…]}", self.tool("groff", "-ww", "-man", "-Tutf8", "-P-c", "-P-b",
                                                 "-P-u", stdin=self.good("man", "tokenize")))

    def test_man(self):
        if not shutil.which("man"):
            self.skipTest("no man")
        path = self.write("exactflash.1", self.good("man"))
        self.assertIn("SYNOPSIS", self.tool("man", "--warnings=w", "-l", path))


class Bash(Manual):
    def setUp(self):
        super().setUp()
        if not shutil.which("bash"):
            self.skipTest("no bash")
        self.script = self.write("completion", self.good("completion", "bash"))

    def complete(self, *words):
        """What bash would offer for the last word."""
        code = ('source "$0"; COMP_WORDS=(exactflash "$@"); COMP_CWORD=$#; set -u; _exactflash; '
                'printf "%s\\n" "${COMPREPLY[@]-}"')
        return self.tool("bash", "-c", code, self.script, *words).split()

    def test_commands(self):
        self.assertEqual(sorted(self.complete("")),
                         sorted([*self.commands, "--help", "--version"]))
        self.assertEqual(self.complete("tok"), ["tokenize"])
        self.assertEqual(self.complete("xyz"), [])

    def test_options(self):
        for command in self.commands:
            offered = self.complete(command, "-")
            wanted = {option for option in self.options(command) if option != "-h"}
            self.assertEqual(set(offered), wanted, command)
        self.assertEqual(self.complete("generate", "-p", "x", "--ign"), ["--ignore-eos"])

    def test_values(self):
        self.assertEqual(self.complete("generate", "--attention", ""), ["flash", "standard"])
        self.assertEqual(self.complete("generate", "--attention", "=", "st"), ["standard"])
        self.assertEqual(self.complete("generate", "--attention", "="), ["flash", "standard"])
        self.assertEqual(self.complete("verify", "--cache-type", ""), ["f32", "f16", "bf16", "i8"])
        self.assertEqual(self.complete("generate", "-n", ""), [])
        self.assertEqual(self.complete("completion", ""), ["bash", "zsh", "--help"])
        self.assertIn("perplexity", self.complete("man", ""))

    def test_files(self):
        self.write("story.txt", b"")
        for option in ("--file", "-f"):
            self.assertEqual(self.complete("perplexity", option, self.path("sto")),
                             [self.path("story.txt")])
        self.assertEqual(self.complete("info", "-m", self.path("sto")), [self.path("story.txt")])

    def test_registers(self):
        text = self.tool("bash", "-c", 'source "$0"; complete -p exactflash', self.script)
        self.assertIn("-F _exactflash exactflash", text)


class Zsh(Manual):
    def test_script(self):
        script = self.good("completion", "zsh").decode()
        self.assertTrue(script.startswith("#compdef exactflash\n"))
        for command in self.commands:
            self.assertRegex(script, rf"(?m)^    '{command}:")
            self.assertRegex(script, rf"(?m)^    {command}\)$")
        if shutil.which("zsh"):
            self.tool("zsh", "-n", self.write("_exactflash", script.encode()))

    def test_mistakes(self):
        self.bad(2, "bash or zsh", "completion")
        self.bad(2, "the shell takes bash|zsh, not 'fish'", "completion", "fish")


if __name__ == "__main__":
    main()
