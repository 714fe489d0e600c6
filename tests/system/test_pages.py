"""What holds for the page of each example: its layout in windows of many sizes, and how it loses its room and finds it."""

import os
import re
import time
from pathlib import Path

from clients import BrowserTestCase, PythonClients
from harness import HERE, TOP, Server, example, free_port
from prefix_proxy import PrefixProxy

EXAMPLES = ("chat", "game", "whiteboard")
# Width and height: small and usual phones, one on its side, a desktop.
WINDOWS = [(320, 640), (390, 844), (740, 360), (1280, 800)]
STATE = "document.querySelector('#state').innerText"
LONG = "Äußerst-langer-Name-ohne-Lücke-für-alle"


class Pages(BrowserTestCase):
    def serve(self, name, *more, program=None, **options):
        words = example(name)
        if program:
            words = [*words[: words.index("--staticdir") + 2], *program]
        server = Server(*more, *words, cwd=TOP, **options)
        self.addCleanup(server.stop)
        return server

    def tab(self, server, path=""):
        tab = self.browser.tab(f"http://{server.address}/{path}")
        self.addCleanup(tab.close)
        return tab

    def enter(self, tab, name="Ann"):
        """Goes into the room that is in the page's form; the whiteboard is in one already."""
        if tab.evaluate("document.querySelector('#name') !== null"):
            tab.type("#name", name)

    def joined(self, server, room, name="Ann"):
        tab = self.tab(server, f"?room={room}")
        self.enter(tab, name)
        tab.until(f"{STATE} === 'In room {room}'")
        return tab

    # Layout

    def assert_layout(self, tab, page, state):
        tab.evaluate((HERE / "layout.js").read_text() + "; undefined")
        tab.call("Page.bringToFront")
        for width, height in WINDOWS:
            for scheme in ("light", "dark"):
                with self.subTest(page=page, state=state, window=f"{width}x{height}", scheme=scheme):
                    tab.resize(width, height, scheme)
                    self.assertEqual(tab.evaluate(f"faults({width})"), [])
                    if page == "game" and state != "outside":
                        size = "textSize() * get('field').clientWidth / get('field').width"
                        self.assertGreaterEqual(tab.evaluate(size), 11)
                    if page in ("game", "whiteboard") and state != "outside":
                        bottom = "document.querySelector('canvas').getBoundingClientRect().bottom"
                        self.assertLessEqual(tab.evaluate(bottom), height, "the canvas is in view")
                    if directory := os.environ.get("SCREENSHOTS"):
                        name = f"{page}-{state}-{width}-{scheme}.png"
                        Path(directory, name).write_bytes(tab.screenshot())

    def test_the_chat_fits_every_window(self):
        server = self.serve("chat")
        tab = self.tab(server, "?room=kitchen")
        self.assert_layout(tab, "chat", "outside")
        self.enter(tab)
        for name in ("Bob", "אבגדה", LONG[:40]):
            self.joined(server, "kitchen", name)
        tab.until("people.size === 4")
        for text in ("hello", "word" * 60, "שלום עולם", "Is anyone there? " * 12):
            tab.type("#text", text)
        tab.until("document.querySelectorAll('#messages b').length === 4")
        self.assert_layout(tab, "chat", "joined")
        server.stop()
        tab.until("document.querySelector('#state').className === 'lost'")
        tab.evaluate("get('text').value = 'not sent yet'")
        self.assert_layout(tab, "chat", "lost")

    def test_the_game_fits_every_window(self):
        server = self.serve("game")
        self.joined(server, "meadow", "Bob")
        self.joined(server, "meadow", LONG[:20])
        stranger = PythonClients().open(server.url("x" * 200))
        self.addCleanup(stranger.close)
        tab = self.tab(server, "?room=meadow")
        tab.until("document.querySelectorAll('#rooms li').length === 2")
        self.assert_layout(tab, "game", "outside")
        self.enter(tab)
        tab.until("field.players.filter((player) => player.name).length === 3")
        self.assert_layout(tab, "game", "joined")
        server.stop()
        tab.until("document.querySelector('#state').className === 'lost'")
        self.assert_layout(tab, "game", "lost")

    def test_the_field_and_the_scores_of_the_game_are_equally_wide(self):
        tab = self.joined(self.serve("game"), "meadow")
        for width, height in WINDOWS[:2] + WINDOWS[3:]:
            tab.resize(width, height, "light")
            edges = tab.evaluate(
                "['field', 'scores'].map(get).flatMap((e) => [e.getBoundingClientRect().left, e.getBoundingClientRect().right])"
            )
            self.assertEqual(edges[:2], edges[2:], width)

    def test_the_whiteboard_fits_every_window(self):
        server = self.serve("whiteboard", address=f"127.0.0.1:{free_port()}")
        tab = self.joined(server, "board")
        tab.evaluate(
            "sendLine({ colour: '#1a5fb4', width: 6, points: [[100, 100], [300, 500], [600, 200], [900, 450]] })"
        )
        tab.until("strokes === 1")
        self.assert_layout(tab, "whiteboard", "joined")
        server.stop()
        tab.until("document.querySelector('#state').className === 'lost'")
        self.assert_layout(tab, "whiteboard", "lost")
        self.serve("whiteboard", address=server.address)
        tab.until("!document.querySelector('#lost').hidden")
        self.assert_layout(tab, "whiteboard", "forgotten")

    # The connection

    def test_the_pages_repeat_the_connection_and_the_looks_word_for_word(self):
        texts = [(TOP / "examples" / name / "index.html").read_text() for name in EXAMPLES]
        for block in (r"/\* The same lines .*?\n\n", r"// The connection: the same lines .*does not answer.';\n}\n"):
            found = {re.search(block, text, re.DOTALL)[0] for text in texts}
            self.assertEqual(len(found), 1, block)

    def test_a_room_whose_program_ends_at_once_is_tried_less_and_less(self):
        rooms = []
        for name in EXAMPLES:
            # A program that fails would be started less often by the server already.
            server = self.serve(name, program=["true"])
            rooms.append((name, server, [self.tab(server, "?room=broken") for _ in range(3)]))
        for _, _, tabs in rooms:
            for tab in tabs:
                self.enter(tab)
        began = time.monotonic()
        for _, _, tabs in rooms:
            for tab in tabs:
                tab.until(f"{STATE} === 'The program has ended. Trying again…'")
        # How often it is started is a count over a time, so the test has to let that time pass.
        time.sleep(max(0, began + 10 - time.monotonic()))
        for name, server, tabs in rooms:
            for tab in tabs:
                tab.close()
            server.stop()
            server.wait_for("server ended")
            starts = sum("program started" in line for line in server.lines)
            # Waits of 0.5 s, 1 s, 2 s and so on, and of each at least half: six tries of a page in 10 s.
            # All were there a little before the time began, hence one more.
            self.assertLessEqual(starts, 3 * 7, name)
            self.assertGreaterEqual(starts, 3, f"{name} does not try again")

    def test_a_page_says_in_words_why_it_is_not_connected(self):
        for name in EXAMPLES:
            with self.subTest(name):
                server = self.serve(name, "--maxroomclients", "1", address=f"127.0.0.1:{free_port()}")
                tab = self.joined(server, "small")
                late = self.tab(server, "?room=small")
                self.enter(late)
                full = "The server is up but did not let you in: the room may be full. Trying again…"
                late.until(f"{STATE} === {full!r}")
                # Soon followed by the next words, so the page itself has to take them down.
                tab.evaluate(
                    "globalThis.said = []; new MutationObserver(() => said.push(get('state').innerText))"
                    ".observe(get('state'), {childList: true})"
                )
                server.stop()
                tab.until("said[0] === 'The server is shutting down. Trying again…'")
                for page in (tab, late):
                    page.until(f"{STATE} === 'The server does not answer. Trying again…'")
                    self.assertEqual(page.evaluate("document.querySelector('#state').className"), "lost")
                late.close()
                failing = self.tab(self.serve(name, program=["false"]), "?room=broken")
                self.enter(failing)
                failing.until(f"{STATE} === 'The program has failed. Trying again…'")
                self.serve(name, address=server.address)
                tab.until(f"{STATE}.startsWith('In room small')")

    def test_a_page_works_behind_a_prefix(self):
        for name in EXAMPLES:
            with self.subTest(name):
                server = self.serve(name)
                proxy = PrefixProxy(server.address)
                self.addCleanup(proxy.stop)
                tab = self.browser.tab(f"http://{proxy.address}/some/where/?room=kitchen")
                self.addCleanup(tab.close)
                if name == "game":
                    tab.until("document.querySelector('#none').innerText.startsWith('No one')")
                self.enter(tab)
                tab.until(f"{STATE} === 'In room kitchen'")
                server.wait_for(r"\[kitchen 1\] client joined")
                self.assertEqual(tab.evaluate("fetch(new URL('health', location.href)).then(({ok}) => ok)"), True)
                self.assertEqual(proxy.outside, [], "requests beside the prefix")

    def test_a_room_has_an_address_and_a_name_that_no_room_can_have_is_refused(self):
        for name in EXAMPLES:
            with self.subTest(name):
                server = self.serve(name)
                tab = self.tab(server)
                room = tab.evaluate("document.querySelector('#room').value")
                self.enter(tab)
                tab.until(f"{STATE} === 'In room {room}'")
                self.assertEqual(tab.evaluate("location.search"), f"?room={room}")
                valid = "get('room').value = %r, get('room').checkValidity()"
                for bad in ("health", "api", "a b", "..", ""):
                    self.assertFalse(tab.evaluate(valid % bad), bad)
                self.assertTrue(tab.evaluate(valid % "healthy"))
        # The whiteboard connects without a form.
        tab = self.tab(server, "?room=..")
        self.assertEqual(tab.evaluate("[connection, get('state').innerText]"), [None, "No room can have this name."])

    def test_the_console_of_a_page_stays_empty(self):
        for name in EXAMPLES:
            with self.subTest(name):
                server = self.serve(name)
                tab = self.browser.tab("about:blank")
                self.addCleanup(tab.close)
                for domain in ("Log", "Runtime", "Network"):
                    tab.call(f"{domain}.enable")
                tab.call("Page.navigate", url=f"http://{server.address}/?room=kitchen")
                self.browser.wait_for("Page.loadEventFired", tab.session)
                self.enter(tab)
                tab.until(f"{STATE} === 'In room kitchen'")
                kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
                self.assertEqual([event for kind in kinds for event in self.browser.heard(kind, tab.session)], [])
                answers = self.browser.heard("Network.responseReceived", tab.session)
                self.assertIn(200, [answer["params"]["response"]["status"] for answer in answers])
                for answer in answers:
                    self.assertLess(answer["params"]["response"]["status"], 400, answer["params"]["response"]["url"])
