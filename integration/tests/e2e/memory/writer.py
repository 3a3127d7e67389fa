# Three processes write into memory all the time and remember elsewhere what they wrote. Each says in
# /tmp/NAME how often it has compared all of it, or what differs.
import mmap
import os
import random
import time

PAGE = 4096
PAGES = 4096


def work(name):
    memory = mmap.mmap(-1, PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    remembered = [0] * PAGES
    written = 0
    compared = 0
    while True:
        for _ in range(300):
            page = random.randrange(PAGES)
            written += 1
            remembered[page] = written
            at = page * PAGE + random.choice((0, 4088))
            memory[page * PAGE:page * PAGE + 8] = written.to_bytes(8, "little")
            memory[at:at + 8] = written.to_bytes(8, "little")
        # Something that is not needed any more, and memory that the kernel has not seen yet.
        page = random.randrange(PAGES)
        memory.madvise(mmap.MADV_DONTNEED, page * PAGE, PAGE)
        remembered[page] = 0
        wrong = [
            page for page in range(PAGES)
            if int.from_bytes(memory[page * PAGE:page * PAGE + 8], "little") != remembered[page]
        ]
        compared += 1
        text = f"differs {wrong[:5]}" if wrong else str(compared)
        with open(f"/tmp/{name}.new", "w") as status:
            status.write(text)
        os.rename(f"/tmp/{name}.new", f"/tmp/{name}")
        if wrong:
            time.sleep(3600)


for name in ("first", "second"):
    if os.fork() == 0:
        work(name)
work("parent")
