"""Writers for the fault tests, run as processes: they import the library and nothing else."""

import os
import random
import signal
import sys
import time

import numpy as np

from library import Direction, Library


def direction(name: str = "cat2dog") -> Direction:
    return Direction(name=name, tensor=np.random.default_rng().normal(size=(16, 32)), encoder="clip-00000000")


def save_many(folder: str, count: int) -> None:
    """Save `count` versions of one name."""
    library = Library(folder, search_path=())
    for _ in range(count):
        library.save(direction())


def be_killed(folder: str, times: int, seed: int) -> None:
    """Fork a child that saves without end and kill it at a random moment; `times` over.

    The moment is drawn over the length of a few saves as they take now, after the child began, so that a
    busy machine is tried as hard as an idle one. After every kill each published version is read and a
    save must work. Prints the number of versions.
    """
    library = Library(folder, search_path=())
    moments = random.Random(seed)
    checked, one_save = 0, 0.005
    for _ in range(times):
        listening, telling = os.pipe()
        child = os.fork()
        if not child:
            os.write(telling, b"!")
            while True:
                library.save(direction())
        os.read(listening, 1)
        os.close(listening)
        os.close(telling)
        time.sleep(moments.uniform(0, 3 * one_save))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        start = time.perf_counter()
        library.save(direction())
        one_save = 0.8 * one_save + 0.2 * min(0.2, time.perf_counter() - start)
        versions = library.versions("cat2dog")
        assert [v.version for v in versions] == list(range(1, len(versions) + 1)), "a gap"
        for version in versions[checked:]:
            library.read(version.path, version)
        checked = len(versions)
    print(checked)


def tag_many(folder: str, count: int, who: str) -> None:
    """Add `count` tags and aliases to version 1."""
    from library.labels import change_tags, set_alias

    library = Library(folder, search_path=())
    for number in range(count):
        change_tags(library, "cat2dog@1", add=[f"tag-{who}-{number}"])
        set_alias(library, "cat2dog@1", f"alias-{who}-{number}")


if __name__ == "__main__":
    command, target, number, *more = sys.argv[1:]
    {"save": save_many, "killed": be_killed, "tag": tag_many}[command](
        target, int(number), *(int(m) if m.isdigit() and command == "killed" else m for m in more)
    )
