"""Two processes with many kinds of sockets. Whatever is asked is echoed, line by line."""
import array, ctypes, os, select, socket, struct, threading, time

def listen(port, family=socket.AF_INET):
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
    listener.listen(16)
    return listener

def start(function, *arguments):
    threading.Thread(target=function, args=arguments, daemon=True).start()

def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)

def accept(listener, serve):
    while True:
        connection, _ = listener.accept()
        start(serve, connection)

def duplicated(connection):
    twin = connection.dup()
    while data := connection.recv(65536):
        twin.sendall(data)

def with_timeout(connection):
    # Not Python's own recv, which repeats an interrupted call by itself.
    libc = ctypes.CDLL(None, use_errno=True)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 600, 0))
    buffer = ctypes.create_string_buffer(65536)
    while (got := libc.recv(connection.fileno(), buffer, 65536, 0)) != 0:
        if got < 0:
            connection.sendall(b"errno %d\n" % ctypes.get_errno())
        else:
            connection.sendall(buffer.raw[:got])

def polling(connection):
    connection.setblocking(False)
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    while True:
        poll.poll()
        select.select([connection], [], [])
        if not (data := connection.recv(65536)):
            return
        connection.sendall(data)

def epolling(listener):
    listener.setblocking(False)
    epoll, connections = select.epoll(), {}
    epoll.register(listener, select.EPOLLIN)
    # A number that the kernel forgets without being told.
    gone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    epoll.register(gone, select.EPOLLIN)
    gone.close()
    once = select.EPOLLIN | select.EPOLLONESHOT
    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                connection, _ = listener.accept()
                connection.setblocking(False)
                connections[connection.fileno()] = connection
                epoll.register(connection, once)
                continue
            if data := connections[fd].recv(65536):
                connections[fd].sendall(data)
                epoll.modify(fd, once)
            else:
                epoll.unregister(fd)
                connections.pop(fd).close()

def datagrams(receiver):
    while True:
        data, sender = receiver.recvfrom(65536)
        receiver.sendto(data, sender)

def outbound(port):
    while True:
        try:
            connection = socket.create_connection(("10.9.0.2", port))
            break
        except OSError:
            time.sleep(0.1)
    echo(connection)

inside = [0]

def inner():
    connection = socket.create_connection(("127.0.0.1", 7000))
    number = 0
    while True:
        number += 1
        connection.sendall(b"%d\n" % number)
        if connection.recv(100) != b"%d\n" % number:
            inside[0] = -1
            return
        inside[0] = number
        time.sleep(0.002)

def told_of_inner(connection):
    seen = 0
    while data := connection.recv(65536):
        while inside[0] == seen:
            time.sleep(0.001)
        seen = inside[0]
        connection.sendall(data if seen > 0 else b"broken\n")

shared = listen(7000)
here, there = socket.socketpair()
if os.fork() == 0:
    start(accept, shared, echo)
    start(epolling, listen(7001))
    while True:
        _, passed, _, _ = socket.recv_fds(there, 1, 1)
        start(echo, socket.socket(fileno=passed[0]))

start(accept, shared, echo)
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("0.0.0.0", 7002))
start(datagrams, receiver)
start(accept, listen(7003), duplicated)
start(accept, listen(7005, socket.AF_INET6), echo)
start(accept, listen(7006), with_timeout)
start(accept, listen(7007), polling)
start(inner)
start(accept, listen(7008), told_of_inner)
start(outbound, 7600)
passing = listen(7004)
while True:
    connection, _ = passing.accept()
    socket.send_fds(here, [b"x"], [connection.fileno()])
    connection.close()
