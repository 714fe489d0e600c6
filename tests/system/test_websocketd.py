"""Ours beside Debian's websocketd 0.4.1: the same cases for both. Where they differ, the difference is one that
websocketd(1) of ours names, and stands here as the pair of both results."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from urllib.parse import urljoin

from harness import HERE, PATIENCE, until
from websocketd_pair import CLEAN, Websocketd, ours, theirs

PROGRAMS = HERE / "websocketd"
LANGUAGES = ["sh", "py", "pl", "js", "rb", "awk"]

# Variables that only one of them sets, or sets to another value: see ENVIRONMENT and DIFFERENCES in the man page.
OTHER_VALUES = {"SERVER_SOFTWARE", "GATEWAY_INTERFACE"}
ONLY_OURS = {"HTTP_HOST"}
ONLY_THEIRS = {"HTTP_PROXY"}
NEVER_THE_SAME = {"REMOTE_PORT", "UNIQUE_ID"}


class Pair(unittest.TestCase):
    """Runs both, in directories that look the same."""

    def setUp(self):
        self.directory = Path(tempfile.mkdtemp(prefix="websocketd-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.commands = [theirs(), ours(self.directory)]

    def both(self, *flags, **options):
        """A server of each; flags may contain {port}."""
        servers = []
        for command in self.commands:
            server = Websocketd(command, *flags, environment=CLEAN, cwd=self.directory, **options)
            self.addCleanup(server.stop)
            servers.append(server)
        return servers

    def same(self, results, what, differs=None):
        """That both results are the same, or exactly the pair that `differs` gives."""
        them, us = results
        if differs is None:
            self.assertEqual(us, them, what)
        else:
            self.assertEqual((them, us), differs, what)

    def file(self, name, text, mode=0o755):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path


class CommandLine(Pair):
    def run_both(self, *arguments):
        runs = []
        for command in self.commands:
            run = subprocess.run(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                env=CLEAN,
                cwd=self.directory,
            )
            runs.append(run)
        return runs

    def test_exit_codes_are_the_same(self):
        (self.directory / "d").mkdir()
        for arguments in [
            [],
            ["--help"],
            ["-h"],
            ["-help"],
            ["--version"],
            ["--license"],
            ["--nope"],
            ["--port=abc", "cat"],
            ["--port"],
            ["--binary=2", "cat"],
            ["--port=0"],
            ["no-such-command-anywhere"],
            ["--dir=d", "cat"],
            ["--dir=/no/such"],
            ["--loglevel=loud", "cat"],
            ["--ssl", "cat"],
            ["--sslcert=x", "cat"],
            ["--devconsole", "--staticdir=d", "cat"],
            ["--devconsole", "--cgidir=d", "cat"],
            ["--staticdir=/no/such", "cat"],
        ]:
            with self.subTest(arguments=arguments):
                them, us = self.run_both(*arguments)
                self.assertEqual(us.returncode, them.returncode, us.stdout + us.stderr)

    def test_what_goes_to_which_stream_is_the_same(self):
        for arguments, stream, part in [
            (["--help"], "stderr", "--port"),
            ([], "stdout", "Command line arguments are missing."),
            (["--nope"], "stderr", "flag provided but not defined: -nope"),
            (["--port=abc", "cat"], "stderr", 'invalid value "abc" for flag -port: parse error'),
            (["--binary=2", "cat"], "stderr", 'invalid boolean value "2" for -binary: parse error'),
            (["--version"], "stdout", "websocketd "),
        ]:
            for run in self.run_both(*arguments):
                with self.subTest(arguments=arguments, program=run.args[0]):
                    self.assertIn(part, getattr(run, stream))

    def test_a_port_in_use_is_status_3_and_a_fatal_line_on_standard_output(self):
        for server in self.both("cat"):
            for command in self.commands:
                run = subprocess.run(
                    [*command, f"--port={server.port}", "--address=127.0.0.1", "cat"],
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                    env=CLEAN,
                )
                self.assertEqual(run.returncode, 3)
                self.assertRegex(run.stdout, r"\| FATAL  \| server     \|  \| Can't start server: .*address already in use")

    def test_flags_may_be_written_in_each_way(self):
        for flags in [
            ["-loglevel=info", "--binary", "cat"],
            ["--loglevel", "info", "-binary=true", "cat"],
            ["-loglevel", "info", "--binary=T", "--", "cat"],
            ["--binary=false", "--binary=1", "cat", "--binary=0"],
        ]:
            results = []
            for server in self.both(*(flags[:-1] if flags[-1].startswith("--") else flags)):
                client = server.connect()
                client.send(b"\0\xff", opcode=2)
                results.append(client.take())
                client.close()
            self.same(results, flags, None)


class Environment(Pair):
    def environment(self, server, *request, **options):
        client = server.connect(*request, **options)
        self.assertEqual(client.status, 101)
        lines, _ = client.texts()
        client.close()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def test_the_variables_of_a_program_are_the_same(self):
        command = ["env"]
        for flags in [[], ["--passenv=PATH,LANG,NONE,HTTPS"], ["--reverselookup=false"]]:
            servers = self.both(*flags, *command)
            for path, fields, host in [
                ("/", [], None),
                ("/a%20b/c%2fd?x=1&y=%20", [], None),
                ("/p/?", ["X-One: 1", "x-one: 2", "Cookie: a=1", "Cookie: b=2"], "example.com"),
                ("/", ["Proxy: http://evil.example", "Accept-Language: en"], "[::1]:8080"),
                ("/", ["Origin: http://example.com:81"], "example.com:81"),
            ]:
                with self.subTest(flags=flags, path=path, host=host):
                    them, us = (self.environment(server, path, *fields, host=host) for server in servers)
                    port = {str(server.port): "PORT" for server in servers}
                    them, us = (
                        {name: self.plain(value, port) for name, value in found.items()} for found in (them, us)
                    )
                    self.assertEqual(set(us) - set(them), ONLY_OURS)
                    self.assertEqual(set(them) - set(us), ONLY_THEIRS & set(them))
                    for name in set(us) & set(them) - NEVER_THE_SAME - OTHER_VALUES:
                        self.assertEqual(us[name], them[name], name)
                    self.assertTrue(us["SERVER_SOFTWARE"].startswith("websocketd/"), us["SERVER_SOFTWARE"])
                    self.assertEqual(us["GATEWAY_INTERFACE"], "CGI/1.1")
                    self.assertRegex(us["UNIQUE_ID"], r"^\d{19}$")

    @staticmethod
    def plain(value, ports):
        for port, name in ports.items():
            value = value.replace(port, name)
        return value


class Directory(Pair):
    def setUp(self):
        super().setUp()
        script = '#!/bin/sh\necho "$SCRIPT_NAME|$PATH_INFO|$PATH_TRANSLATED|$REQUEST_URI|$QUERY_STRING|$0"\n'
        self.file("d/s.sh", script)
        self.file("d/sub/t.sh", script)
        self.file("d/.hidden.sh", script)
        self.file("d/nox", "x", mode=0o644)
        self.file("outside.sh", script)
        (self.directory / "d/link").symlink_to(self.directory / "outside.sh")
        (self.directory / "d/inside").symlink_to("s.sh")

    def test_each_row_of_the_table_of_paths(self):
        servers = self.both("--dir=d")
        for path, differs in [
            ("/s.sh", None),
            ("/s.sh/", None),
            ("/s.sh/a/b?q=1", None),
            ("/sub/t.sh/z", None),
            ("/s%2esh", None),
            ("/.hidden.sh", None),
            ("/inside", None),
            ("/", None),
            ("/sub", None),
            ("/sub/", None),
            ("/none", None),
            ("/none/x", None),
            # The file cannot be executed: they find out after the 101.
            ("/nox", ((101, []), (403, None))),
            # A link that leads out of the directory: the newest version refuses it as well.
            ("/link", ((101, [f"/link|||/link||{self.directory}/d/link"]), (404, None))),
        ]:
            with self.subTest(path=path):
                results = []
                for server in servers:
                    client = server.connect(path)
                    lines = client.texts()[0] if client.status == 101 else None
                    results.append((client.status, lines))
                    client.close()
                if path == "/link":
                    self.assertEqual((results[0][0], results[1][0]), (101, 404))
                else:
                    self.same(results, path, differs)


class Origins(Pair):
    def test_the_same_origins_are_let_in(self):
        cases = [
            [],
            ["Origin: null"],
            ["Origin: file:"],
            ["Origin: http://example.com"],
            ["Origin: https://example.com"],
            ["Origin: http://example.com:8080"],
            ["Origin: https://example.com:8080"],
            ["Origin: http://other.example"],
            ["Origin: http://EXAMPLE.com"],
            ["Origin: https://bar.example:444"],
            ["Origin: bad origin"],
            ["Origin: http://[::1]:99"],
        ]
        for flags in [
            [],
            ["--sameorigin"],
            ["--sameorigin=true", "--origin=example.com"],
            ["--origin=example.com"],
            ["--origin=example.com:8080,other.example"],
            ["--origin=http://example.com"],
            ["--origin=https://bar.example"],
            ["--origin=https://example.com:443,http://example.com:80"],
            ["--origin=null,file:"],
        ]:
            servers = self.both(*flags, "cat")
            for fields in cases:
                for host in ["example.com", "example.com:8080", None]:
                    with self.subTest(flags=flags, fields=fields, host=host):
                        results = []
                        for server in servers:
                            client = server.connect("/", *fields, host=host)
                            results.append(client.status)
                            client.close()
                        self.same(results, fields)


class Messages(Pair):
    def exchange(self, server, *messages, count):
        client = server.connect()
        for opcode, data in messages:
            client.send(data, opcode)
        got = [client.take() for _ in range(count)]
        client.close()
        return got

    def test_text_goes_in_and_out_line_by_line(self):
        for messages, count in [
            ([(1, "hello")], 1),
            ([(1, "")], 1),
            ([(1, "a\nb\n\nc")], 4),
            ([(1, "cr\r")], 1),
            ([(1, "x" * 200000)], 1),
            ([(9, b"ping"), (1, "after")], 2),
        ]:
            results = [self.exchange(server, *messages, count=count) for server in self.both("cat")]
            self.same(results, messages)

    def test_a_message_of_the_other_kind_is_ignored_as_in_the_newest_version(self):
        messages = [(2, b"ignored"), (1, "after")]
        results = [self.exchange(server, *messages, count=1) for server in self.both("cat")]
        self.same(results, messages, ([(1, b"ignoredafter")], [(1, b"after")]))

    def test_binary_goes_through_as_it_is(self):
        results = []
        for server in self.both("--binary", "cat"):
            client = server.connect()
            client.send(b"\0\1\n\xff", opcode=2)
            client.send(b"more", opcode=2)
            got = b""
            while len(got) < 8:
                opcode, part = client.take()
                self.assertEqual(opcode, 2)
                got += part
            results.append(got)
            client.close()
        self.same(results, "binary")

    def test_the_end_of_a_program(self):
        for program, differs in [
            ("echo one; exit 0", ((["one"], None), (["one"], 1000))),
            ("echo one; exit 3", ((["one"], None), (["one"], 1000))),
            # Its last line has no end.
            ("echo one; printf two", ((["one"], None), (["one", "two"], 1000))),
            # It closes its output and lives.
            ("echo one; exec >&-; sleep 10", ((["one"], None), (["one"], 1000))),
        ]:
            with self.subTest(program=program):
                results = []
                for server in self.both("sh", "-c", program):
                    client = server.connect()
                    results.append(client.texts())
                    client.close()
                self.same(results, program, differs)

    def test_a_program_that_does_not_end_gets_the_same_signals_in_order(self):
        program = self.file(
            "stubborn.py",
            """#!/usr/bin/env python3
import os, signal, sys, time
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.write(log, signal.Signals(number).name.encode() + b"\\n"))
print(os.getpid(), flush=True)
while sys.stdin.readline():
    pass
os.write(log, b"end of input\\n")
while True:
    time.sleep(1)
""",
        )
        results = []
        for index, command in enumerate(self.commands):
            log = self.directory / f"log{index}"
            server = Websocketd(command, program, log, environment=CLEAN)
            self.addCleanup(server.stop)
            client = server.connect()
            pid = int(client.take()[1])
            client.close()
            until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "the end of the program")
            results.append(log.read_text().split("\n"))
        self.same(results, "signals")
        self.assertEqual(results[1], ["end of input", "SIGINT", "SIGTERM", ""])

    def test_over_maxforks_it_is_429(self):
        results = []
        for server in self.both("--maxforks=1", "cat"):
            first = server.connect()
            second = server.connect()
            results.append((first.status, second.status, second.rest))
            first.close()
            second.close()
        self.same(results, "maxforks")


class Files(Pair):
    def setUp(self):
        super().setUp()
        self.file("s/a.txt", "0123456789", 0o644)
        self.file("s/sub/b&c.html", "<p>", 0o644)
        self.file("s/with/index.html", "<h1>index</h1>", 0o644)
        self.file("s/.dot", "dot", 0o644)
        self.file("c/env.sh", '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"\nenv | sort\necho "cwd=$(pwd)"\n')
        self.file("c/status.sh", '#!/bin/sh\nprintf "Status: 201 Made\\r\\nContent-Type: text/x\\r\\nX-A: b\\r\\n\\r\\nmade"\n')
        self.file("c/location.sh", '#!/bin/sh\nprintf "Location: http://example.com/x\\r\\n\\r\\n"\n')
        self.file("c/local.sh", '#!/bin/sh\nprintf "Location: /there\\r\\n\\r\\n"\n')
        self.file("c/nothing.sh", "#!/bin/sh\nexit 0\n")
        self.file("c/nohead.sh", "#!/bin/sh\necho no header here\n")
        self.file("c/body.sh", '#!/bin/sh\nprintf "Content-Type: text/plain\\n\\n"\necho "$CONTENT_LENGTH $CONTENT_TYPE"\ncat\n')

    def test_static_files(self):
        servers = self.both("--staticdir=s", "cat")
        for method, path, fields in [
            ("GET", "/a.txt", []),
            ("HEAD", "/a.txt", []),
            ("POST", "/a.txt", []),
            ("GET", "/a.txt", ["Range: bytes=2-4"]),
            ("GET", "/a.txt", ["Range: bytes=99-"]),
            ("GET", "/a.txt", ["If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"]),
            ("GET", "/.dot", []),
            ("GET", "/", []),
            ("GET", "/sub", []),
            ("GET", "/sub/", []),
            ("GET", "/with/", []),
            ("GET", "/with/index.html", []),
            ("GET", "/none", []),
            ("GET", "//a.txt", []),
            ("GET", "/sub/../a.txt", []),
        ]:
            with self.subTest(method=method, path=path, fields=fields):
                results = []
                for server in servers:
                    status, head, body = server.http(path, *fields, method=method)
                    # Theirs is relative to the path, and links are escaped in another way.
                    location = urljoin("http:" + path, head.get("location", path)) if "location" in head else None
                    body = body.replace(b"b%26c", b"b&c") if status not in (301, 416) else None
                    results.append((status, location, head.get("content-range"), body))
                self.same(results, path)

    def test_cgi(self):
        servers = self.both("--cgidir=c", "--passenv=LANG", "cat")
        for path in ["/status.sh", "/location.sh", "/local.sh", "/nothing.sh", "/nohead.sh", "/none.sh", "/env.sh/x"]:
            with self.subTest(path=path):
                results = []
                for server in servers:
                    status, head, body = server.http(path)
                    results.append((status, head.get("location"), head.get("x-a"), body))
                self.same(results, path)
        for body, fields in [
            (b"hello", ["Content-Length: 5", "Content-Type: text/a"]),
            (b"", []),
        ]:
            results = [server.http("/body.sh", *fields, method="POST", body=body)[2] for server in servers]
            with self.subTest(fields=fields):
                self.same(results, fields)

    def test_a_body_in_chunks_is_passed_to_cgi(self):
        body = b"5\r\nhello\r\n0\r\n\r\n"
        servers = self.both("--cgidir=c", "cat")
        results = [server.http("/body.sh", "Transfer-Encoding: chunked", method="POST", body=body) for server in servers]
        self.same([result[2] for result in results], "chunks", (b"Chunked request bodies are not supported by CGI.", b" \nhello"))

    def test_the_environment_of_cgi(self):
        servers = self.both("--cgidir=c", "--passenv=LANG", "cat")
        found = []
        for server in servers:
            body = server.http("/env.sh?a=b", "X-One: 1", "Proxy: evil")[2].decode()
            body = body.replace(str(server.port), "PORT")
            found.append(dict(line.split("=", 1) for line in body.splitlines()))
        them, us = found
        # The newest version passes on the variables of --passenv.
        self.assertEqual(set(us) - set(them), {"LANG"})
        self.assertEqual(set(them) - set(us), set())
        for name in set(them) - {"REMOTE_PORT", "SERVER_SOFTWARE", "PATH", "SCRIPT_FILENAME"}:
            self.assertEqual(us[name], them[name], name)
        self.assertTrue(us["SCRIPT_FILENAME"].endswith("c/env.sh"))


class Log(Pair):
    PATTERNS = [
        (r"^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000 ", "TIME "),
        (r"id:'\d{19}'", "id:'ID'"),
        (r"pid:'\d+'", "pid:'PID'"),
        (r"127\.0\.0\.1:\d+", "HOST"),
    ]

    def plain(self, log):
        lines = []
        for line in log.splitlines():
            for pattern, name in self.PATTERNS:
                line = re.sub(pattern, name, line)
            lines.append(line)
        return lines

    def test_the_lines_that_monitoring_reads_are_the_same(self):
        self.file("s/a.txt", "text", 0o644)
        self.file("c/c.sh", '#!/bin/sh\nprintf "Content-Type: text/plain\\n\\n"\n')
        results = []
        servers = self.both("--loglevel=access", "--staticdir=s", "--cgidir=c", "sh", "-c", "echo bad >&2; cat")
        for server in servers:
            client = server.connect("/x?q=1", "Origin: http://example.com")
            client.send("hello")
            self.assertEqual(client.take(), (1, b"hello"))
            until(lambda server=server: "| bad" in server.log(), "the line of standard error")
            client.close()
            until(lambda server=server: "DISCONNECT" in server.log(), "the end of the session")
            server.http("/a.txt")
            server.http("/c.sh")
            until(lambda server=server: "CGI\n" in server.log(), "the line of the request")
            results.append(self.plain(server.log()))
        them, us = results
        # The first client of theirs is our own test of whether it listens.
        wanted = [line for line in them if " | ERROR  | http " not in line and "Unexpected error" not in line]
        for line in wanted:
            self.assertIn(line, us)
        self.assertEqual([line for line in us if line not in wanted], [], "lines that only ours has")

    def test_levels_show_the_same_kinds_of_lines(self):
        for level, parts in [
            ("access", ["CONNECT", "DISCONNECT", "INFO "]),
            ("info", ["INFO "]),
            ("error", []),
        ]:
            for server in self.both(f"--loglevel={level}", "cat"):
                client = server.connect()
                client.send("x")
                client.take()
                client.close()
                if "DISCONNECT" in parts:
                    until(lambda server=server: "DISCONNECT" in server.log(), "the end of the session")
                server.popen.terminate()
                server.popen.wait(PATIENCE)
                log = server.log()
                for part in ["DISCONNECT", "INFO "]:
                    self.assertEqual(part in log, part in parts, f"{level} {part} {log}")


class Languages(Pair):
    def test_count(self):
        for language in LANGUAGES:
            for server in self.both(PROGRAMS / f"count.{language}"):
                with self.subTest(language=language, server=server.popen.args[0]):
                    client = server.connect()
                    self.assertEqual(client.texts()[0], ["1", "2", "3", "4", "5"])
                    client.close()

    def test_greeter(self):
        for language in LANGUAGES:
            for server in self.both(PROGRAMS / f"greeter.{language}"):
                with self.subTest(language=language, server=server.popen.args[0]):
                    client = server.connect()
                    for name in ["Ada", "Zoë"]:
                        client.send(name)
                        self.assertEqual(client.take(), (1, f"Hello, {name}!".encode()))
                    client.close()

    def test_environment(self):
        for language in LANGUAGES:
            results = []
            for server in self.both(PROGRAMS / f"environment.{language}"):
                client = server.connect("/path?a=b")
                names = {line.partition("=")[0] for line in client.texts()[0]}
                results.append(names - {"PWD", "SHLVL", "_", "AWKPATH", "AWKLIBPATH"})
                client.close()
            with self.subTest(language=language):
                self.assertEqual(results[1] - results[0], ONLY_OURS)
                self.assertEqual(results[0] - results[1], set())

    def test_a_chat_through_a_file(self):
        for index, command in enumerate(self.commands):
            log = self.file(f"chat{index}.log", "", 0o644)
            server = Websocketd(command, PROGRAMS / "chat.sh", log, environment=CLEAN)
            self.addCleanup(server.stop)
            clients = [server.connect() for _ in range(2)]
            for client in clients:
                self.assertEqual(client.take(), (1, b"ready"))
            clients[0].send("hello")
            said = [client.take()[1].decode() for client in clients]
            self.assertEqual(said[0], said[1])
            self.assertRegex(said[0], r"^\d+: hello$")
            for client in clients:
                client.close()


