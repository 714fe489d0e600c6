"""What clients written by others see: the same promises, kept to each of them, by each program."""

import json
import socket
import sys
import time
import unittest
import urllib.request
from pathlib import Path

from clients import BrowserClients, Closed, NodeClients, PythonClients, Refused
from harness import HERE, PATIENCE, Server, children, is_alive, until

PROGRAMS = HERE / "programs"
CAT = ["cat"]
PYTHON = [sys.executable, PROGRAMS / "echo.py"]
SHELL = ["sh", PROGRAMS / "echo.sh"]


class Promises:
    """Mixed into one class of tests for each kind of client."""

    make = None

    @classmethod
    def setUpClass(cls):
        cls.clients = cls.make()

    @classmethod
    def tearDownClass(cls):
        cls.clients.stop()

    def serve(self, *arguments, **options):
        server = Server(*arguments, **options)
        self.addCleanup(server.stop)
        return server

    def each(self, programs=(CAT, PYTHON, SHELL)):
        for program in programs:
            # Only names: the whole of a failure's title is to fit a line.
            with self.subTest(program=" ".join(Path(word).name for word in program)):
                yield program

    def test_a_message_reaches_its_room_and_no_other(self):
        for program in self.each():
            server = self.serve(*program)
            one, two = self.clients.open(server.url("a")), self.clients.open(server.url("a"))
            other = self.clients.open(server.url("b"))
            one.send("grüße, 🌍")
            self.assertEqual(one.take(), ["grüße, 🌍"])
            self.assertEqual(two.take(), ["grüße, 🌍"])
            other.send("b's first")
            self.assertEqual(other.take(), ["b's first"])
            self.assertEqual(len(children(server.popen.pid)), 2, "one process a room")

    def test_many_messages_come_in_order_to_everyone(self):
        messages = [f"{number} {'x' * (number % 300)}" for number in range(3000)]
        for program in self.each():
            server = self.serve(*program)
            one, two = self.clients.open(server.url()), self.clients.open(server.url())
            one.send(*messages)
            self.assertEqual(one.take(len(messages)), messages)
            self.assertEqual(two.take(len(messages)), messages)

    def test_who_has_come_in_misses_nothing(self):
        server = self.serve(*CAT)
        speaker = self.clients.open(server.url())
        for number in range(100):
            listener = self.clients.open(server.url())
            speaker.send(str(number))
            self.assertEqual((listener.take(), speaker.take()), ([str(number)], [str(number)]))
            listener.close()

    def test_a_message_of_a_mebibyte_comes_back_whole(self):
        message = "0123456789abcdef" * 65536
        for program in self.each():
            client = self.clients.open(self.serve(*program).url())
            client.send(message)
            self.assertTrue(client.take() == [message], "the message came back changed")

    def test_bytes_come_back_as_bytes(self):
        everything = bytes(range(256))
        for program in self.each((CAT, [sys.executable, PROGRAMS / "bytes.py"], ["sh", PROGRAMS / "bytes.sh"])):
            client = self.clients.open(self.serve("--binary", *program).url())
            for message in (everything, b"\n", b"\0\xff\xfe", "text".encode()):
                client.send(message)
                self.assertEqual(client.take(), [message])
            client.send("sent as text")
            self.assertEqual(client.take(), [b"sent as text"])

    def test_bytes_to_a_program_of_lines_come_back_as_text(self):
        for program in self.each():
            client = self.clients.open(self.serve(*program).url())
            client.send(b"bytes")
            self.assertEqual(client.take(), ["bytes"])

    def test_the_close_code_says_how_the_program_ended(self):
        for program in self.each((PYTHON, SHELL)):
            server = self.serve(*program)
            for message, expected in (
                ("exit 0", ["last words", 1000, ""]),
                ("exit 3", ["last words", 1011, "exit status 3"]),
                ("die", [1011, "killed by signal 9"]),
            ):
                client = self.clients.open(server.url())
                client.send(message)
                *words, code, reason = expected
                self.assertEqual(client.take(2)[: len(words) + 1], [*words, Closed(code, reason)])

    def test_a_program_that_cannot_be_started_closes_with_1011(self):
        server = self.serve(PROGRAMS / "broken")
        closed = self.clients.open(server.url()).take()[0]
        self.assertEqual(closed.code, 1011)
        self.assertEqual(closed.reason, "cannot start the program")

    def test_a_shutdown_closes_with_1001_and_leaves_no_process(self):
        for program in self.each():
            server = self.serve(*program)
            client = self.clients.open(server.url())
            client.send("hello")
            self.assertEqual(client.take(), ["hello"])
            (pid,) = children(server.popen.pid)
            self.assertEqual(server.stop(), 0)
            self.assertEqual(client.take(), [Closed(1001, "server is shutting down")])
            self.assertFalse(is_alive(pid))

    def test_a_message_too_large_closes_with_1009_after_what_was_complete(self):
        for program in self.each():
            server = self.serve("--maxmessage", "1k", *program)
            one, two = self.clients.open(server.url()), self.clients.open(server.url())
            one.send("complete", "x" * 1025)
            self.assertEqual(two.take(), ["complete"])
            self.assertEqual([end.code for end in one.take(2) if isinstance(end, Closed)], [1009])

    def test_an_idle_client_is_closed_with_1008(self):
        client = self.clients.open(self.serve("--idle", "0.2", *CAT).url())
        self.assertEqual(client.take(), [Closed(1008, "idle for too long")])

    def test_a_close_of_the_client_is_answered_with_its_code(self):
        client = self.clients.open(self.serve(*CAT).url())
        client.close(4001, "bye")
        self.assertEqual(client.take()[0].code, 4001)

    def test_the_last_to_leave_ends_the_program(self):
        for program in self.each():
            server = self.serve(*program)
            one, two = self.clients.open(server.url()), self.clients.open(server.url())
            (pid,) = until(lambda: children(server.popen.pid), "a program runs")
            one.close()
            one.take()
            two.send("still here")
            self.assertEqual(two.take(), ["still here"])
            self.assertTrue(is_alive(pid))
            two.close()
            until(lambda: not is_alive(pid), "the program ends")

    def test_the_program_knows_its_room_and_who_comes_and_goes(self):
        server = self.serve("--joinmsg", "+#ID #QUERY_NAME", "--leavemsg", "-#ID", *SHELL)
        one = self.clients.open(server.url("kitchen?name=J%C3%BCrgen+B"))
        self.assertEqual(one.take(), ["+1 J%C3%BCrgen%20B"])
        one.send("room")
        self.assertEqual(one.take(), ["kitchen name=J%C3%BCrgen+B"])
        two = self.clients.open(server.url("kitchen?name=two"))
        self.assertEqual(one.take(), ["+2 two"])
        two.close()
        self.assertEqual(one.take(), ["-2"])

    def test_json_messages_say_whom_they_are_for_and_who_they_are_from(self):
        server = self.serve("--json", "--cache", "8", "--api", "--metrics", *CAT)
        one, two = self.clients.open(server.url()), self.clients.open(server.url())
        self.assertEqual(one.take(2), ['{"t":"Join","_from":1}', '{"t":"Join","_from":2}'])
        two.send('{"_from":1, "z": 1, "a": "\\u00fc"}', "no JSON", '{"_to":1, "secret":true}')
        two.send('{"_to":"x"}', '{"_except":[2]}')
        said = [json.loads(text) for text in one.take(3)]
        self.assertEqual(said[0], {"_from": 2, "z": 1, "a": "ü"})
        self.assertEqual(said[1:], [{"_from": 2, "_to": 1, "secret": True}, {"_from": 2, "_except": [2]}])
        three = self.clients.open(server.url())
        replayed = three.take(5)
        self.assertEqual(replayed[-1], '{"t":"Join","_from":3}')
        self.assertNotIn("secret", "".join(replayed))
        with urllib.request.urlopen(f"http://{server.address}/api/room/connections", timeout=PATIENCE) as answer:
            self.assertEqual(json.load(answer), 3)
        with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=PATIENCE) as answer:
            self.assertTrue(answer.read().endswith(b"# EOF\n"))

    def test_a_program_that_listens_on_tcp_is_waited_for(self):
        server = self.serve("--tcp", sys.executable, PROGRAMS / "tcp.py")
        one, two = self.clients.open(server.url("a")), self.clients.open(server.url("b"))
        one.send("over TCP")
        two.send("on a port of its own")
        self.assertEqual((one.take(), two.take()), (["over TCP"], ["on a port of its own"]))

    def test_refusals_come_before_the_upgrade(self):
        server = self.serve(*CAT)
        for room, status in (("a/b", 404), ("api", 400), ("x" * 257, 400)):
            with self.subTest(room=room):
                self.assert_refused(server.url(room), status)
        server = self.serve("--maxclients", "4", *CAT)
        # A browser has connections of its own, which count.
        with self.assertRaises(Refused) as refused:
            for _ in range(5):
                self.clients.open(server.url())
        self.assertEqual(refused.exception.status, 503 if self.clients.tells_status else None)

    def assert_refused(self, url, status):
        with self.assertRaises(Refused) as refused:
            self.clients.open(url)
        self.assertEqual(refused.exception.status, status if self.clients.tells_status else None)

    def test_pings_of_the_server_are_answered_and_keep_the_client(self):
        server = self.serve("--ping", "0.1", "-vv", *CAT)
        client = self.clients.open(server.url())
        # Three times the time of a ping without an answer, and it would be gone.
        end = time.monotonic() + 0.7
        until(lambda: time.monotonic() > end, "time passes")
        client.send("still here")
        came = ["ping"]
        while came == ["ping"]:
            came = client.take()
        self.assertEqual(came, ["still here"])


class Python(Promises, unittest.TestCase):
    make = PythonClients

    def test_a_ping_is_answered(self):
        client = self.clients.open(self.serve(*CAT).url())
        for data in (b"", b"x" * 125):
            self.assertTrue(client.socket.ping(data).wait(10))

    def test_text_that_is_not_utf8_closes_with_1007(self):
        client = self.clients.open(self.serve(*CAT).url())
        client.send("complete")
        self.assertEqual(client.take(), ["complete"])
        client.socket.send(b"\xff", text=True)
        self.assertEqual(client.take()[0].code, 1007)

    def test_a_broken_frame_closes_with_1002(self):
        client = self.clients.open(self.serve(*CAT).url())
        client.socket.socket.sendall(b"\xf3\x80\0\0\0\0")
        self.assertEqual(client.take()[0].code, 1002)

    def test_a_client_too_slow_is_closed_with_1013_and_the_rest_of_the_room_lives(self):
        server = self.serve("--maxqueue", "64k", "--patience", "0.2", *CAT)
        # It stops to read when it holds one message; a small window keeps the kernel's buffers small.
        slow = self.clients.open(server.url(), max_queue=1)
        fast = self.clients.open(server.url())
        message = "x" * 65536
        for _ in range(400):
            fast.send(message)
            self.assertTrue(fast.take() == [message])
        server.wait_for("too slow to keep up")
        fast.send("the end")
        self.assertEqual(fast.take(), ["the end"])
        came = slow.take(401)
        self.assertTrue(all(text == message for text in came[:-1]), "whole messages only")
        self.assertEqual(came[-1].code, 1013)

    def test_a_client_that_answers_no_ping_is_gone(self):
        server = self.serve("--ping", "0.1", *CAT)
        host, port = server.address.split(":")
        with socket.create_connection((host, int(port)), PATIENCE) as client:
            client.sendall(
                f"GET /room HTTP/1.1\r\nHost: {server.address}\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            server.wait_for("client left.*no answer to a ping")

    def test_a_fragmented_message_arrives_as_one(self):
        client = self.clients.open(self.serve(*CAT).url())
        client.socket.send(["one ", "two ", "three"])
        self.assertEqual(client.take(), ["one two three"])

    def test_compression_is_not_accepted_and_not_needed(self):
        client = self.clients.open(self.serve(*CAT).url(), compression="deflate")
        self.assertEqual(client.socket.protocol.extensions, [])
        client.send("plain")
        self.assertEqual(client.take(), ["plain"])


class Node(Promises, unittest.TestCase):
    make = NodeClients

    def test_pings_go_both_ways(self):
        client = self.clients.open(self.serve("--ping", "0.05", *CAT).url())
        self.assertEqual(client.take(3), ["ping"] * 3)
        client = self.clients.open(self.serve(*CAT).url())
        client.ping("mine")
        self.assertEqual(client.take(), ["pong mine"])


class Chromium(Promises, unittest.TestCase):
    make = BrowserClients
