# A client of the CRI streaming server: kubectl attach over a WebSocket (RFC 6455, v4.channel.k8s.io).
# Standard input has commands, a line each: `input HEX`, `resize WIDTH HEIGHT`. Standard output is the
# container's.
import base64, json, os, socket, struct, sys, threading, urllib.parse

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
url = urllib.parse.urlsplit(sys.argv[1])
connection = socket.create_connection((url.hostname, url.port))
stream = connection.makefile("rb")
path = url.path + ("?" + url.query if url.query else "")
connection.sendall((
    f"GET {path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
    "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
).encode())
status = stream.readline()
if b" 101 " not in status:
    sys.exit(f"attach answered {status}")
while stream.readline().strip():
    pass


def send(channel, data):
    payload = bytes([channel]) + data
    assert len(payload) < 126
    # A client masks what it sends; a mask of zeros changes nothing.
    connection.sendall(struct.pack("!BB4s", 0x82, 0x80 | len(payload), bytes(4)) + payload)


def commands():
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "input":
            send(STDIN, bytes.fromhex(rest[0]))
        else:
            send(RESIZE, json.dumps({"Width": int(rest[0]), "Height": int(rest[1])}).encode())
    os._exit(0)


threading.Thread(target=commands, daemon=True).start()
while header := stream.read(2):
    length = header[1] & 127
    if length == 126:
        length = struct.unpack("!H", stream.read(2))[0]
    payload = stream.read(length)
    if payload[:1] in (bytes([STDOUT]), bytes([STDERR])):
        os.write(1, payload[1:])
