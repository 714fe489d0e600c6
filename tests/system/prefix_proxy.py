"""A proxy that serves another server under a prefix, as a web server in front of it would."""

import socket
import threading

PREFIX = "/some/where/"


class PrefixProxy:
    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        self.outside = []  # the paths of requests beside the prefix
        self._pairs = []  # the sockets of each connection that is open
        self._is_swallowing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (more := client.recv(65536)):
                    return
                head += more
            method, path, rest = head.decode().split(" ", 2)
            if not path.startswith(PREFIX):
                self.outside.append(path)
                client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            # Only the first request of a connection is rewritten, so there must be no second one.
            rest = rest.replace("Connection: keep-alive", "Connection: close")
            with socket.create_connection(self._server) as server:
                self._pairs.append(pair := (client, server))
                server.sendall(f"{method} /{path.removeprefix(PREFIX)} {rest}".encode())
                thread = threading.Thread(target=self._pass, args=pair, daemon=True)
                thread.start()
                self._pass(server, client)
                thread.join()
                self._pairs.remove(pair)

    def _pass(self, source, target):
        try:
            while data := source.recv(65536):
                if not self._is_swallowing:
                    target.sendall(data)
        except OSError:
            pass
        self._end(source, target)

    @staticmethod
    def _end(*sockets):
        for end in sockets:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def swallow(self):
        """From now on nothing arrives, until the next `cut`."""
        self._is_swallowing = True

    def cut(self):
        """Ends all connections."""
        for pair in list(self._pairs):
            self._end(*pair)
        self._is_swallowing = False

    def stop(self):
        self._listener.close()
