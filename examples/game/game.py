"""A game for any number of players: who steps on a star has one point more. From the top of the source:

    scalesocket --addr localhost:9000 --frame=json --joinmsg '{"_join":#ID}' --leavemsg '{"_leave":#ID}' --api \
        --staticdir examples/game python3 examples/game/game.py

Then open http://localhost:9000/ in two tabs. Each room is a game of its own, and a process of its own.

With `--frame=json` a message is one JSON object on one line. What comes in: `{"_join":1}` and `{"_leave":1}` from
scalesocket, `{"_from":1,"t":"Name","name":"Ann"}` and `{"_from":1,"t":"Step","to":"left"}` from the pages.
scalesocket takes `_join`, `_leave` and `_from` out of what a client sends: no client can join or leave for another.
"""

import json
import random
import sys

WIDTH, HEIGHT, STARS = 24, 14, 3  # the field in squares, and how many of them have a star
LONGEST_NAME = 20
STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}

players = {}  # by the id of the client
stars = []


def say(**message):
    # Without the flush it would wait in a buffer: standard output is no terminal here.
    print(json.dumps(message), flush=True)


def free_square():
    taken = stars + [[player["x"], player["y"]] for player in players.values()]
    squares = [[x, y] for x in range(WIDTH) for y in range(HEIGHT)]
    return random.choice([square for square in squares if square not in taken] or squares)


def show_all():
    say(t="Field", players=list(players.values()), stars=stars)


def show_lobby():
    """What `/api/rooms/` tells of this room; no client gets it."""
    best = max((player["score"] for player in players.values()), default=0)
    say(_meta=True, players=len(players), best=best)


def join(client):
    if client in players:
        return
    x, y = free_square()
    players[client] = {"id": client, "name": "", "x": x, "y": y, "score": 0}
    # For this client only: which of the players it is.
    say(_to=client, t="Welcome", you=client, width=WIDTH, height=HEIGHT)
    show_lobby()
    show_all()


def leave(client):
    if players.pop(client, None):
        show_lobby()
        show_all()


def rename(player, name):
    if isinstance(name, str):
        player["name"] = name[:LONGEST_NAME]
        show_all()


def step(player, to):
    if not isinstance(to, str) or to not in STEPS:
        return
    across, down = STEPS[to]
    player["x"] = min(max(player["x"] + across, 0), WIDTH - 1)
    player["y"] = min(max(player["y"] + down, 0), HEIGHT - 1)
    if (square := [player["x"], player["y"]]) in stars:
        stars[stars.index(square)] = free_square()
        player["score"] += 1
        show_lobby()
    show_all()


def main():
    while len(stars) < STARS:
        stars.append(free_square())
    for line in sys.stdin.buffer:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            continue
        # A client may send any object, but none with `_join` or `_leave`, and `_from` is always true.
        if "_join" in message:
            join(message["_join"])
        elif "_leave" in message:
            leave(message["_leave"])
        elif player := players.get(message.get("_from")):
            if message.get("t") == "Name":
                rename(player, message.get("name"))
            elif message.get("t") == "Step":
                step(player, message.get("to"))


main()
