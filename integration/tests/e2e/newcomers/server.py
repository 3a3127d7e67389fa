# Answers each connection's byte, on one thread, and remembers which datagrams came.
import selectors
import socket

waiting = selectors.DefaultSelector()


def listening(kind):
    s = socket.socket(socket.AF_INET, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", 7001))
    s.setblocking(False)
    waiting.register(s, selectors.EVENT_READ)
    return s


tcp, udp = listening(socket.SOCK_STREAM), listening(socket.SOCK_DGRAM)
tcp.listen(64)
came = set()
while True:
    for key, _ in waiting.select():
        if key.fileobj is tcp:
            c, _ = tcp.accept()
            c.setblocking(False)
            waiting.register(c, selectors.EVENT_READ)
        elif key.fileobj is udp:
            text, peer = udp.recvfrom(64)
            came.add(int(text))
        else:
            c = key.fileobj
            try:
                asked = c.recv(16)
                if asked == b"?":
                    c.sendall(b"%d" % len(came))
                elif asked:
                    c.sendall(asked)
            except OSError as error:
                # The client sees it as well.
                print(error, flush=True)
            waiting.unregister(c)
            c.close()
