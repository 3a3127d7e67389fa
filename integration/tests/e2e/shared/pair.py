"""Two containers of a pod that exchange numbered messages over unix sockets of every kind, each
sending as fast as its peer's queue lets it: there is always something that was not read yet.

python3 -c ... server|client FOLDER; what was sent and received is in /dev/shm/ROLE. A message that
is lost, doubled, out of order or damaged ends the program with 3.
"""
import os, socket, sys, threading, time

role, folder = sys.argv[1:]
state, connected = {role + '-ids': '%d/%d' % (os.getuid(), os.getgid())}, {}
os.umask(0)


def writer():
    while True:
        # Who has the other end, as the kernel says: user/group.
        state.update((channel + '-peer', ids(s)) for channel, s in list(connected.items()))
        with open('/dev/shm/.' + role, 'w') as out:
            out.write(' '.join('%s=%s' % one for one in sorted(state.items())) + ' ')
        os.rename('/dev/shm/.' + role, '/dev/shm/' + role)
        time.sleep(0.05)


def message(channel, number):
    text = b'%s %s %d ' % (role_of(channel), channel.encode(), number)
    return text + b'.' * (50 + number % 300)


def role_of(channel):
    return channel.split('-')[0].encode()


def whole(s, length):
    data = b''
    while len(data) < length:
        piece = s.recv(length - len(data))
        if not piece:
            break
        data += piece
    return data


def send(channel, call):
    number = 0
    while True:
        call(message(channel, number))
        number += 1
        state[channel + '-sent'] = number


def receive(channel, call):
    number = 0
    while True:
        wanted = message(channel, number)
        got = call(len(wanted))
        if got != wanted:
            print(channel, 'got', got[:60], 'instead of', wanted[:60], flush=True)
            state[channel + '-bad'] = number
            time.sleep(0.2)
            os._exit(3)
        number += 1
        state[channel + '-got'] = number
        time.sleep(0.002)


def start(*all):
    for one, channel, call in all:
        threading.Thread(target=one, args=(channel, call)).start()


def ids(s):
    return '%d/%d' % tuple(
        int.from_bytes(s.getsockopt(socket.SOL_SOCKET, 17, 12)[at:at + 4], 'little') for at in (4, 8))


def serve(kind, name, channel, other):
    s = socket.socket(socket.AF_UNIX, kind)
    s.bind(name)
    s.listen(5)
    c, _ = s.accept()
    connected[channel] = c
    talk(c, kind, channel, other)


def talk(c, kind, own, other):
    get = whole if kind == socket.SOCK_STREAM else lambda s, length: s.recv(length + 1)
    start((send, own, c.sendall), (receive, other, lambda length: get(c, length)))


def dial(kind, name, own, other):
    while True:
        s = socket.socket(socket.AF_UNIX, kind)
        try:
            s.connect(name)
        except OSError:
            s.close()
            time.sleep(0.1)
            continue
        connected[own] = s
        talk(s, kind, own, other)
        return


def datagram(name):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if name:
        s.bind(name)
    return s


def connect(s, name):
    while True:
        try:
            return s.connect(name)
        except OSError:
            time.sleep(0.1)


threading.Thread(target=writer).start()
os.chdir(folder)
if role == 'server':
    # Named by a path, and with a relative and an abstract one.
    s = datagram(folder + '/datagrams')
    log = datagram('log')
    start((receive, 'client-log', lambda length: log.recv(length + 1)))

    def datagrams():
        to = None
        def call(length):
            nonlocal to
            got, address = s.recvfrom(length + 1)
            if to is None:
                to = address
                start((send, 'server-datagram', lambda one: s.sendto(one, to)))
            return got
        receive('client-datagram', call)
    threading.Thread(target=datagrams).start()
    threading.Thread(
        target=serve,
        args=(socket.SOCK_SEQPACKET, '\0packets', 'server-packet', 'client-packet')).start()
    serve(socket.SOCK_STREAM, folder + '/stream', 'server-stream', 'client-stream')
else:
    s = datagram(folder + '/client')
    connect(s, folder + '/datagrams')
    log = datagram(None)
    connect(log, folder + '/log')
    start((send, 'client-datagram', s.send), (send, 'client-log', log.send),
          (receive, 'server-datagram', lambda length: s.recv(length + 1)))
    dial(socket.SOCK_STREAM, folder + '/stream', 'client-stream', 'server-stream')
    dial(socket.SOCK_SEQPACKET, '\0packets', 'client-packet', 'server-packet')
