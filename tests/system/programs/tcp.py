"""Listens on its port, a while after it was started, and echoes lines."""

import os
import socket
import time

time.sleep(0.3)
with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))) as listener:
    connection, _ = listener.accept()
    for line in connection.makefile("rb"):
        connection.sendall(line)
