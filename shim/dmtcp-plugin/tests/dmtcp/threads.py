"""Echoes lines; a thread for each connection, blocked in recv."""
import socket, threading

def serve(connection):
    while data := connection.recv(65536):
        connection.sendall(data)

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("0.0.0.0", 7000))
listener.listen(16)
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
