// A whiteboard for everybody in a room, whose program is `cat`. From the top of the source:
//
//     scalesocket --addr localhost:9000 --frame=json --cache tagged:65536 --cachepersist \
//         --joinmsg '{"_to":#ID,"_join":#ID}' --leavemsg '{"_leave":#ID}' --staticdir examples/whiteboard cat
//
// Then open http://localhost:9000/ in two tabs. Lines are sent with `"_cache":true`: scalesocket keeps them and
// replays them to those who come later, also after the last one has left (--cachepersist). Where somebody points
// is nothing to keep, and so comes without. As `cat` says the join message too, each page is told its own id.
// scalesocket takes `_join` and `_leave` out of what clients send, so that nobody can forge these messages.
'use strict';

const get = (id) => document.getElementById(id);
const LONGEST_WAIT = 15000; // milliseconds between two tries to connect
const BETWEEN = 40; // milliseconds between two messages while the pen moves
const MOST_POINTS = 1000; // of a message of others

const picture = get('picture');
const pen = picture.getContext('2d');
const pointers = new Map(); // elements by the id of the client, which the server writes into each message
const room = new URLSearchParams(location.search).get('room') || 'board';
let socket = null;
let you = null; // our id
let tries = 0;
let lines = 0;
let points = []; // of the line that is being drawn: what was not sent yet, behind the last one that was
let drawing = false;
let begun = false; // whether some of that line was sent
let timer = null;
let pointed = 0;

get('room').value = room;
document.title = `${room} - Whiteboard`;
connect();

function connect() {
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  get('state').textContent = 'connecting';
  socket = new WebSocket(`${scheme}://${location.host}/${encodeURIComponent(room)}`);
  socket.onopen = () => {
    tries = 0;
    wipe(); // all of it comes again
    for (const id of pointers.keys()) forget(id);
    get('state').textContent = `in room ${room}`;
  };
  socket.onmessage = (event) => understand(event.data);
  socket.onclose = (event) => {
    const wait = Math.min(LONGEST_WAIT, 250 * 2 ** tries++) * (0.5 + Math.random() / 2);
    get('state').textContent = `disconnected (${event.code} ${event.reason}), trying again`;
    drawing = false;
    setTimeout(connect, wait);
  };
}

function send(message) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

// What comes from the server

// Anybody in the room may send any object: what is no line that we could have drawn is left out.
function understand(data) {
  const { line, clear, at, _join, _leave, _from } = JSON.parse(data);
  if (_join !== undefined) you = _join;
  else if (_leave !== undefined) forget(_leave);
  else if (isLine(line)) drawLine(line);
  else if (clear === true) wipe();
  else if (isPoint(at)) show(_from, at);
}

function isPoint(point) {
  return Array.isArray(point) && point.length === 2 && point.every(Number.isFinite);
}

function isLine(line) {
  const { colour, width, points } = Object(line);
  return /^#[0-9a-f]{6}$/i.test(colour) && width >= 1 && width <= 40
    && Array.isArray(points) && points.length > 0 && points.length <= MOST_POINTS && points.every(isPoint);
}

// Own lines too are drawn only when they come back: so all pages draw the same in the same order.
function drawLine({ colour, width, points: [first, ...others] }) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.lineCap = pen.lineJoin = 'round';
  pen.beginPath();
  pen.moveTo(...first);
  // A line to where it is makes a dot.
  for (const point of others.length > 0 ? others : [first]) pen.lineTo(...point);
  pen.stroke();
  count(lines + 1);
}

function wipe() {
  pen.clearRect(0, 0, picture.width, picture.height);
  count(0);
}

function count(now) {
  lines = now;
  picture.setAttribute('aria-label', `Whiteboard, strokes: ${lines}`);
}

function show(id, [x, y]) {
  let pointer = pointers.get(id);
  if (!pointer) {
    pointer = document.createElement('div');
    pointer.className = 'pointer';
    pointer.style.background = `hsl(${(id * 137) % 360} 80% 50%)`;
    pointers.set(id, pointer);
    get('board').append(pointer);
  }
  pointer.style.left = `${(x / picture.width) * 100}%`;
  pointer.style.top = `${(y / picture.height) * 100}%`;
}

function forget(id) {
  pointers.get(id)?.remove();
  pointers.delete(id);
}

// What the hand does

function place(event) {
  const box = picture.getBoundingClientRect();
  const scale = picture.width / box.width;
  return [Math.round((event.clientX - box.left) * scale), Math.round((event.clientY - box.top) * scale)];
}

picture.addEventListener('pointerdown', (event) => {
  if (event.button !== 0 || socket.readyState !== WebSocket.OPEN) return;
  picture.setPointerCapture(event.pointerId);
  drawing = true;
  begun = false;
  points = [place(event)];
  timer ??= setTimeout(flush, BETWEEN);
});

picture.addEventListener('pointermove', (event) => {
  if (drawing) {
    points.push(place(event));
    timer ??= setTimeout(flush, BETWEEN);
    if (points.length === MOST_POINTS) flush();
  } else if (event.timeStamp - pointed > BETWEEN) {
    pointed = event.timeStamp;
    send({ at: place(event), _except: you }); // we know
  }
});

for (const end of ['pointerup', 'pointercancel']) {
  picture.addEventListener(end, () => {
    if (!drawing) return;
    flush();
    drawing = false;
  });
}

function flush() {
  clearTimeout(timer);
  timer = null;
  if (!drawing || (begun && points.length < 2)) return;
  begun = true;
  send({ line: { colour: get('colour').value, width: Number(get('width').value), points }, _cache: true });
  points = points.slice(-1); // where the next piece begins
}

get('clear').addEventListener('click', () => send({ clear: true, _cache: true }));
get('tools').addEventListener('submit', (event) => event.preventDefault());
