"""The examples, each used by two tabs of Chromium through the server, as their first lines say to start them."""

import json
import os
import urllib.request
from pathlib import Path

from clients import BrowserTestCase, PythonClients
from harness import PATIENCE, Server, TOP, example, free_port, until
from prefix_proxy import PREFIX, PrefixProxy

ARROWS = {"left": "ArrowLeft", "up": "ArrowUp", "right": "ArrowRight", "down": "ArrowDown"}


class Examples(BrowserTestCase):
    def serve(self, name, **options):
        server = Server(*example(name), cwd=TOP, **options)
        self.addCleanup(server.stop)
        return server

    def tab(self, server, query=""):
        tab = self.browser.tab(f"http://{server.address}/{query}")
        self.addCleanup(tab.close)
        return tab

    def keep_screenshot(self, tab, name):
        if directory := os.environ.get("SCREENSHOTS"):
            Path(directory, name).write_bytes(tab.screenshot())

    # The game

    def play(self, server, name, room):
        tab = self.tab(server, f"?room={room}")
        tab.type("#name", name)
        tab.until(f"document.querySelector('#state').innerText === 'In room {room}'")
        self.until_field(tab, f"label.includes({json.dumps(name)} + ' at ')")
        return tab

    def until_field(self, tab, condition):
        """Waits for what the field says of itself, in `label`, to whoever cannot see it."""
        tab.until(
            "(() => { const label = document.querySelector('#field').getAttribute('aria-label') ?? '';"
            f" return {condition}; }})()"
        )

    def places(self, tab):
        """Where everybody is, and the stars, as a tab shows it."""
        label = tab.evaluate("document.querySelector('#field').getAttribute('aria-label')")
        players, _, stars = label.rpartition("; stars at ")
        where = {}
        for player in players.split("; "):
            name, _, place = player.rpartition(" at ")
            where[name] = tuple(int(number) for number in place.split(", "))
        return where, [tuple(int(number) for number in star.split(",")) for star in stars.split(" and ")]

    def step(self, tab, name, to, seen_by):
        """A press of an arrow key, and that all see where it leads."""
        (x, y), _ = self.places(tab)[0][name], tab.press(ARROWS[to])
        across, down = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[to]
        for other in seen_by:
            self.until_field(other, f"label.includes('{name} at {x + across}, {y + down};')")

    def test_two_play_and_see_each_other_move_and_score(self):
        server = self.serve("game")
        ann, bob = self.play(server, "Ann", "meadow"), self.play(server, "Bob", "meadow")
        self.until_field(ann, "label.includes('Bob at ')")
        self.assertEqual(self.places(ann), self.places(bob))
        own = "document.querySelector('#scores .you').firstChild.data"
        self.assertEqual((ann.evaluate(own), bob.evaluate(own)), ("Ann (you)", "Bob (you)"))
        # To the nearest star, one press of a key after the other; others may be on the way.
        for _ in range(100):
            places, stars = self.places(ann)
            x, y = places["Ann"]
            star = min(stars, key=lambda star: abs(star[0] - x) + abs(star[1] - y))
            across, down = star[0] - x, star[1] - y
            to = ("left" if across < 0 else "right") if across else ("up" if down < 0 else "down")
            self.step(ann, "Ann", to, (ann, bob))
            if abs(across) + abs(down) == 1:
                break
        for tab, scores in ((ann, "Ann(you)1Bob0"), (bob, "Ann1Bob(you)0")):
            tab.until(f"document.querySelector('#scores').innerText.replace(/\\s/g, '') === '{scores}'")
        self.assertEqual(self.places(ann), self.places(bob))
        # A click beside oneself is a step too.
        x, y = self.places(bob)[0]["Bob"]
        to = 1 if x == 0 else -1
        left, top, square = bob.evaluate(
            "(({left, top, width}) => [left, top, width / 24])(get('field').getBoundingClientRect())"
        )
        bob.click(left + (x + to + 0.5) * square, top + (y + 0.5) * square)
        self.until_field(ann, f"label.includes('Bob at {x + to}, {y};')")
        self.keep_screenshot(bob, "game.png")

    def test_the_lobby_lists_rooms_with_their_players_and_leads_into_them(self):
        server = self.serve("game")
        lobby = self.tab(server)
        lobby.until("!document.querySelector('#none').hidden && rooms.innerText === ''")
        self.play(server, "Ann", "meadow")
        bob = self.play(server, "<i>Bob", "meadow")
        self.play(server, "Eve", "cliff")
        # A room as no page would call it, of a client that is no page.
        stranger = PythonClients().open(server.url("%3Cimg%20src=x%3E"))
        self.addCleanup(stranger.close)
        rows = "[...document.querySelectorAll('#rooms li')].map((row) => row.innerText.replace(/\\s+/g, ' ').trim())"
        expected = [
            "<img src=x> 1 player, best score 0",
            "cliff 1 player, best score 0",
            "meadow 2 players, best score 0",
        ]
        lobby.until(f"JSON.stringify({rows}) === {json.dumps(json.dumps(expected, separators=(',', ':')))}")
        self.assertEqual(lobby.evaluate("document.querySelectorAll('#rooms img').length"), 0)
        self.keep_screenshot(lobby, "lobby.png")
        self.assertEqual(bob.evaluate("document.querySelectorAll('#scores i').length"), 0)
        # Without a name there is no way in; with one, a click on a room is.
        enter = "[...document.querySelectorAll('#rooms button')].find((b) => b.innerText === 'cliff').click()"
        lobby.evaluate(enter)
        self.assertFalse(lobby.evaluate("document.querySelector('#lobby').hidden"))
        lobby.evaluate("document.querySelector('#name').value = 'Joe'")
        lobby.evaluate(enter)
        self.until_field(lobby, "label.includes('Eve at ') && label.includes('Joe at ')")
        bob.evaluate("document.querySelector('#leave').click()")
        bob.until(f"{rows}.includes('meadow 1 player, best score 0')")
        bob.until(f"{rows}.includes('cliff 2 players, best score 0')")

    def test_the_game_bears_whatever_a_client_may_say(self):
        server = self.serve("game")
        stranger = PythonClients().open(server.url("meadow"))
        self.addCleanup(stranger.close)
        welcome = json.loads(stranger.take()[0])
        self.assertEqual(welcome, {"_to": 1, "t": "Welcome", "you": 1, "width": 24, "height": 14})
        self.assertEqual(len(json.loads(stranger.take()[0])["players"]), 1)
        stranger.send(
            *("{}", '{"t":[]}', '{"t":"Step"}', '{"t":"Step","to":{}}', '{"t":"Step","to":"away"}', "[1]", "x"),
            *('{"t":"Name","name":7}', '{"_join":9}', '{"_leave":1}', '{"_join":[],"\\u005fleave":{}}'),
            *('{"t":"Step","to":"up"}', '{"t":"Name","name":"\\ud800' + "x" * 1000 + '"}'),
        )
        # No player joins or leaves: a player can only step and change its name.
        fields = [json.loads(text) for text in stranger.take(2)]
        self.assertEqual([len(field["players"]) for field in fields], [1, 1])
        self.assertEqual(len(fields[-1]["players"][0]["name"]), 20)

    def test_a_player_is_back_when_the_server_is(self):
        server = Server(*example("game"), cwd=TOP, address=f"127.0.0.1:{free_port()}")
        try:
            ann = self.play(server, "Ann", "meadow")
            self.play(server, "Bob", "meadow")
            self.until_field(ann, "label.includes('Bob at ')")
        finally:
            server.stop()
        ann.until("document.querySelector('#state').className === 'lost'")
        # The others did not leave: the field stays as it was.
        self.assertEqual(set(self.places(ann)[0]), {"Ann", "Bob"})
        self.serve("game", address=server.address)
        ann.until("document.querySelector('#state').innerText === 'In room meadow again, with a new score'")
        self.step_from_edge(ann)

    def step_from_edge(self, tab):
        self.until_field(tab, "label.includes('Ann at ')")
        # A field of a server that was started anew may come between.
        place = until(lambda: self.places(tab)[0].get("Ann"), "Ann's place")
        to = "right" if place[0] == 0 else "left"
        self.step(tab, "Ann", to, (tab,))

    # The whiteboard

    PICTURE = "document.querySelector('#picture').toDataURL()"

    def board(self, server, room="board"):
        tab = self.tab(server, f"?room={room}")
        tab.until(f"document.querySelector('#state').innerText === 'In room {room}'")
        return tab

    def draw(self, tab, *places):
        """A line through places of the picture, by mouse."""
        left, top, scale = tab.evaluate(
            "(({left, top, width}) => [left, top, width / 1000])(picture.getBoundingClientRect())"
        )
        tab.drag([(left + x * scale, top + y * scale) for x, y in places])

    def until_same(self, drawn, *others):
        """Waits until all show as much as the first, which shows all of its own; then pixel by pixel."""
        pieces = drawn.evaluate("kept.size")
        for other in others:
            self.until_pieces(other, pieces)
            self.assertEqual(other.evaluate(self.PICTURE), drawn.evaluate(self.PICTURE))

    def until_pieces(self, tab, count):
        """Waits until a tab shows that many pieces of strokes."""
        tab.evaluate(
            f"new Promise((resolve) => {{ const look = () => kept.size === {count} ? resolve() : setTimeout(look, 20);"
            " look(); })"
        )

    def until_drawn(self, tab, x, y):
        """Waits until there is something at a place."""
        tab.until(f"pen.getImageData({x}, {y}, 1, 1).data[3] > 0")

    def test_what_one_draws_all_see_also_those_who_come_later(self):
        server = self.serve("whiteboard")
        ann, bob, other = self.board(server), self.board(server), self.board(server, "other")
        blank = ann.evaluate(self.PICTURE)
        self.draw(ann, (100, 100), (300, 150), (500, 400))
        for tab in (ann, bob):
            self.until_drawn(tab, 500, 400)
        bob.evaluate("document.querySelector('#colour').value = '#e01b24'")
        self.draw(bob, (800, 100), (200, 500))
        for tab in (ann, bob):
            self.until_drawn(tab, 200, 500)
        self.until_same(ann, bob)
        self.assertNotEqual(ann.evaluate(self.PICTURE), blank)
        late = self.board(server)
        self.until_same(ann, late)
        self.assertEqual(other.evaluate(self.PICTURE), blank, "another room")
        # Where somebody points is seen by the others at once, kept for nobody, and gone with them.
        late.call("Input.dispatchMouseEvent", type="mouseMoved", x=200, y=300)
        pointing = late.evaluate("you")
        for tab in (ann, bob):
            tab.until(f"pointers.get({pointing})?.isConnected")
        self.assertFalse(late.evaluate("pointers.has(you)"))
        self.keep_screenshot(ann, "whiteboard.png")
        late.close()
        ann.until(f"!pointers.has({pointing})")
        bob.evaluate("document.querySelector('#clear').click()")
        ann.until("picture.ariaLabel === 'Whiteboard, strokes: 0'")
        self.assertEqual(ann.evaluate(self.PICTURE), blank)
        self.draw(ann, (50, 50), (60, 60))
        self.until_drawn(ann, 60, 60)
        self.until_same(ann, bob, self.board(server))

    def test_the_picture_is_still_there_when_everybody_was_away(self):
        server = self.serve("whiteboard")
        ann = self.board(server)
        self.draw(ann, (100, 100), (300, 150))
        self.until_drawn(ann, 300, 150)
        drawn = ann.evaluate(self.PICTURE)
        ann.close()
        server.wait_for("client left")
        bob = self.board(server)
        self.until_drawn(bob, 300, 150)
        self.assertEqual(bob.evaluate(self.PICTURE), drawn)

    def test_what_could_not_have_been_drawn_is_not(self):
        server = self.serve("whiteboard")
        ann = self.board(server)
        stranger = PythonClients().open(server.url("board"))
        self.addCleanup(stranger.close)
        good = {"colour": "#00ff00", "width": 4, "points": [[10, 10], [90, 90]]}
        bad = [
            *({"colour": "url(x)"}, {"colour": 7}, {"width": 41}, {"width": 0}, {"width": None}),
            *({"points": []}, {"points": [[1]]}, {"points": [[1, "x"]]}, {"points": [[1, None]]}),
            *({"points": 7}, {"points": [[1, 1]] * 1001}),
        ]
        stranger.send(*(json.dumps({"line": good | change}) for change in bad))
        stranger.send('{"_join":99}', '{"_leave":1}', '{"at":[1]}', '{"line":null}', "no JSON", '{"clear":1}')
        stranger.send(json.dumps({"line": good}))
        # All but what is no JSON object comes back.
        stranger.take(1 + len(bad) + 5 + 1)
        self.until_drawn(ann, 50, 50)
        self.assertEqual(ann.evaluate("[strokes, you]"), [1, 1])

    def test_a_tab_finds_its_board_again_when_the_server_comes_back(self):
        server = Server(*example("whiteboard"), cwd=TOP, address=f"127.0.0.1:{free_port()}")
        try:
            ann, bob = self.board(server), self.board(server)
            self.draw(ann, (100, 100), (300, 150), (600, 100), (700, 500))
            self.draw(ann, (50, 50), (60, 60))
            for tab in (ann, bob):
                tab.until("picture.ariaLabel === 'Whiteboard, strokes: 2'")
            self.until_same(ann, bob)
            drawn = ann.evaluate(self.PICTURE)
        finally:
            server.stop()
        ann.until("document.querySelector('#state').className === 'lost'")
        self.assertEqual(ann.evaluate("getComputedStyle(picture).cursor"), "not-allowed")
        self.assertTrue(ann.evaluate("get('clear').disabled"))
        self.draw(ann, (500, 300), (600, 300))
        self.assertEqual(ann.evaluate(self.PICTURE), drawn)
        self.serve("whiteboard", address=server.address)
        # The server has forgotten the picture. The pages say so, and can put it back.
        for tab in (ann, bob):
            tab.until("!document.querySelector('#lost').hidden")
            self.assertEqual(tab.evaluate("picture.ariaLabel"), "Whiteboard, strokes: 0")
        late = self.board(server)
        self.draw(late, (800, 100), (900, 100))
        self.until_drawn(late, 900, 100)
        self.assertTrue(late.evaluate("document.querySelector('#lost').hidden"))
        ann.evaluate("document.querySelector('#restore').click()")
        for tab in (ann, bob, late):
            tab.until("document.querySelector('#lost').hidden && picture.ariaLabel === 'Whiteboard, strokes: 3'")
            self.until_same(ann, tab)
        self.until_drawn(bob, 700, 500)
        self.assertEqual(ann.evaluate("getComputedStyle(picture).cursor"), "crosshair")

    def test_a_picture_that_was_cleared_meanwhile_is_not_missed(self):
        server = self.serve("whiteboard")
        proxy = PrefixProxy(server.address)
        self.addCleanup(proxy.stop)
        bob = self.board(server)
        ann = self.browser.tab(f"http://{proxy.address}{PREFIX}?room=board")
        self.addCleanup(ann.close)
        ann.until("document.querySelector('#state').innerText === 'In room board'")
        self.draw(bob, (100, 100), (300, 150))
        self.until_drawn(ann, 300, 150)
        proxy.swallow()
        bob.evaluate("document.querySelector('#clear').click()")
        bob.until("picture.ariaLabel === 'Whiteboard, strokes: 0'")
        proxy.cut()
        ann.until("strokes === 0 && document.querySelector('#state').className === 'open'")
        self.assertTrue(ann.evaluate("get('lost').hidden"))
