"""The quick start of README.md, word for word: each program served as it says, by each client."""

import json
import os
import re
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from clients import Browser, PythonClients
from harness import BINARY, PATIENCE, TOP, Process, tool

# What the README's commands and clients say.
ADDRESS = "localhost:9000"


class Readme(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        text = (TOP / "README.md").read_text()
        start = text.partition("## Quick start\n")[2].partition("\n## ")[0]
        blocks = re.findall(r"(?<=\n\n)([^\n]+(?:\n[^\n]+)*)\n\n```(\w+)\n(.*?)```\n", start, re.DOTALL)
        cls.directory = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.files, cls.commands = {}, []
        for words, language, block in blocks:
            if name := re.match(r"`([\w.]+)`, ", words):
                cls.files[name[1]] = block
                Path(cls.directory, name[1]).write_text(block)
            else:
                assert language == "sh", words
                cls.commands += block.splitlines()
        # The name that the README uses.
        Path(cls.directory, "scalesocket").symlink_to(BINARY)
        cls.environment = os.environ | {"PATH": f"{cls.directory}:{os.environ['PATH']}"}

    def serve(self, command):
        server = Process("sh", "-c", f"exec {command}", cwd=self.directory, env=self.environment)
        self.addCleanup(server.stop)
        server.wait_for(rf"listening on 127\.0\.0\.1:{ADDRESS.rpartition(':')[2]}")
        return server

    def test_the_quick_start_has_a_program_and_a_client_in_each_language(self):
        self.assertEqual(set(self.files), {"shout.sh", "count.py", "dice.js", "talk.py", "talk.js"})
        self.assertEqual(len(self.commands), 3)

    def test_each_program_answers_each_client(self):
        answers = {"shout.sh": "KITCHEN: HELLO", "count.py": "1: hello", "dice.js": r"hello rolls [1-6]"}
        browser = Browser()
        self.addCleanup(browser.stop)
        for command, (program, answer) in zip(self.commands, answers.items(), strict=True):
            self.assertIn(program, command)
            server = self.serve(command)
            with self.subTest(command=command, client="talk.py"):
                self.assertRegex(self.run_client([".system/venv/bin/python", "talk.py"]), rf"^{answer}\n$")
            with self.subTest(command=command, client="talk.js in Node"):
                self.assertRegex(self.run_client([*self.node(), "talk.js"]), rf"^{answer}\n$")
            with self.subTest(command=command, client="talk.js in Chromium"):
                page = browser.tab(f"http://{ADDRESS}/health")
                page.call("Runtime.enable")
                page.evaluate(self.files["talk.js"] + "; undefined")
                said = browser.wait_for("Runtime.consoleAPICalled", page.session)["params"]["args"]
                self.assertRegex(said[0]["value"], rf"^{answer}$")
            self.assertEqual(server.stop(), 0)

    def node(self):
        has_websockets = subprocess.run(
            [tool("node"), "-e", "process.exit(typeof WebSocket === 'function' ? 0 : 1)"], timeout=PATIENCE
        )
        return [tool("node"), *([] if has_websockets.returncode == 0 else ["--experimental-websocket"])]

    def run_client(self, command):
        command[0] = str(TOP / command[0])
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_make_demo_serves_the_chat(self):
        command = ["make", "--no-print-directory", "demo", "ADDR=localhost:0", "CARGO=true"]
        target = self.enterContext(tempfile.TemporaryDirectory())
        Path(target, "release").mkdir()
        Path(target, "release", "scalesocket").symlink_to(BINARY)
        demo = Process(*command, cwd=TOP, env=os.environ | {"CARGO_TARGET_DIR": target}, process_group=0)
        self.addCleanup(demo.stop)
        # As Control-C would; make passes nothing on.
        self.addCleanup(os.killpg, demo.popen.pid, signal.SIGINT)
        address = demo.wait_for(r"listening on (\S+)")[1]
        client = PythonClients().open(f"ws://{address}/lobby")
        self.assertEqual(json.loads(client.take()[0])["_join"], 1)
