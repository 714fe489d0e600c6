"""The README's programs, clients and recipes, word for word."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

from clients import Browser, PythonClients
from harness import BINARY, PATIENCE, TOP, Process, tool

# What the README's commands and clients say.
ADDRESS = "localhost:9000"


def section(text, heading):
    """What stands under a heading, up to the next one of its level or above."""
    level = heading.split()[0]
    start = text.partition(f"\n{heading}\n")[2]
    return re.split(rf"\n#{{2,{len(level)}}} ", start)[0]


class Readme(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.text = (TOP / "README.md").read_text()
        blocks = re.findall(
            r"(?<=\n\n)([^\n]+(?:\n[^\n]+)*)\n\n```(\w+)\n(.*?)```\n", cls.text, re.DOTALL
        )
        cls.directory = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.files = {}
        for words, _, block in blocks:
            if name := re.match(r"`([\w.]+)`, ", words):
                cls.files[name[1]] = block
                Path(cls.directory, name[1]).write_text(block)
        # The names that the README uses.
        Path(cls.directory, "scalesocket").symlink_to(BINARY)
        Path(cls.directory, "examples").symlink_to(TOP / "examples")
        cls.environment = os.environ | {"PATH": f"{cls.directory}:{os.environ['PATH']}"}

    def serve(self, command):
        server = Process("sh", "-c", f"exec {command}", cwd=self.directory, env=self.environment)
        self.addCleanup(server.stop)
        self.port = server.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1]
        return server

    def recipe(self, heading, **replaced):
        """Serves the recipe's one command; gives what opens clients of it."""
        (command,) = re.findall(r"```sh\n(.*?)```", section(self.text, f"### {heading}"), re.DOTALL)
        for words, others in replaced.values():
            self.assertIn(words, command)
            command = command.replace(words, others)
        self.serve(command)
        clients = PythonClients()
        return lambda path="/kitchen": clients.open(f"ws://localhost:{self.port}{path}")

    def test_there_is_a_program_and_a_client_in_each_language(self):
        self.assertEqual(
            set(self.files), {"shout.sh", "count.py", "dice.js", "talk.py", "talk.js", "bot.py"}
        )

    def test_each_program_answers_each_client(self):
        answers = {"shout.sh": "KITCHEN: HELLO", "count.py": "1: hello", "dice.js": r"hello rolls [1-6]"}
        commands = re.findall(r"^scalesocket .*", section(self.text, "## First program"), re.MULTILINE)
        browser = Browser()
        self.addCleanup(browser.stop)
        for command, (program, answer) in zip(commands, answers.items(), strict=True):
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

    def test_the_recipe_of_private_answers_keeps_them_private(self):
        join = self.recipe("Private answers")
        ann = join()
        (welcome,) = ann.take()
        self.assertEqual(json.loads(welcome)["text"], "welcome")
        ben = join()
        ben.take()
        ben.send('{"_from":1,"_join":1,"text":"hello"}')
        (answer,) = ben.take()
        self.assertEqual(json.loads(answer), {"_to": json.loads(answer)["_to"], "text": "HELLO"})
        ann.send('{"text":"mine"}')
        (answer,) = ann.take()
        self.assertEqual(json.loads(answer)["text"], "MINE", "and nothing of what Ben was answered")

    def test_the_recipe_of_several_programs_serves_each_at_its_path(self):
        join = self.recipe("Several programs")
        chat, time = join("/chat"), join("/time")
        chat.send("hello")
        self.assertEqual(chat.take(), ["hello"])
        self.assertRegex(time.take()[0], r"\d\d:\d\d:\d\d")

    def test_the_recipe_of_a_page_serves_it_beside_the_rooms(self):
        client = self.recipe("A page and its websocket")("/lobby")
        client.send("hello")
        self.assertEqual(client.take(), ["hello"])

    def test_the_recipe_of_one_process_for_each_client_keeps_clients_apart(self):
        join = self.recipe("One process for each client")
        ann, ben = join(), join()
        ann.send("a")
        ben.send("b")
        self.assertEqual((ann.take(), ben.take()), (["KITCHEN: A"], ["KITCHEN: B"]))

    def test_the_recipe_without_a_program_relays_to_the_others(self):
        join = self.recipe("No program")
        ann, ben = join(), join()
        ann.send("from Ann")
        self.assertEqual(ben.take(), ["from Ann"])
        ben.send("from Ben")
        self.assertEqual(ann.take(), ["from Ben"], "and not her own")

    def test_the_recipe_of_a_server_that_runs_connects_each_client_to_it(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(PATIENCE)
            join = self.recipe("A server that already runs", port=("5900", str(listener.getsockname()[1])))
            ann = join()
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"RFB 003.008\n")
                self.assertEqual(ann.take(), [b"RFB 003.008\n"])

    def test_the_recipe_of_a_log_replays_its_last_lines_and_follows_it(self):
        with tempfile.NamedTemporaryFile("w") as log:
            log.write("".join(f"line {n}\n" for n in range(20)))
            log.flush()
            ann = self.recipe("Follow a log", file=("/var/log/syslog", log.name))("/log")
            self.assertEqual(ann.take(10), [f"line {n}" for n in range(10, 20)])
            log.write("new\n")
            log.flush()
            self.assertEqual(ann.take(), ["new"])

    def test_the_readme_names_only_options_that_exist(self):
        printed = subprocess.run([BINARY, "--help"], capture_output=True, text=True, timeout=PATIENCE).stdout
        face = subprocess.run([BINARY, "--websocketd", "--help"], capture_output=True, text=True, timeout=PATIENCE)
        known = set(re.findall(r"--[a-z-]+", printed + face.stderr))
        # The left column of the table for users of websocketd has its options.
        text = re.sub(r"(?m)^\| .*? \|(?= )", "", section(self.text, "### Coming from websocketd"))
        text += self.text.partition("\n### Coming from websocketd\n")[0]
        text += self.text.partition("\n### Coming from ScaleSocket 0.2\n")[2]
        named = set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", text))
        of_others = {"--experimental-websocket", "--line-buffered", "--unbuffered"}
        self.assertEqual(named - known - of_others, set())

    def test_each_dependency_is_in_the_table(self):
        manifest = tomllib.loads((TOP / "Cargo.toml").read_text())
        table = section(self.text, "### Dependencies")
        self.assertEqual(set(re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE)), set(manifest["dependencies"]))

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
