"""One side of System V IPC: `one` sends numbered messages, raises a semaphore for each, and keeps the
number in shared memory; `two` takes both away. It notes how far it came in /dev/shm/two, and ends
with 3 at a message that is not the next one.

`alone` only has the shared memory, and notes its number.

python3 -c ... one|two|alone [attach]
"""
import ctypes, os, sys, time

role = sys.argv[1]
attach = role != 'two' or 'attach' in sys.argv
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
CREATE = 0o1000 | 0o666


class Message(ctypes.Structure):
    _fields_ = [('type', ctypes.c_long), ('text', ctypes.c_char * 64)]


class Operation(ctypes.Structure):
    _fields_ = [('number', ctypes.c_ushort), ('change', ctypes.c_short), ('flags', ctypes.c_short)]


def call(function, *arguments):
    while True:
        result = function(*arguments)
        if result != -1:
            return result
        # A semaphore's wait is over when the process was dumped.
        if ctypes.get_errno() != 4:
            raise OSError(ctypes.get_errno(), function.__name__)


queue = call(libc.msgget, 77, CREATE)
semaphore = call(libc.semget, 78, 1, CREATE)
if attach:
    segment = call(libc.shmget, 79, 4096, CREATE)
    memory = (ctypes.c_char * 4096).from_address(libc.shmat(segment, None, 0))
open('/dev/shm/ready-' + role, 'w').close()
number = 0


def note():
    with open('/dev/shm/new', 'w') as out:
        out.write(str(number))
    os.rename('/dev/shm/new', '/dev/shm/two')
    time.sleep(0.005)


while True:
    if role != 'two':
        if number and memory[:9] != b'%09d' % (number - 1):
            os._exit(4)
        memory[:9] = b'%09d' % number
    if role == 'alone':
        note()
    elif role == 'one':
        message = Message(1, b'%d' % number)
        call(libc.msgsnd, queue, ctypes.byref(message), 64, 0)
        call(libc.semop, semaphore, ctypes.byref(Operation(0, 1, 0)), 1)
    else:
        call(libc.semop, semaphore, ctypes.byref(Operation(0, -1, 0)), 1)
        message = Message()
        call(libc.msgrcv, queue, ctypes.byref(message), 64, 0, 0)
        if message.text != b'%d' % number:
            os._exit(3)
        note()
    number += 1
