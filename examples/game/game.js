// The page of the game: a lobby that shows what /api/rooms/ tells, and the field that game.py keeps.
'use strict';

const get = (id) => document.getElementById(id);
const LONGEST_WAIT = 15000; // milliseconds between two tries to connect
const LOOK_AGAIN = 2000; // milliseconds between two looks at the rooms
const KEYS = { ArrowLeft: 'left', ArrowRight: 'right', ArrowUp: 'up', ArrowDown: 'down' };
const SQUARE = 40; // pixels of the canvas

let socket = null;
let retry = null;
let tries = 0;
let you = null; // our id, as the program's private welcome told us
let field = { players: [], stars: [] };

const asked = new URLSearchParams(location.search);
get('room').value = asked.get('room') || 'meadow';
get('name').value = asked.get('name') || '';

// The lobby

get('door').addEventListener('submit', (event) => {
  event.preventDefault();
  enter(get('room').value);
});

get('leave').addEventListener('click', () => {
  clearTimeout(retry);
  socket.onclose = null;
  socket.close();
  get('game').hidden = true;
  get('lobby').hidden = false;
  document.title = 'Stars';
  showRooms();
});

async function showRooms() {
  let rooms = null;
  try {
    rooms = await (await fetch('/api/rooms/')).json();
  } catch {
    // The server is away; the next look may find it.
  }
  get('rooms').replaceChildren(...(rooms ?? []).map(entry));
  get('none').hidden = rooms !== null && rooms.length > 0;
  get('none').textContent = rooms === null ? 'The server does not answer.' : 'Nobody plays. Be the first.';
}

setInterval(() => get('lobby').hidden || showRooms(), LOOK_AGAIN);
showRooms();

function entry({ name, connections, metadata }) {
  const item = document.createElement('li');
  const button = document.createElement('button');
  const { players, best } = Object(metadata);
  button.textContent = decoded(name);
  // Other clients may be in rooms whose name a browser would not send as it is.
  button.disabled = new URL(`/${name}`, location).pathname !== `/${name}`;
  button.addEventListener('click', () => get('name').reportValidity() && enter(name));
  const told = [`${connections} here`];
  if (Number.isInteger(players)) told.push(`${players} playing`);
  if (Number.isInteger(best)) told.push(`best score ${best}`);
  item.append(button, told.join(', ')); // append() makes a text node of a string
  return item;
}

// The name of a room is its path as it was sent: encoded.
function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

// The game

function enter(room) {
  get('lobby').hidden = true;
  get('game').hidden = false;
  document.title = `${decoded(room)} - Stars`;
  document.activeElement.blur();
  tries = 0;
  connect(room);
}

function connect(room) {
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  state('connecting');
  socket = new WebSocket(`${scheme}://${location.host}/${room}`);
  socket.onopen = () => {
    tries = 0;
    // It may be another program than before: what it does not show is not there.
    field = { players: [], stars: [] };
    draw();
    state(`in room ${decoded(room)}`);
    send({ t: 'Name', name: get('name').value });
  };
  socket.onmessage = (event) => understand(JSON.parse(event.data));
  socket.onclose = (event) => {
    const wait = Math.min(LONGEST_WAIT, 250 * 2 ** tries++) * (0.5 + Math.random() / 2);
    state(`disconnected (${event.code} ${event.reason}), trying again`);
    retry = setTimeout(connect, wait, room);
  };
}

function send(message) {
  if (socket !== null && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

// Only the program speaks here, and it never passes on what players say but for their names.
function understand(message) {
  if (message.t === 'Welcome') {
    you = message.you;
    get('field').width = message.width * SQUARE;
    get('field').height = message.height * SQUARE;
  } else if (message.t === 'Field') {
    field = message;
    draw();
    showScores();
  }
}

document.addEventListener('keydown', (event) => {
  if (get('game').hidden || !(event.key in KEYS) || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault(); // the page would scroll
  send({ t: 'Step', to: KEYS[event.key] });
});

get('field').addEventListener('pointerdown', (event) => {
  const player = field.players.find(({ id }) => id === you);
  if (!player) return;
  const box = get('field').getBoundingClientRect();
  const square = box.width / (get('field').width / SQUARE);
  const across = (event.clientX - box.left) / square - (player.x + 0.5);
  const down = (event.clientY - box.top) / square - (player.y + 0.5);
  if (Math.abs(across) > Math.abs(down)) send({ t: 'Step', to: across < 0 ? 'left' : 'right' });
  else send({ t: 'Step', to: down < 0 ? 'up' : 'down' });
});

function colour(id) {
  return `hsl(${(id * 137) % 360} 80% 65%)`; // neighbours on the wheel are far apart in number
}

function called({ id, name }) {
  return name || `player ${id}`;
}

function draw() {
  const pen = get('field').getContext('2d');
  pen.clearRect(0, 0, get('field').width, get('field').height);
  pen.textAlign = 'center';
  pen.font = `${SQUARE}px system-ui, sans-serif`;
  pen.textBaseline = 'middle';
  pen.fillStyle = 'gold';
  for (const [x, y] of field.stars) pen.fillText('★', (x + 0.5) * SQUARE, (y + 0.55) * SQUARE);
  pen.font = `${SQUARE * 0.4}px system-ui, sans-serif`;
  for (const player of field.players) {
    const [x, y] = [(player.x + 0.5) * SQUARE, (player.y + 0.5) * SQUARE];
    pen.fillStyle = colour(player.id);
    pen.beginPath();
    pen.arc(x, y, SQUARE * 0.4, 0, 2 * Math.PI);
    pen.fill();
    if (player.id === you) {
      pen.strokeStyle = 'white';
      pen.lineWidth = 3;
      pen.stroke();
    }
    pen.fillText(called(player), x, player.y > 0 ? y - SQUARE * 0.65 : y + SQUARE * 0.65);
  }
  // For those who cannot see it.
  const places = field.players.map((player) => `${called(player)} at ${player.x}, ${player.y}`);
  get('field').setAttribute('aria-label', [...places, `stars at ${field.stars.join(' and ')}`].join('; '));
}

function showScores() {
  const items = field.players.toSorted((a, b) => b.score - a.score).map((player) => {
    const item = document.createElement('li');
    const score = document.createElement('b');
    item.className = player.id === you ? 'you' : '';
    item.style.color = colour(player.id);
    score.textContent = player.score;
    item.append(called(player), score);
    return item;
  });
  get('scores').replaceChildren(...items);
}

function state(text) {
  get('state').textContent = text;
}
