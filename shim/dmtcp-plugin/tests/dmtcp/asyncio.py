"""Echoes lines; one thread, waiting with epoll."""
import asyncio

async def serve(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()

async def main():
    async with await asyncio.start_server(serve, "0.0.0.0", 7000) as server:
        await server.serve_forever()

asyncio.run(main())
