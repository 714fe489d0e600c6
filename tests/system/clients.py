"""Websocket clients written by others, behind one interface: Python's websockets, Node's ws, Chromium."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import unittest
from dataclasses import dataclass

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from harness import HERE, PATIENCE, TOP, Process, tool


class Refused(Exception):
    """The handshake failed, with this HTTP status if the client tells."""

    def __init__(self, status):
        super().__init__(status)
        self.status = status


@dataclass(frozen=True)
class Closed:
    """The end of a conversation, as the client saw it."""

    code: int
    reason: str


class PythonClients:
    """Package `websockets`, the synchronous client, from this process."""

    name = "python"
    tells_status = True

    def open(self, url, **options):
        try:
            options = {"max_size": None, "compression": None, "proxy": None} | options
            # Older versions connect when called, newer ones when entered.
            return PythonConversation(connect(url, **options).__enter__())
        except InvalidStatus as refusal:
            raise Refused(refusal.response.status_code) from refusal

    def stop(self):
        pass


class PythonConversation:
    def __init__(self, socket):
        self.socket = socket

    def send(self, *messages):
        for message in messages:
            self.socket.send(message)

    def take(self, count=1):
        came = []
        while len(came) < count:
            try:
                came.append(self.socket.recv(timeout=PATIENCE))
            except ConnectionClosed as closed:
                frame = closed.rcvd
                came.append(Closed(frame.code, frame.reason) if frame else Closed(1006, ""))
                break
        return came

    def close(self, code=1000, reason=""):
        self.socket.close(code, reason)


class ScriptedClients:
    """client.js, wherever it runs; `call` carries a call there."""

    def open(self, url):
        answer = self.call("open", url)
        if "id" not in answer:
            raise Refused(answer["refused"])
        return ScriptedConversation(self, answer["id"])


class ScriptedConversation:
    def __init__(self, clients, number):
        self._call = lambda method, *values: clients.call(method, number, *values)

    def send(self, *messages):
        self._call(
            "send",
            [
                {"text": message}
                if isinstance(message, str)
                else {"binary": base64.b64encode(message).decode()}
                for message in messages
            ],
        )

    def take(self, count=1):
        def understood(event):
            if "code" in event:
                return Closed(event["code"], event["reason"])
            if "binary" in event:
                return base64.b64decode(event["binary"])
            return event.get("text", event.get("control"))

        return [understood(event) for event in self._call("take", count)]

    def close(self, code=1000, reason=""):
        self._call("close", code, reason)

    def ping(self, data):
        self._call("ping", data)


class NodeClients(ScriptedClients):
    """Package `ws`, in one process of Node."""

    name = "node"
    tells_status = True

    def __init__(self):
        self._last = 0
        self._node = subprocess.Popen(
            [tool("node"), HERE / "client.js"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=os.environ | {"NODE_PATH": str(TOP / ".system" / "node_modules")},
        )
        self._answers = b""

    def call(self, method, *values):
        self._last += 1
        request = memoryview(json.dumps([self._last, method, *values]).encode() + b"\n")
        while request:
            request = request[self._node.stdin.write(request) :]
        while True:
            number, result = json.loads(self._line(method))
            # An answer that comes too late must not be taken for another one.
            if number == self._last:
                return result

    def _line(self, method):
        while b"\n" not in self._answers:
            assert select.select([self._node.stdout], [], [], PATIENCE)[0], f"no answer from Node to {method}"
            more = self._node.stdout.read(1 << 20)
            assert more, f"Node is gone, in {method}"
            self._answers += more
        line, _, self._answers = self._answers.partition(b"\n")
        return line

    def stop(self):
        # It ends by itself with its input.
        self._node.communicate(timeout=PATIENCE)


class Browser:
    """Headless Chromium, driven over its debugging protocol."""

    def __init__(self, *flags):
        self._directory = tempfile.mkdtemp(prefix="scalesocket-chromium-")
        self._last = 0
        self._events = []
        self._process = Process(
            tool("chromium"),
            *"--headless --no-sandbox --disable-gpu --disable-quic --no-first-run".split(),
            *"--disable-background-networking --disable-component-update --disable-sync".split(),
            *"--disable-dev-shm-usage --no-proxy-server --remote-debugging-port=0".split(),
            f"--user-data-dir={self._directory}",
            *flags,
            "about:blank",
        )
        try:
            url = self._process.wait_for(r"DevTools listening on (ws://\S+)")[1]
            self._socket = connect(url, max_size=None, compression=None, proxy=None).__enter__()
        except BaseException:
            self._process.stop()
            raise

    def call(self, method, session=None, **parameters):
        self._last += 1
        request = {"id": self._last, "method": method, "params": parameters}
        self._socket.send(json.dumps(request | ({"sessionId": session} if session else {})))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE))
            if message.get("id") == self._last:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._events.append(message)

    def wait_for(self, method, session):
        for at, event in enumerate(self._events):
            if event.get("method") == method and event.get("sessionId") == session:
                return self._events.pop(at)
        while True:
            event = json.loads(self._socket.recv(timeout=PATIENCE))
            if event.get("method") == method and event.get("sessionId") == session:
                return event
            self._events.append(event)

    def heard(self, method, session):
        """The events of a kind that have come so far."""
        return [event for event in self._events if (event["method"], event.get("sessionId")) == (method, session)]

    def tab(self, url):
        return Tab(self, url)

    def stop(self):
        self._socket.close()
        try:
            self._process.stop()
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)


class Tab:
    def __init__(self, browser, url):
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._browser, self._target, self.session = browser, target, attached["sessionId"]
        self._is_open = True
        self.call("Page.enable")
        self.call("Page.navigate", url=url)
        browser.wait_for("Page.loadEventFired", self.session)

    def call(self, method, **parameters):
        return self._browser.call(method, session=self.session, **parameters)

    def evaluate(self, expression):
        """The value of an expression in the page, once its promise has kept."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, f"{expression[:200]}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def until(self, condition):
        """Waits until a condition holds in the page, which is looked at whenever the page changes."""
        return self.evaluate(
            """new Promise((resolve, reject) => {
                const look = () => { const found = %s; if (found) { watch.disconnect(); resolve(found); } };
                const watch = new MutationObserver(look);
                watch.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
                setTimeout(() => reject(document.body.innerText), %d);
                look();
            })"""
            % (condition, PATIENCE * 900)
        )

    def type(self, selector, text):
        """Types into a field and presses Enter, as a person would."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)
        self.press_enter()

    def press_enter(self):
        self.press("Enter", windowsVirtualKeyCode=13, text="\r")

    def press(self, key, **more):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **more)

    def drag(self, places):
        """Moves the mouse through places of the window with its button held."""
        # A tab in the background shows no frames, and a move waits for the next one.
        self.call("Page.bringToFront")
        moves = [("mousePressed", places[0]), *(("mouseMoved", place) for place in places[1:])]
        for kind, (x, y) in [*moves, ("mouseReleased", places[-1])]:
            count = {} if kind == "mouseMoved" else {"clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, **count)

    def click(self, x, y):
        self.drag([(x, y)])

    def resize(self, width, height, scheme):
        """Shows the page in a window of another size, in a light or a dark scheme."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        is_phone = width < 1000
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if is_phone else 1, mobile=is_phone,
        )
        self.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")

    def close(self):
        if self._is_open:
            self._is_open = False
            self._browser.call("Target.closeTarget", targetId=self._target)

    def screenshot(self):
        self.call("Page.bringToFront")
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])


class BrowserClients(ScriptedClients):
    """A page of the server's own origin in Chromium."""

    name = "chromium"
    # What a page learns of a refused handshake is nothing.
    tells_status = False

    def __init__(self):
        self._browser = Browser()
        self._tabs = {}

    def call(self, method, *values):
        if method == "open":
            host = values[0].removeprefix("ws://").partition("/")[0]
            if host not in self._tabs:
                self._tabs[host] = self._browser.tab(f"http://{host}/health")
                self._tabs[host].evaluate((HERE / "client.js").read_text() + "; undefined")
            self._tab = self._tabs[host]
        words = ", ".join(json.dumps(value) for value in values)
        return self._tab.evaluate(f"Promise.resolve(client.{method}({words}))")

    def stop(self):
        self._browser.stop()


class BrowserTestCase(unittest.TestCase):
    """Tests that share one browser."""

    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.stop()
