"""The page of --console in Chromium: its layout, messages, reconnects, keyboard, and hostile addresses."""

import json

import test_pages
from clients import BrowserTestCase, PythonClients
from harness import Server, free_port
from prefix_proxy import PrefixProxy
from test_pages import STATE

LOG = "[...document.querySelectorAll('#log p:not([hidden]) > :last-child')].map((text) => text.textContent)"


class Console(BrowserTestCase):
    assert_layout = test_pages.Pages.assert_layout
    tab = test_pages.Pages.tab

    def serve(self, *arguments, **options):
        server = Server("--console", *arguments, **options)
        self.addCleanup(server.stop)
        return server

    def connected(self, server, path="room"):
        tab = self.tab(server, path)
        tab.call("Page.bringToFront")
        tab.type("#url", "")
        tab.until(f"{STATE} === 'Connected'")
        return tab

    def until_log(self, tab, *lines):
        """Waits for these lines behind that of the connection."""
        expected = json.dumps(json.dumps(lines, separators=(",", ":"), ensure_ascii=False))
        tab.until(f"JSON.stringify({LOG}.slice(1)) === {expected}")

    def press(self, tab, *keys):
        for key in keys:
            tab.press(key, windowsVirtualKeyCode={"ArrowUp": 38, "ArrowDown": 40, "Escape": 27}[key])

    def test_the_console_fits_every_window(self):
        server = self.serve("--api", "--binary", "cat")
        for room in ("room", "x" * 200):
            self.addCleanup(PythonClients().open(server.url(room)).close)
        tab = self.tab(server, "room")
        tab.until("document.querySelector('#rooms').length === 3")
        self.assert_layout(tab, "console", "start")
        tab.type("#url", "")
        tab.until(f"{STATE} === 'Connected'")
        for text in ("hello", "word" * 60, "שלום עולם", "Is anyone there? " * 12):
            tab.type("#text", text)
        tab.until(f"{LOG}.length === 9")
        self.assert_layout(tab, "console", "open")
        tab.evaluate("get('again').checked = true; get('text').value = 'not sent yet\\n' + 'word'.repeat(60)")
        server.stop()
        tab.until("document.querySelector('#state').className === 'bad'")
        self.assert_layout(tab, "console", "lost")

    def test_messages_are_sent_and_shown_as_text(self):
        tab = self.connected(self.serve("--null=both", "cat"))
        hostile = "<img src=x onerror=alert(1)> grüße 🌍"
        tab.type("#text", hostile)
        self.until_log(tab, hostile, hostile)
        tab.evaluate("get('text').value = 'one'")
        tab.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", modifiers=8, windowsVirtualKeyCode=13, text="\r")
        tab.call("Input.dispatchKeyEvent", type="keyUp", key="Enter", modifiers=8, windowsVirtualKeyCode=13)
        tab.type("#text", "two")
        self.until_log(tab, hostile, hostile, "one\ntwo", "one\ntwo")
        figures = f"2 ({len(hostile.encode()) + len('one.two')} B)"
        tab.until(f"get('counts').innerText === 'Received {figures}, sent {figures}'")
        self.assertEqual(tab.evaluate("document.querySelectorAll('#log img').length"), 0)
        self.assertRegex(tab.evaluate("document.querySelector('#log time').innerText"), r"^\d\d:\d\d:\d\d\.\d{3}Z$")

    def test_bytes_are_sent_and_shown_as_hex(self):
        tab = self.connected(self.serve("--binary", "cat"))
        tab.evaluate("get('hex').checked = true")
        for bad in ("6", "6g", "0x68"):
            tab.evaluate("get('text').value = ''")
            tab.type("#text", bad)
            self.assertFalse(tab.evaluate("get('text').validity.valid"), bad)
        tab.evaluate("get('text').value = ''")
        tab.type("#text", "68 69 00FF")
        self.until_log(tab, "68 69 00 ff", "68 69 00 ff")
        sizes = "[...document.querySelectorAll('#log i')].map((size) => size.innerText).join()"
        self.assertEqual(tab.evaluate(sizes), "4 B binary,4 B binary")

    def test_the_keyboard_recalls_what_was_sent_and_escape_goes_to_the_message(self):
        tab = self.connected(self.serve("cat"))
        self.assertEqual(tab.evaluate("document.activeElement.id"), "text")
        for text in ("one", "two"):
            tab.type("#text", text)
        tab.call("Input.insertText", text="draft")
        for keys, value in (
            (["ArrowUp"], "two"), (["ArrowUp"], "one"), (["ArrowUp"], "one"),
            (["ArrowDown"], "two"), (["ArrowDown"], "draft"), (["ArrowDown"], "draft"),
        ):  # fmt: skip
            self.press(tab, *keys)
            self.assertEqual(tab.evaluate("get('text').value"), value)
        tab.evaluate("get('text').value = 'first\\nlast'")
        self.press(tab, "ArrowUp")
        self.assertEqual(tab.evaluate("get('text').value"), "first\nlast", "the cursor moves")
        tab.evaluate("get('filter').focus()")
        self.press(tab, "Escape")
        self.assertEqual(tab.evaluate("document.activeElement.id"), "text")

    def test_lines_are_filtered_cleared_and_bounded(self):
        tab = self.connected(self.serve("--delimiters=,", "--", "sh", "-c", "seq -s , 1 3000; cat"))
        tab.until("get('log').lastChild?.lastChild.textContent === '2999'")
        tab.until("get('counts').innerText.endsWith(', 2000 older lines dropped')")
        self.assertEqual(tab.evaluate("get('log').childElementCount"), 1000)
        end = "get('log').scrollHeight - get('log').scrollTop - get('log').clientHeight"
        self.assertLess(tab.evaluate(end), 2, "the end is in view")
        tab.evaluate("get('filter').focus()")
        tab.call("Input.insertText", text="99")
        shown = [str(n) for n in range(2000, 3000) if "99" in str(n)]
        self.assertEqual(tab.evaluate(LOG), shown)
        tab.evaluate("get('clear').click()")
        tab.until("get('counts').innerText === 'Received 0 (0 B), sent 0 (0 B)'")
        self.assertEqual(tab.evaluate("get('log').childElementCount"), 0)

    def test_who_reads_further_up_stays_there(self):
        server = self.serve("--relay")
        tab = self.connected(server)
        client = PythonClients().open(server.url())
        self.addCleanup(client.close)
        client.send(*(f"line {n}" for n in range(200)))
        tab.until(f"{LOG}.at(-1) === 'line 199'")
        tab.evaluate("new Promise((resolve) => { get('log').onscrollend = resolve; get('log').scrollTop = 100; })")
        client.send("last")
        tab.until(f"{LOG}.at(-1) === 'last'")
        tab.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
        self.assertEqual(tab.evaluate("get('log').scrollTop"), 100)

    def test_an_end_is_shown_in_words_and_the_connection_comes_back_if_wanted(self):
        server = self.serve("cat", address=f"127.0.0.1:{free_port()}")
        tab = self.connected(server)
        server.stop()
        tab.until(f"{STATE} === 'Closed: 1001 going away, \"server is shutting down\"'")
        self.assertTrue(tab.evaluate("get('send').disabled && get('disconnect').disabled"))
        tab.type("#text", "kept")
        self.assertEqual(tab.evaluate("get('text').value"), "kept")
        # Each wait is twice as long as the one before.
        tab.evaluate(
            "globalThis.said = []; new MutationObserver(() => said.push(get('state').innerText))"
            ".observe(get('state'), {childList: true}); get('again').checked = true; get('target').requestSubmit()"
        )
        tab.until("said.at(-1)?.endsWith('. Next try in 2 s')")
        waits = tab.evaluate("said.filter((text) => text.includes('Next'))")
        self.assertEqual(waits, [f"Refused, or no answer. Next try in {wait} s" for wait in ("0.5", "1", "2")])
        server = self.serve("cat", address=server.address)
        tab.until(f"{STATE} === 'Connected'")
        tab.evaluate("get('disconnect').click()")
        tab.until(f"{STATE} === 'Closed: 1000 normal end'")
        self.assertEqual(tab.evaluate("[socket, timer]"), [None, None], "an end that was asked for stays")
        server.stop()
        tab.evaluate("get('target').requestSubmit()")
        tab.until("said.at(-1).includes('Next')")
        tab.evaluate("get('again').click()")
        tab.until(f"{STATE} === 'Not connected'")
        self.assertIsNone(tab.evaluate("timer"))

    def test_the_longest_wait_is_half_a_minute(self):
        tab = self.tab(self.serve("cat"))
        # Chromium itself delays connections after failures.
        waits = tab.evaluate(
            "new Promise((resolve) => { const waits = [];"
            "globalThis.setTimeout = (then, wait) => waits.push(wait) < 9 ? queueMicrotask(then) : resolve(waits);"
            "globalThis.WebSocket ="
            " class { constructor() { queueMicrotask(() => this.onclose({code: 1006})); } close() {} };"
            "get('again').checked = true; get('target').requestSubmit(); })"
        )
        self.assertEqual(waits, [500 * 2**n for n in range(6)] + [30_000] * 3)

    def test_rooms_are_listed_and_chosen(self):
        server = self.serve("--api", "cat")
        for name in ("kitchen", "kitchen", "a'<b>"):
            self.addCleanup(PythonClients().open(server.url(name)).close)
        tab = self.tab(server)
        tab.until("document.querySelector('#rooms').length === 3")
        options = tab.evaluate("[...get('rooms').options].map((option) => option.text)")
        self.assertEqual(options, ["Rooms: 2", "a'<b> (1)", "kitchen (2)"])
        tab.evaluate("get('rooms').value = 'kitchen'; get('rooms').dispatchEvent(new Event('change'))")
        self.assertEqual(tab.evaluate("get('url').value"), server.url("kitchen"))
        tab.type("#url", "")
        tab.until(f"{LOG}[0] === 'Connected to {server.url('kitchen')}'")
        self.assertFalse(self.tab(self.serve("cat")).evaluate("document.querySelector('#rooms') !== null"))

    def test_a_hostile_address_is_only_an_address(self):
        server = self.serve("--defaultroom=r", "cat")
        markup = ("%3Cscript%3Ealert(1)%3C%2Fscript%3E", "%22onload=", "'onload='", '?"><script>')
        for path in (*markup, "x" * 250, "a?b#c"):
            tab = self.browser.tab("about:blank")
            self.addCleanup(tab.close)
            for domain in ("Log", "Runtime"):
                tab.call(f"{domain}.enable")
            tab.call("Page.navigate", url=f"http://{server.address}/{path}")
            self.browser.wait_for("Page.loadEventFired", tab.session)
            address = tab.evaluate("location.href.replace('http', 'ws').replace(/#.*/, '')")
            self.assertEqual(tab.evaluate("get('url').value"), address)
            tab.type("#url", "")
            tab.until(f"{STATE} === 'Connected'")
            self.assertEqual(tab.evaluate("document.querySelectorAll('script').length"), 1)
            kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
            self.assertEqual([event for kind in kinds for event in self.browser.heard(kind, tab.session)], [])
        tab.evaluate("get('url').value = 'ftp://x'; get('target').requestSubmit()")
        self.assertIn("scheme", tab.evaluate(STATE))

    def test_the_policy_keeps_out_what_is_not_of_the_page(self):
        server = self.serve("cat")
        tab = self.tab(server)
        tab.evaluate(
            "for (const text of ['<img src=x onerror=\"ran = 1\">', '<b style=\"color: red\" id=b>b</b>'])"
            " document.body.insertAdjacentHTML('beforeend', text);"
            "const script = document.createElement('script'); script.text = 'ran = 1'; document.body.append(script)"
        )
        self.assertIsNone(tab.evaluate("new Promise((resolve) => setTimeout(() => resolve(window.ran), 100))"))
        self.assertEqual(tab.evaluate("document.querySelector('#b').style.color"), "")
        frame = self.browser.tab(f"http://{server.address}/health")
        self.addCleanup(frame.close)
        inside = (
            "new Promise((resolve) => { const frame = document.createElement('iframe'); frame.src = '/';"
            " frame.onload = () => { try { resolve(frame.contentDocument?.title); } catch { resolve(null); } };"
            " document.body.append(frame); })"
        )
        self.assertIn(frame.evaluate(inside), ("", None), "not in a frame")

    def test_the_console_works_behind_a_prefix(self):
        server = self.serve("--api", "cat")
        proxy = PrefixProxy(server.address)
        self.addCleanup(proxy.stop)
        tab = self.browser.tab(f"http://{proxy.address}/some/where/kitchen")
        self.addCleanup(tab.close)
        tab.type("#url", "")
        tab.until(f"{STATE} === 'Connected'")
        server.wait_for(r"\[kitchen 1\] client joined")
        tab.until("document.querySelector('#rooms').length === 2")
        self.assertEqual(proxy.outside, [], "requests beside the prefix")
