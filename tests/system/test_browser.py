"""Pages in Chromium: the chat of the examples between two tabs, and which pages may connect."""

import os
import unittest
from pathlib import Path

from clients import Browser, PythonClients
from harness import TOP, Server, free_port

CHAT = TOP / "examples" / "chat"
# As `make demo` serves it.
DEMO = [
    *("--staticdir", CHAT),
    *("--joinmsg", '{"joined":"#QUERY_NAME"}', "--leavemsg", '{"left":"#QUERY_NAME"}'),
    "cat",
]
LINES = "[...document.querySelectorAll('#messages li')].map((line) => line.innerText.trim())"


class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Names of hosts that do not exist anywhere else.
        cls.browser = Browser("--host-resolver-rules=MAP *.test 127.0.0.1")

    @classmethod
    def tearDownClass(cls):
        cls.browser.stop()

    def serve(self, *arguments, **options):
        server = Server(*arguments, **options)
        self.addCleanup(server.stop)
        return server

    def join(self, server, room, name):
        tab = self.browser.tab(f"http://{server.address}/?room={room}")
        tab.type("#name", name)
        tab.until(f"document.querySelector('#state').innerText === 'in room {room}'")
        return tab

    def assert_lines(self, tab, *expected):
        tab.until(f"document.querySelectorAll('#messages li').length >= {len(expected)}")
        self.assertEqual(tab.evaluate(LINES), list(expected))

    def test_two_tabs_talk_in_their_room_and_nothing_they_say_is_markup(self):
        server = self.serve(*DEMO)
        ann, bob = self.join(server, "kitchen", "Ann"), self.join(server, "kitchen", "Böb & <i>")
        other = self.join(server, "cellar", "Eve")
        ann.type("#text", "hello <img src=x onerror=alert(1)>")
        hello = "Annhello <img src=x onerror=alert(1)>"
        self.assert_lines(bob, "Böb & <i> has joined", hello)
        bob.type("#text", "grüße 🌍")
        self.assert_lines(ann, "Ann has joined", "Böb & <i> has joined", hello, "Böb & <i>grüße 🌍")
        # What anybody may send, past the page.
        stranger = PythonClients().open(f"ws://{server.address}/kitchen?name=x")
        stranger.send("<b>no JSON</b>", '{"name":{},"text":"<b>"}', "null", '{"joined":"%zz"}', '{"text":1}')
        bob.until(f"{LINES}.length === 9")
        self.assertEqual(
            bob.evaluate(LINES)[3:],
            ["x has joined", "<b>no JSON</b>", "?<b>", "null", "%zz has joined", '{"text":1}'],
        )
        self.assertEqual(bob.evaluate("document.querySelectorAll('#messages :is(i, img, b b)').length"), 0)
        stranger.close()
        bob.until(f"{LINES}.at(-1) === 'x has left'")
        self.assert_lines(other, "Eve has joined")
        if directory := os.environ.get("SCREENSHOTS"):
            Path(directory, "chat.png").write_bytes(bob.screenshot())

    def test_a_tab_finds_its_room_again_when_the_server_comes_back(self):
        server = Server(*DEMO, address=f"127.0.0.1:{free_port()}")
        try:
            tab = self.join(server, "kitchen", "Ann")
        finally:
            server.stop()
        tab.until("document.querySelector('#state').innerText.startsWith('disconnected (1001 ')")
        server = self.serve(*DEMO, address=server.address)
        tab.until("document.querySelector('#state').innerText === 'in room kitchen'")
        tab.type("#text", "again")
        tab.until(f"{LINES}.at(-1) === 'Annagain'")

    def connects(self, page, url):
        return page.evaluate(
            f"""new Promise((resolve) => {{
                const socket = new WebSocket('{url}');
                socket.onopen = () => {{ socket.close(); resolve(true); }};
                socket.onerror = () => resolve(false);
            }})"""
        )

    def test_only_pages_of_the_same_host_connect_unless_told_otherwise(self):
        port = free_port()
        elsewhere = self.serve("cat")
        server = self.serve("cat", address=f"127.0.0.1:{port}")
        page = self.browser.tab(f"http://localhost:{elsewhere.address.rpartition(':')[2]}/health")
        self.assertTrue(self.connects(page, server.url()), "localhost, another port")
        foreign = self.browser.tab(f"http://foreign.test:{port}/health")
        self.assertFalse(self.connects(foreign, server.url()), "another host")
        refused = server.wait_for(r"refused.*to let it in add (--origin) ([^\s\"]+)")
        self.assertEqual(refused[2], f"http://foreign.test:{port}")
        for option in ("*", "foreign.test", refused[2]):
            opened = self.serve("--origin", option, "cat")
            self.assertTrue(self.connects(foreign, opened.url()), option)
        self.assertFalse(self.connects(foreign, self.serve("--origin", "https://foreign.test", "cat").url()))
        nowhere = self.browser.tab("about:blank")
        self.assertFalse(self.connects(nowhere, server.url()), "no origin of its own")
