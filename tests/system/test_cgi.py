"""CGI programs in Python and Perl, with the modules that such programs use, asked by curl."""

import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import BINARY, PATIENCE, end_with_us

PYTHON = """#!/usr/bin/env python3
import os, sys, urllib.parse
body = sys.stdin.buffer.read(int(os.environ.get("CONTENT_LENGTH", 0)))
query = urllib.parse.parse_qs(os.environ["QUERY_STRING"])
print("Content-Type: text/plain; charset=utf-8")
print("Set-Cookie: a=b")
print()
print(os.environ["REQUEST_METHOD"], query.get("name"), len(body), os.path.basename(os.getcwd()))
"""

WSGI = """#!/usr/bin/env python3
from wsgiref.handlers import CGIHandler

def application(environ, start_response):
    size = len(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
    start_response("202 Accepted", [("Content-Type", "text/plain"), ("X-Size", str(size))])
    for number in range(3):
        yield f"{number}\\n".encode()

CGIHandler().run(application)
"""

PERL = """#!/usr/bin/env perl
use strict;
my $body = '';
read(STDIN, $body, $ENV{CONTENT_LENGTH} || 0);
print "Status: 201 Created\\r\\nContent-Type: text/plain\\r\\n\\r\\n";
print "$ENV{REQUEST_METHOD} ", length($body), " $ENV{PATH_INFO}\\n";
"""


class Cgi(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        for name, text in [("p.py", PYTHON), ("wsgi.py", WSGI), ("p.pl", PERL)]:
            file = Path(cls.directory.name, name)
            file.write_text(text)
            file.chmod(0o755)
        with socket.create_server(("127.0.0.1", 0)) as free:
            cls.port = free.getsockname()[1]
        command = [BINARY, "--websocketd", f"--port={cls.port}", "--address=127.0.0.1"]
        cls.server = subprocess.Popen(
            [*command, f"--cgidir={cls.directory.name}"],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=end_with_us,
        )
        for line in cls.server.stdout:
            if "Serving CGI" in line and "http:" in line:
                break

    @classmethod
    def tearDownClass(cls):
        cls.server.terminate()
        cls.server.wait(PATIENCE)
        cls.server.stdout.close()
        cls.directory.cleanup()

    def ask(self, method, path, body=None, **options):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(method, path, body, **options)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response, text

    def test_python(self):
        response, text = self.ask("POST", "/p.py?name=J%C3%BCrgen", b"x" * 200_000)
        self.assertEqual((response.status, response.getheader("Set-Cookie")), (200, "a=b"))
        self.assertEqual(text, f"POST ['Jürgen'] 200000 {os.path.basename(self.directory.name)}\n")

    def test_wsgi(self):
        response, text = self.ask("POST", "/wsgi.py", b"hello")
        self.assertEqual((response.status, response.getheader("X-Size"), text), (202, "5", "0\n1\n2\n"))

    @unittest.skipUnless(shutil.which("perl"), "no perl")
    def test_perl(self):
        for method, body, size in [("GET", None, 0), ("PUT", b"x" * 100_000, 100_000)]:
            response, text = self.ask(method, "/p.pl", body)
            self.assertEqual((response.status, text), (201, f"{method} {size} /p.pl\n"))

    @unittest.skipUnless(shutil.which("curl"), "no curl")
    def test_curl(self):
        # A body without a known length is chunked and waits for 100 (Continue). The program cannot know its length.
        url = f"http://127.0.0.1:{self.port}"
        command = ["curl", "-sS", "-m", str(PATIENCE), "-w", " %{http_code} %{num_connects}", "-T", "-"]
        command += ["-H", "Expect: 100-continue", f"{url}/p.py", "--next", "-sS", "-w", " %{http_code} %{num_connects}", f"{url}/p.py"]
        result = subprocess.run(command, input="hello", capture_output=True, text=True, timeout=2 * PATIENCE)
        self.assertEqual(result.returncode, 0, result.stderr)
        name = os.path.basename(self.directory.name)
        self.assertIn(f"PUT None 0 {name}\n 200 1", result.stdout)
        self.assertIn(f"GET None 0 {name}\n 200", result.stdout)


if __name__ == "__main__":
    unittest.main()
