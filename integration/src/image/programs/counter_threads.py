# Answers the Redis command INCR, whatever the key: each five lines are one request.
import socketserver
import threading

counter = 0
lock = threading.Lock()


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        global counter
        while all(self.rfile.readline() for _ in range(5)):
            with lock:
                counter += 1
                self.wfile.write(b":%d\r\n" % counter)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


Server(("", 6379), Handler).serve_forever()
