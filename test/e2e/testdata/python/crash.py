# Crashes in C code that Python functions called. faulthandler tells on stderr where each thread is.
import ctypes
import faulthandler
import threading

faulthandler.enable(all_threads=True)


class Walker:
    def walk(self, depth):
        if depth == 0:
            return ctypes.string_at(
                0
            )
        return self.walk(depth - 1)


def größe(walker):
    return [walker.walk(3) for _ in range(1)]


def wait(ready, never):
    ready.set()
    never.wait()


never = threading.Event()
for _ in range(2):
    ready = threading.Event()
    threading.Thread(target=wait, args=(ready, never), daemon=True).start()
    ready.wait()
while sum(t.ident is not None for t in threading.enumerate()) < 3:
    pass
größe(Walker())
