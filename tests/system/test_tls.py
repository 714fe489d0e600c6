"""TLS with clients written by others: openssl, Python's `websockets`, Node's `ws`."""

import os
import ssl
import subprocess
import unittest

from clients import Closed, NodeClients, PythonClients
from harness import PATIENCE, TOP, Server, tool

CERTIFICATES = TOP / "tests" / "it" / "certificates"
CA = CERTIFICATES / "ca.pem"


def serve(*arguments):
    return Server("--tlscert", CERTIFICATES / "server.pem", "--tlskey", CERTIFICATES / "server.key", *arguments)


def url(server):
    return f"wss://{server.address}/room"


class OpenSsl(unittest.TestCase):
    def setUp(self):
        self.server = serve("cat")
        self.addCleanup(self.server.stop)

    def ask(self, *options, request=b"GET /health HTTP/1.0\r\n\r\n"):
        command = [tool("openssl"), "s_client", "-connect", self.server.address, "-CAfile", CA, *options]
        client = subprocess.run(command, input=request, capture_output=True, timeout=PATIENCE)
        return client.stdout.decode(errors="replace")

    def test_both_versions_are_spoken_and_the_chain_is_good(self):
        for option, version in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")]:
            said = self.ask(option, "-alpn", "h2,http/1.1", "-ign_eof")
            self.assertIn("Verify return code: 0 (ok)", said)
            self.assertIn(f"New, {version}", said)
            self.assertIn("ALPN protocol: http/1.1", said)
            self.assertIn('{"status":"ok"}', said)

    def test_older_versions_are_refused(self):
        self.assertIn("New, (NONE)", self.ask("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"))

    def test_sessions_are_resumed(self):
        self.assertIn("Reused, TLSv1.2", self.ask("-tls1_2", "-reconnect"))


class Websockets(unittest.TestCase):
    def converse(self, client):
        sizes = [1, 125, 16384, 16385, 300_000]
        client.send(*("x" * size for size in sizes))
        self.assertEqual([len(message) for message in client.take(len(sizes))], sizes)
        client.send("bye")
        self.assertEqual(client.take(2), ["bye", Closed(1000, "")])

    def program(self):
        script = 'while read -r line; do echo "$line"; [ "$line" != bye ] || exit 0; done'
        return serve("--", "sh", "-c", script)

    def test_python(self):
        server = self.program()
        self.addCleanup(server.stop)
        context = ssl.create_default_context(cafile=CA)
        self.converse(PythonClients().open(url(server), ssl=context))

    def test_python_with_a_certificate_of_its_own(self):
        server = serve("--tlsca", CA, "cat")
        self.addCleanup(server.stop)
        context = ssl.create_default_context(cafile=CA)
        context.load_cert_chain(CERTIFICATES / "client.pem", CERTIFICATES / "client.key")
        client = PythonClients().open(url(server), ssl=context)
        client.send("hello")
        self.assertEqual(client.take(), ["hello"])
        client.close()

    def test_node(self):
        server = self.program()
        self.addCleanup(server.stop)
        os.environ["NODE_EXTRA_CA_CERTS"] = str(CA)
        self.addCleanup(os.environ.pop, "NODE_EXTRA_CA_CERTS")
        clients = NodeClients()
        self.addCleanup(clients.stop)
        self.converse(clients.open(url(server)))
