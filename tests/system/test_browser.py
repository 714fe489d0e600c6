"""Pages in Chromium: the chat of the examples between two tabs, and which pages may connect."""

import json
import os
import shlex
import unittest
from pathlib import Path

from clients import Browser, PythonClients
from harness import TOP, Server, example, free_port
from prefix_proxy import PREFIX, PrefixProxy

LINES = "[...document.querySelectorAll('#messages p')].map((line) => line.innerText.trim())"
PEOPLE = "[...document.querySelectorAll('#people li')].map((item) => item.innerText.trim())"


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

    def chat(self, **options):
        return self.serve(*example("chat"), cwd=TOP, **options)

    def join(self, server, room, name):
        tab = self.browser.tab(f"http://{server.address}/?room={room}")
        self.addCleanup(tab.close)
        tab.type("#name", name)
        self.until_joined(tab, room, name)
        return tab

    def until_joined(self, tab, room, name):
        tab.until(f"document.querySelector('#state').innerText === 'In room {room}'")
        tab.until(f"{PEOPLE}.includes({json.dumps(name + ' (you)')})")

    def assert_lines(self, tab, *expected):
        tab.until(f"document.querySelectorAll('#messages p').length >= {len(expected)}")
        self.assertEqual(tab.evaluate(LINES), list(expected))

    def test_the_demo_serves_the_chat_as_its_page_says(self):
        recipe = (TOP / "Makefile").read_text().partition("\ndemo:")[2].partition("\n\n")[0]
        command = recipe.partition("--addr $(ADDR) ")[2].replace("\\\n", "")
        self.assertEqual(shlex.split(command), example("chat"))

    def test_two_tabs_talk_in_their_room_and_nothing_they_say_is_markup(self):
        server = self.chat()
        ann, bob = self.join(server, "kitchen", "Ann"), self.join(server, "kitchen", "Böb & <i>")
        other = self.join(server, "cellar", "Eve")
        ann.type("#text", "hello <img src=x onerror=alert(1)>")
        hello = "Annhello <img src=x onerror=alert(1)>"
        self.assert_lines(bob, hello)
        bob.type("#text", "grüße 🌍")
        self.assert_lines(ann, "Böb & <i> has joined", hello, "Böb & <i>grüße 🌍")
        # What anyone may send, past the page.
        stranger = PythonClients().open(server.url("kitchen"))
        stranger.send(
            *("no JSON", "[]", '{"text":1}', '{"here":{}}', '{"_join":1}', '{"_leave":1}', '{"_from":1,"text":"<u>"}'),
            *('{"name":{},"text":"<b>","key":{}}', json.dumps({"here": "<s>" + "x" * 100}), '{"text":"last"}'),
        )
        bob.until(f"{LINES}.at(-1) === '?last'")
        self.assertEqual(bob.evaluate(LINES)[2:], ["?<u>", "?<b>", "<s>" + "x" * 37 + " has joined", "?last"])
        self.assertEqual(bob.evaluate("document.querySelectorAll('main :is(i, img, s, u, b b)').length"), 0)
        self.assertEqual(bob.evaluate(PEOPLE), ["Ann", "Böb & <i> (you)", "<s>" + "x" * 37])
        stranger.close()
        bob.until(f"{LINES}.at(-1).endsWith('xxx has left')")
        self.assertEqual(other.evaluate(LINES), [])
        if directory := os.environ.get("SCREENSHOTS"):
            Path(directory, "chat.png").write_bytes(bob.screenshot())

    def test_a_newcomer_sees_who_is_there_and_what_was_said(self):
        server = self.chat()
        ann, bob = self.join(server, "kitchen", "Ann"), self.join(server, "kitchen", "Bob")
        ann.type("#text", "one")
        bob.until(f"{LINES}.at(-1) === 'Annone'")
        bob.type("#text", "two")
        ann.until(f"{LINES}.at(-1) === 'Bobtwo'")
        eve = self.join(server, "kitchen", "Eve")
        self.assert_lines(eve, "Annone", "Bobtwo")
        for tab, you in ((ann, "Ann"), (bob, "Bob"), (eve, "Eve")):
            names = sorted(f"{name} (you)" if name == you else name for name in ("Ann", "Bob", "Eve"))
            tab.until(f"JSON.stringify({PEOPLE}.sort()) === '{json.dumps(names, separators=(',', ':'))}'")
        bob.close()
        ann.until(f"{LINES}.at(-1) === 'Bob has left'")
        ann.until(f"{PEOPLE}.sort().join() === 'Ann (you),Eve'")

    def test_one_leaves_a_room_for_another_and_takes_nothing_along(self):
        server = self.chat()
        ann, bob = self.join(server, "kitchen", "Ann"), self.join(server, "kitchen", "Bob")
        ann.type("#text", "hello")
        bob.until(f"{LINES}.at(-1) === 'Annhello'")
        ann.evaluate("document.querySelector('#leave').click()")
        bob.until(f"{LINES}.at(-1) === 'Ann has left'")
        self.assertEqual(ann.evaluate("[document.activeElement.id, get('chat').hidden]"), ["room", True])
        ann.evaluate("document.querySelector('#room').value = ''")
        ann.type("#room", "cellar")
        self.until_joined(ann, "cellar", "Ann")
        self.assertEqual(ann.evaluate(f"[{LINES}, {PEOPLE}, location.search]"), [[], ["Ann (you)"], "?room=cellar"])

    def test_who_reads_further_up_stays_there(self):
        server = self.chat()
        ann, bob = self.join(server, "kitchen", "Ann"), self.join(server, "kitchen", "Bob")
        ann.evaluate("for (let n = 0; n < 100; n++) line('Ann', `old ${n}`)")
        place = "document.querySelector('#messages').scrollTop"
        bottom = "(({scrollHeight, clientHeight}) => scrollHeight - clientHeight)(document.querySelector('#messages'))"
        self.assertLess(abs(ann.evaluate(f"{place} - {bottom}")), 2)
        ann.call("Page.bringToFront")  # in the background nothing scrolls
        ann.evaluate("document.querySelector('#messages').scrollTop = 100")
        ann.evaluate(
            "new Promise((resolve) => { const look = () => following ? requestAnimationFrame(look) : resolve(); look(); })"
        )
        bob.type("#text", "new")
        ann.until(f"{LINES}.at(-1) === 'Bobnew'")
        self.assertEqual(ann.evaluate(place), 100)
        self.assertFalse(ann.evaluate("document.querySelector('#newer').hidden"))
        ann.evaluate("document.querySelector('#newer').click()")
        self.assertLess(abs(ann.evaluate(f"{place} - {bottom}")), 2)
        self.assertTrue(ann.evaluate("document.querySelector('#newer').hidden"))
        bob.type("#text", "newer")
        ann.until(f"{LINES}.at(-1) === 'Bobnewer'")
        self.assertLess(abs(ann.evaluate(f"{place} - {bottom}")), 2)

    def test_a_tab_finds_its_room_again_when_the_server_comes_back(self):
        server = self.chat(address=f"127.0.0.1:{free_port()}")
        tab = self.join(server, "kitchen", "Ann")
        tab.type("#text", "before")
        tab.until(f"{LINES}.at(-1) === 'Annbefore'")
        server.stop()
        tab.until("document.querySelector('#state').className === 'lost'")
        # Nothing can be sent, what is written stays, and no one has left.
        tab.type("#text", "while away")
        self.assertEqual(tab.evaluate("[get('send').disabled, get('text').value]"), [True, "while away"])
        self.assertEqual(tab.evaluate(LINES), ["Annbefore"])
        self.chat(address=server.address)
        self.until_joined(tab, "kitchen", "Ann")
        self.assertFalse(tab.evaluate("get('send').disabled"))
        tab.type("#text", ", again")
        self.assert_lines(tab, "Annbefore", "Annwhile away, again")

    def test_after_a_cut_each_message_is_there_once(self):
        server = self.chat()
        proxy = PrefixProxy(server.address)
        self.addCleanup(proxy.stop)
        bob = self.join(server, "kitchen", "Bob")
        ann = self.browser.tab(f"http://{proxy.address}{PREFIX}?room=kitchen")
        self.addCleanup(ann.close)
        ann.type("#name", "Ann")
        self.until_joined(ann, "kitchen", "Ann")
        ann.type("#text", "one")
        ann.until(f"{LINES}.at(-1) === 'Annone'")
        # What Ann sends now is lost on its way.
        proxy.swallow()
        ann.type("#text", "two")
        bob.type("#text", "three")
        bob.until(f"{LINES}.at(-1) === 'Bobthree'")
        proxy.cut()
        ann.until(f"{LINES}.at(-1) === 'Anntwo'")
        said = f"{LINES}.filter((line) => !/ has (joined|left)$/.test(line))"
        self.assertEqual(ann.evaluate(said), ["Annone", "Bobthree", "Anntwo"])
        bob.until(f"{LINES}.at(-1) === 'Anntwo'")
        self.assertEqual(bob.evaluate(said), ["Annone", "Bobthree", "Anntwo"])

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
        refused = server.wait_for(r"refused.*(--origin) ([^\s\"]+) lets it in")
        self.assertEqual(refused[2], f"http://foreign.test:{port}")
        for option in ("*", "foreign.test", refused[2]):
            opened = self.serve("--origin", option, "cat")
            self.assertTrue(self.connects(foreign, opened.url()), option)
        self.assertFalse(self.connects(foreign, self.serve("--origin", "https://foreign.test", "cat").url()))
        nowhere = self.browser.tab("about:blank")
        self.assertFalse(self.connects(nowhere, server.url()), "no origin of its own")
