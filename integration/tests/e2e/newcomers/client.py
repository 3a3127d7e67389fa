# Connects again and again, and sends numbered datagrams, until its input ends.
# Prints: connections that were answered, those that failed, the first failure, the longest one in
# milliseconds, datagrams sent.
import json
import select
import socket
import sys
import threading
import time

address = (sys.argv[1], 7001)
over = threading.Event()
sent = 0


def datagrams():
    global sent
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while not over.is_set():
        s.sendto(b"%d" % sent, address)
        sent += 1
        # Those of two seconds fit into the buffer of a socket.
        time.sleep(0.01)


other = threading.Thread(target=datagrams)
other.start()
done, failed, first, longest = 0, 0, None, 0
while not select.select([sys.stdin], [], [], 0.003)[0]:
    begin = time.monotonic()
    try:
        with socket.create_connection(address, timeout=20) as c:
            c.sendall(b"x")
            if c.recv(1) != b"x":
                raise OSError("closed without an answer")
        done += 1
    except OSError as error:
        failed += 1
        first = first or f"{type(error).__name__}: {error}"
    longest = max(longest, int((time.monotonic() - begin) * 1000))
over.set()
other.join()
time.sleep(1)
with socket.create_connection(address, timeout=20) as c:
    c.sendall(b"?")
    came = int(c.recv(64))
print(json.dumps({"done": done, "failed": failed, "first": first, "longest": longest, "sent": sent, "came": came}))
