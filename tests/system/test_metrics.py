"""What `--metrics` says, read by the reference parser of OpenMetrics, the package `prometheus_client`."""

import base64
import os
import socket
import unittest
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from clients import Closed, PythonClients
from harness import HERE, PATIENCE, Server, until

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
BY_ROOM = ["scalesocket_websocket_connections_open", "scalesocket_websocket_connections_total"]
# What a room may be called, past any client that would encode it: marks of the format, line breaks of
# other systems, right-to-left, an end of everything.
HOSTILE = [
    *("a{b}", "}1", "{room=a}", "a,room=b", "#EOF", "a'b", "%22%5C%0A", "le=1;2|3", "`$(id)`", "NaN"),
    *("ü🌍", "\u2028line\u2029break", "\u202eleft", "\ufeff", "e\u0301", "\U0010fffd", "x" * 256),
]


def scrape(server):
    """All samples, by name and labels, of a text that the reference parser accepts."""
    with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=PATIENCE) as answer:
        assert answer.headers["Content-Type"] == CONTENT_TYPE, answer.headers["Content-Type"]
        text = answer.read().decode()
    samples, families = {}, set()
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.name not in families, family.name
        families.add(family.name)
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in samples, f"{key} is there twice"
            samples[key] = sample.value
    return samples


def is_counter(key):
    return key[0].endswith("_total")


class Metrics(unittest.TestCase):
    def setUp(self):
        self.clients = PythonClients()

    def serve(self, *arguments):
        server = Server(*arguments)
        self.addCleanup(server.stop)
        self.seen = scrape(server)
        return server

    def join(self, server, room="room"):
        conversation = self.clients.open(server.url(room))
        self.addCleanup(conversation.close)
        return conversation

    def assert_moves(self, server, moves):
        """Waits until counters and gauges have moved by that much since the last time; nothing that counts
        ever goes back, and what is not named and not about connections, bytes or the process stands still."""
        before = self.seen

        def moved():
            now = scrape(server)
            for key, value in before.items():
                if is_counter(key) and key in now:
                    assert now[key] >= value, f"{key} went back from {value} to {now[key]}"
            found = {
                self.short(key): now.get(key, 0) - before.get(key, 0)
                for key in now | before
                if now.get(key, 0) != before.get(key, 0) and not self.is_noise(key)
            }
            self.seen = now
            self.found = found
            return found == moves

        try:
            until(moved, moves)
        except AssertionError as late:
            raise AssertionError(f"expected {moves}, found {self.found}") from late

    @staticmethod
    def is_noise(key):
        """Scrapes are connections themselves; how many bytes a message is, is not this test's business."""
        noise = ("process_", "scalesocket_connections", "scalesocket_message_bytes", "scalesocket_queue_bytes")
        return key[0].startswith(noise)

    @staticmethod
    def short(key):
        name = key[0].removeprefix("scalesocket_").removesuffix("_total")
        return " ".join([name, *(value for _, value in key[1:])])

    def of_room(self, room, joined, open_now):
        moves = {
            f"websocket_connections {room}": joined,
            f"websocket_connections_open {room}": open_now,
        }
        return {name: move for name, move in moves.items() if move}

    def test_joins_messages_and_leaves_are_counted_by_room_and_in_all(self):
        server = self.serve("--metrics", "cat")
        one, two = self.join(server, "kitchen"), self.join(server, "kitchen")
        other = self.join(server, "cellar")
        self.assert_moves(
            server,
            {"clients_joined": 3, "rooms": 2, "programs": 2, "program_starts": 2}
            | self.of_room("kitchen", 2, 2)
            | self.of_room("cellar", 1, 1),
        )
        bytes_before = self.seen[("scalesocket_message_bytes_total", ("from", "client"))]
        one.send("hello", "again")
        self.assertEqual(two.take(2), ["hello", "again"])
        self.assert_moves(server, {"messages_received": 2, "messages client": 2, "messages program": 2})
        bytes_after = self.seen[("scalesocket_message_bytes_total", ("from", "client"))]
        self.assertEqual(bytes_after - bytes_before, len("helloagain"))
        two.close()
        other.close()
        self.assert_moves(
            server,
            {"closes client": 2, "rooms": -1, "programs": -1, "program_exits success": 1}
            | self.of_room("kitchen", 0, -1)
            | self.of_room("cellar", 0, -1),
        )
        self.join(server, "cellar")
        self.assert_moves(
            server,
            {"clients_joined": 1, "rooms": 1, "programs": 1, "program_starts": 1} | self.of_room("cellar", 1, 1),
        )

    def test_room_names_cannot_break_out_of_their_label(self):
        server = self.serve("--metrics", "cat")
        sockets = [self.shake_hands(server, room) for room in HOSTILE]
        everywhere = {}
        for room in HOSTILE:
            everywhere |= self.of_room(room, 1, 1)
        count = len(HOSTILE)
        self.assert_moves(
            server,
            everywhere | {"clients_joined": count, "rooms": count, "programs": count, "program_starts": count},
        )
        for stranger in sockets:
            stranger.close()
        gone = {}
        for room in HOSTILE:
            gone |= self.of_room(room, 0, -1)
        self.assert_moves(
            server,
            gone | {"closes gone": count, "rooms": -count, "programs": -count, "program_exits success": count},
        )

    def test_without_rooms_nothing_tells_of_them(self):
        server = self.serve("--metrics=global", "cat")
        one = self.join(server, "secret")
        self.assert_moves(server, {"clients_joined": 1, "rooms": 1, "programs": 1, "program_starts": 1})
        self.assertFalse([key for key in self.seen if key[0] in BY_ROOM or "secret" in str(key)])
        one.close()
        self.assert_moves(server, {"closes client": 1, "rooms": -1, "programs": -1, "program_exits success": 1})

    def test_programs_that_fail_are_counted_by_the_way_they_fail(self):
        for option in ("--metrics=global", "--metrics=rooms"):
            server = self.serve(option, HERE / "programs" / "broken")
            self.assertEqual(self.join(server, "}").take()[0].code, 1011)
            failures = ("scalesocket_program_start_failures_total",)
            until(lambda: scrape(server)[failures] == 1 and scrape(server)[("scalesocket_rooms",)] == 0, option)
            for name in ("scalesocket_clients_joined_total", "scalesocket_program_starts_total"):
                self.assertEqual(scrape(server)[(name,)], 0, name)
        script = 'case $ROOM in well) exit 0;; badly) exit 3;; shot) kill -9 $$;; esac; cat'
        server = self.serve("--metrics=global", "sh", "--", "-c", script)
        for room, code, close, kind in (
            ("well", 1000, "ended", "success"),
            ("badly", 1011, "failed", "status"),
            ("shot", 1011, "failed", "signal"),
        ):
            with self.subTest(room=room):
                end = self.join(server, room).take()[0]
                self.assertIsInstance(end, Closed)
                self.assertEqual(end.code, code)
                self.assert_moves(
                    server,
                    {
                        "clients_joined": 1,
                        "program_starts": 1,
                        f"closes program {close}": 1,
                        f"program_exits {kind}": 1,
                    },
                )

    def test_what_does_not_arrive_and_who_does_not_get_in_is_counted(self):
        server = self.serve(
            *("--metrics=global", "--frame=json", "--maxmessage", "100", "--maxline", "100", "--maxroomclients", "2"),
            *("sh", "--", "-c", "head -c 200 /dev/zero; echo; printf '\\377\\n'; echo '{\"_to\":\"x\"}'; cat"),
        )
        one = self.join(server)
        self.assertEqual(one.take(), ["\ufffd"])
        started = {"clients_joined": 1, "rooms": 1, "programs": 1, "program_starts": 1}
        said = {"messages_dropped too long": 1, "messages_repaired": 1, "messages_dropped malformed header": 1}
        # The program's message without a readable address is none that was sent.
        self.assert_moves(server, started | said | {"messages program": 1})
        one.send("no JSON", "{}")
        self.assertEqual(one.take(), ['{"_from":1}'])
        self.assert_moves(server, {"messages_received": 2, "messages_dropped not json": 1, "messages client": 1, "messages program": 1})
        two = self.join(server)
        for room in ("room", "api"):
            with self.assertRaises(Exception) as refusal:
                self.clients.open(server.url(room))
            self.assertIn(refusal.exception.status, (400, 503))
        with self.assertRaises(Exception) as refusal:
            self.clients.open(server.url("new"), origin="http://elsewhere.test")
        self.assertEqual(refusal.exception.status, 403)
        self.assert_moves(
            server, {"clients_joined": 1, "refusals limit": 1, "refusals bad request": 1, "refusals origin": 1}
        )
        two.send("x" * 101)
        self.assertEqual(two.take()[0].code, 1009)
        self.assert_moves(server, {"closes too large": 1})

    def test_messages_dropped_for_a_slow_client_are_counted(self):
        # Far more than the queue and the system's buffers hold.
        script = "head -c 64000000 /dev/zero | tr '\\0' x | fold -w 64000; echo; cat"
        server = self.serve("--metrics=global", "--slow=drop", "--maxqueue", "64k", "sh", "--", "-c", script)
        slow = self.shake_hands(server, "room")
        said = ("scalesocket_messages_total", ("from", "program"))
        until(lambda: scrape(server)[said] >= 1000, "all is said")
        # What was dropped for a client is added up when it leaves.
        slow.close()
        dropped = ("scalesocket_messages_dropped_total", ("reason", "slow client"))
        until(lambda: scrape(server)[dropped] > 100, "drops are counted")

    def shake_hands(self, server, room):
        """A socket that has joined a room, and reads nothing more."""
        ip, _, port = server.address.rpartition(":")
        client = socket.create_connection((ip, int(port)), PATIENCE)
        self.addCleanup(client.close)
        key = base64.b64encode(os.urandom(16)).decode()
        client.sendall(
            f"GET /{room} HTTP/1.1\r\nHost: {server.address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.assertIn(b" 101 ", client.recv(100).partition(b"\r\n")[0], room)
        return client
