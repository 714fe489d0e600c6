"""Inherited sockets: Debian's inetd and systemd's socket activation."""

import tempfile
import getpass
import socket
import unittest
from pathlib import Path

from clients import Closed, NodeClients, PythonClients
from harness import BINARY, Process, children, free_port, is_alive, tool, until


class Activation(unittest.TestCase):
    def setUp(self):
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}/room"
        self.clients = PythonClients()

    def start(self, *command, said=None):
        process = Process(*command)
        self.addCleanup(process.stop)
        if said:
            process.wait_for(said)
        return process

    def inetd(self, wait):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        config = Path(directory, "inetd.conf")
        config.write_text(
            f"127.0.0.1:{self.port} stream tcp {wait} {getpass.getuser()} {BINARY} "
            "scalesocket --inetd --joinmsg joined cat\n"
        )
        inetd = self.start(tool("inetd"), "-i", config)

        def listens():
            state = f"0100007F:{self.port:04X} 00000000:0000 0A"
            return state in Path("/proc/net/tcp").read_text()

        until(listens, "inetd listens")
        return inetd

    def assert_echo(self, client, text):
        client.send(text)
        self.assertEqual(client.take(), [text])

    def test_inetd_nowait_gives_each_connection_a_server_of_its_own(self):
        inetd = self.inetd("nowait")
        one, two = self.clients.open(self.url), self.clients.open(self.url)
        for client in (one, two):
            self.assertEqual(client.take(), ["joined"], "and not a word of the log")
        self.assert_echo(one, "one")
        self.assert_echo(two, "two")
        servers = children(inetd.popen.pid)
        self.assertEqual(len(servers), 2)
        one.close()
        two.close()
        until(lambda: not any(is_alive(pid) for pid in servers), "the servers end with their clients")

    def test_inetd_wait_has_one_server_until_everybody_has_left(self):
        inetd = self.inetd("wait")
        for _ in range(2):
            one = self.clients.open(self.url)
            self.assertEqual(one.take(), ["joined"])
            two = self.clients.open(self.url)
            self.assertEqual(two.take(), ["joined"])
            self.assertEqual(one.take(), ["joined"])
            one.send("to both")
            self.assertEqual((one.take(), two.take()), (["to both"], ["to both"]))
            (server,) = children(inetd.popen.pid)
            one.close()
            two.close()
            until(lambda: not is_alive(server), "the server ends")

    def test_inetd_hands_over_to_a_client_in_node_too(self):
        self.inetd("nowait")
        clients = NodeClients()
        self.addCleanup(clients.stop)
        client = clients.open(self.url)
        self.assertEqual(client.take(), ["joined"])
        client.close(4000, "done")
        self.assertEqual(client.take()[0].code, 4000)

    def activate(self, *words, options=()):
        return self.start(
            tool("systemd-socket-activate"),
            *options,
            *("-l", f"127.0.0.1:{self.port}"),
            *("-E", "PATH"),
            *(BINARY, *words),
            said=r"Listening on 127\.0\.0\.1:\d+ as 3",
        )

    def test_systemd_starts_a_server_with_the_first_client(self):
        activated = self.activate("cat")
        one = self.clients.open(self.url)
        activated.wait_for(rf"listening on 127\.0\.0\.1:{self.port}")
        two = self.clients.open(self.url)
        self.assert_echo(one, "to both")
        self.assertEqual(two.take(), ["to both"])
        self.assertEqual(activated.stop(), 0)
        self.assertEqual(one.take(), [Closed(1001, "server is shutting down")])

    def test_systemd_hands_a_listening_socket_over_as_descriptor_0(self):
        self.activate("--inetd", "cat", options=["--inetd"])
        one, two = self.clients.open(self.url), self.clients.open(self.url)
        self.assert_echo(one, "to both")
        self.assertEqual(two.take(), ["to both"])

    def test_systemd_gives_each_connection_a_server_of_its_own(self):
        for options, words in ((["-a"], ["cat"]), (["-a", "--inetd"], ["--inetd", "cat"])):
            with self.subTest(options=options):
                self.port = free_port()
                self.url = f"ws://127.0.0.1:{self.port}/room"
                activated = self.activate(*words, options=options)
                one, two = self.clients.open(self.url), self.clients.open(self.url)
                self.assert_echo(one, "one")
                self.assert_echo(two, "two")
                servers = children(activated.popen.pid)
                self.assertEqual(len(servers), 2)
                one.close()
                two.close()
                until(lambda: not any(is_alive(pid) for pid in servers), "the servers end")

    def test_a_plain_request_over_inetd_is_answered(self):
        self.inetd("nowait")
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            self.assertTrue(client.makefile().read().endswith('{"status":"ok"}'))
