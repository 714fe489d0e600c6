// A chat whose server is `cat`: what one tab sends, all tabs of the room get back.
'use strict';

const get = (id) => document.getElementById(id);
const LONGEST_WAIT = 15000; // milliseconds between two tries to connect
const MOST_LINES = 500;

let socket = null;
let tries = 0;

const asked = new URLSearchParams(location.search);
get('room').value = asked.get('room') || 'lobby';
get('name').value = asked.get('name') || '';

get('door').addEventListener('submit', (event) => {
  event.preventDefault();
  get('door').hidden = true;
  get('chat').hidden = false;
  document.title = `${get('room').value} - Chat`;
  get('text').focus();
  connect();
});

get('say').addEventListener('submit', (event) => {
  event.preventDefault();
  if (socket === null || socket.readyState !== WebSocket.OPEN) return; // the text stays for later
  socket.send(JSON.stringify({ name: get('name').value, text: get('text').value }));
  get('text').value = '';
});

function connect() {
  const room = encodeURIComponent(get('room').value);
  const name = encodeURIComponent(get('name').value);
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  state('connecting');
  socket = new WebSocket(`${scheme}://${location.host}/${room}?name=${name}`);
  socket.onopen = () => {
    tries = 0;
    state(`in room ${get('room').value}`);
  };
  socket.onmessage = (event) => show(event.data);
  socket.onclose = (event) => {
    const wait = Math.min(LONGEST_WAIT, 250 * 2 ** tries++) * (0.5 + Math.random() / 2);
    state(`disconnected (${event.code} ${event.reason}), trying again`);
    setTimeout(connect, wait);
  };
}

// Anybody in the room may send any text: nothing in it is trusted to be ours.
function show(data) {
  let message;
  try {
    message = JSON.parse(data);
  } catch {
    return note(String(data));
  }
  const { name, text, joined, left } = Object(message);
  if (typeof text === 'string') line(typeof name === 'string' ? name : '?', text);
  else if (typeof joined === 'string') note(`${decoded(joined)} has joined`);
  else if (typeof left === 'string') note(`${decoded(left)} has left`);
  else note(data);
}

// Names come URL-encoded from the server's join and leave messages.
function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

function note(text) {
  const item = document.createElement('li');
  item.className = 'note';
  item.textContent = text;
  add(item);
}

function line(name, text) {
  const item = document.createElement('li');
  const who = document.createElement('b');
  who.textContent = name;
  item.append(who, text); // append() makes a text node of a string
  add(item);
}

function add(item) {
  const list = get('messages');
  list.append(item);
  while (list.childElementCount > MOST_LINES) list.firstElementChild.remove();
  list.scrollTop = list.scrollHeight;
}

function state(text) {
  get('state').textContent = text;
}
