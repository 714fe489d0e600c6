"""What `make install` puts where, the man page as a reader sees it, and completions in a real shell."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import BINARY, TOP, tool


def run(*command, **options):
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, cwd=TOP, timeout=60, **options
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Install(unittest.TestCase):
    def test_make_installs_under_destdir_and_prefix_and_takes_it_away_again(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        # A user's umask must not make the files unreadable for others.
        where = [f"DESTDIR={directory}", "PREFIX=/opt/x", f"BIN={BINARY}"]
        run("make", "install", *where, umask=0o077)
        modes = {
            str(path.relative_to(directory)): path.stat().st_mode & 0o777
            for path in Path(directory).rglob("*")
            if path.is_file()
        }
        self.assertEqual(
            modes,
            {
                "opt/x/bin/scalesocket": 0o755,
                "opt/x/bin/websocketd": 0o755,
                "opt/x/share/man/man1/scalesocket.1": 0o644,
                "opt/x/share/man/man1/websocketd.1": 0o644,
                "opt/x/share/bash-completion/completions/scalesocket": 0o644,
                "opt/x/share/zsh/site-functions/_scalesocket": 0o644,
                "opt/x/share/fish/vendor_completions.d/scalesocket.fish": 0o644,
            },
        )
        installed = Path(directory, "opt/x")
        self.assertRegex(run(installed / "bin/scalesocket", "--version"), r"^scalesocket \d+\.\d+\.\d+\n$")
        self.assertEqual(os.readlink(installed / "bin/websocketd"), "scalesocket")
        self.assertRegex(run(installed / "bin/websocketd", "--version"), r"^websocketd \d+\.\d+\.\d+ \(scalesocket ")
        for path in installed.rglob("*/"):
            self.assertEqual(path.stat().st_mode & 0o755, 0o755, path)
        run("make", "uninstall", *where)
        self.assertEqual([path for path in installed.rglob("*") if path.is_file()], [])

    def test_another_websocketd_is_neither_replaced_nor_removed(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        where = [f"DESTDIR={directory}", "PREFIX=/x", f"BIN={BINARY}"]
        other = Path(directory, "x/bin/websocketd")
        other.parent.mkdir(parents=True)
        other.write_text("another program")
        for target in "install", "uninstall":
            run("make", target, *where)
            self.assertEqual(other.read_text(), "another program")
        self.assertFalse(Path(directory, "x/share/man/man1/websocketd.1").exists())


class ManPage(unittest.TestCase):
    def test_the_page_of_websocketd_is_clean_and_names_its_options(self):
        page = TOP / "man" / "websocketd.1"
        self.assertEqual(run(tool("mandoc"), "-T", "lint", "-W", "warning", page), "")
        self.assertEqual(run(BINARY, "--websocketd", "--man"), page.read_text())
        text = re.sub(".\b", "", run(tool("mandoc"), "-T", "utf8", page))
        for option in "--port --passstderr --pingms --sslca --header-ws".split():
            self.assertIn(option, text)

    def test_the_page_is_clean_and_renders(self):
        page = TOP / "man" / "scalesocket.1"
        self.assertEqual(run(tool("mandoc"), "-T", "lint", "-W", "warning", page), "")
        text = re.sub(".\b", "", run(tool("mandoc"), "-T", "utf8", page))
        for heading in "NAME SYNOPSIS OPTIONS ENVIRONMENT SIGNALS SECURITY EXAMPLES".split():
            self.assertRegex(text, rf"(?m)^{heading}$")
        self.assertEqual(run(BINARY, "--man"), page.read_text())
        for option in re.findall(r"--[a-z]+", run(BINARY, "--help")):
            self.assertIn(option, text)


class Completions(unittest.TestCase):
    COMPLETE = """
        set -u
        eval "$("$1" --completions bash)"
        shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
        set +u
        _scalesocket scalesocket "${COMP_WORDS[COMP_CWORD]}" ""
        printf '%s\\n' "${COMPREPLY[@]}"
    """

    def complete(self, *words):
        lines = run(tool("bash"), "--norc", "-c", self.COMPLETE, "bash", BINARY, "scalesocket", *words)
        return lines.splitlines()

    def test_bash_completes_options_values_and_programs(self):
        self.assertEqual(self.complete("--maxm"), ["--maxmessage"])
        self.assertEqual(self.complete("--slow", ""), ["disconnect", "drop", "block"])
        self.assertEqual(self.complete("--slow", "=", "d"), ["disconnect", "drop"])
        self.assertEqual(self.complete("--delim"), ["--delimiters="])
        self.assertIn("cat", self.complete("--slow", "drop", "ca"))
        self.assertIn("Makefile", self.complete("cat", "Make"))
        self.assertEqual(self.complete("cat", "--", "--maxm"), [""])

    def test_zsh_and_fish_take_theirs_where_they_are_here(self):
        for shell, check in (("zsh", ["-n"]), ("fish", ["--no-execute"])):
            script = run(BINARY, "--completions", shell)
            self.assertIn("maxmessage", script)
            if shutil.which(shell):
                with tempfile.NamedTemporaryFile("w", suffix=f".{shell}") as file:
                    file.write(script)
                    file.flush()
                    run(shell, *check, file.name, env=os.environ | {"HOME": "/"})
