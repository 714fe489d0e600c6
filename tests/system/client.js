// A client that is driven from outside: by Chromium's debugger in a page, by lines on stdin in Node.
// Whatever comes is kept until it is asked for.
'use strict';

globalThis.client = (() => {
  const inNode = typeof process !== 'undefined';
  const Socket = inNode ? require('ws') : WebSocket;
  const conversations = [];

  const toBase64 = (buffer) =>
    inNode ? Buffer.from(buffer).toString('base64') : btoa(String.fromCharCode(...new Uint8Array(buffer)));
  const fromBase64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

  function open(url) {
    const socket = new Socket(url);
    socket.binaryType = 'arraybuffer';
    const conversation = { socket, came: [], wake: () => {} };
    const put = (event) => {
      conversation.came.push(event);
      conversation.wake();
    };
    return new Promise((resolve) => {
      socket.onopen = () => resolve({ id: conversations.push(conversation) - 1 });
      socket.onmessage = ({ data }) =>
        put(typeof data === 'string' ? { text: data } : { binary: toBase64(data) });
      socket.onerror = () => {};
      socket.onclose = ({ code, reason }) => {
        put({ code, reason });
        resolve({ refused: null });
      };
      if (inNode) {
        socket.on('ping', () => put({ control: 'ping' }));
        socket.on('pong', (data) => put({ control: `pong ${data}` }));
        socket.on('unexpected-response', (request, response) => {
          resolve({ refused: response.statusCode });
          request.destroy();
        });
      }
    });
  }

  // Both return at once what the caller waits for in one go: each round trip costs.
  function send(id, messages) {
    for (const { text, binary } of messages) {
      conversations[id].socket.send(binary === undefined ? text : fromBase64(binary));
    }
  }

  async function take(id, count) {
    const conversation = conversations[id];
    while (conversation.came.length < count && conversation.came.at(-1)?.code === undefined) {
      await new Promise((resolve) => { conversation.wake = resolve; });
    }
    return conversation.came.splice(0, count);
  }

  const close = (id, code, reason) => conversations[id].socket.close(code, reason);
  const ping = (id, data) => conversations[id].socket.ping(data);

  return { open, send, take, close, ping };
})();

if (typeof process !== 'undefined') {
  require('node:readline')
    .createInterface({ input: process.stdin })
    .on('line', async (line) => {
      const [number, method, ...values] = JSON.parse(line);
      const result = await globalThis.client[method](...values);
      process.stdout.write(`${JSON.stringify([number, result ?? null])}\n`);
    })
    .on('close', () => process.exit(0));
}
