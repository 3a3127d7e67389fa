# Answers the Redis command INCR, whatever the key: each five lines are one request.
import asyncio

counter = 0


async def serve(reader, writer):
    global counter
    while True:
        for _ in range(5):
            if not await reader.readline():
                return
        counter += 1
        writer.write(b":%d\r\n" % counter)
        await writer.drain()


async def main():
    server = await asyncio.start_server(serve, None, 6379)
    await server.serve_forever()


asyncio.run(main())
