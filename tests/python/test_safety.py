"""Threads, forked processes, several interpreters, the end of an interpreter."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import DEMO_MODEL

import exactflash

PROMPT = [1, 2636, 673, 261, 546]


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def run_python(program, *arguments):
    """A Python of its own; fails with what it said."""
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_many_threads(model):
    """One context and one model, used by threads at the same time."""
    x = random(1, 2, 200, 4, 64)
    want, want_logits = exactflash.attention(x, x, x, causal=True), model(PROMPT)

    def work(index):
        if index % 2:
            return np.array_equal(model(PROMPT), want_logits)
        return np.array_equal(exactflash.attention(x, x, x, causal=True), want)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(60)))


def test_gil_is_released():
    """While one thread computes, another runs Python."""
    x = random(1, 1, 3000, 16, 64)
    context = exactflash.Context(threads=1)
    ticks, done = 0, threading.Event()

    def compute():
        exactflash.attention(x, x, x, context=context)
        done.set()

    thread = threading.Thread(target=compute)
    thread.start()
    while not done.is_set():
        ticks += 1
        time.sleep(0.001)
    thread.join()
    assert ticks > 10  # a thread that held the GIL would leave no time for one


def test_fork(model):
    """A child goes on with what it inherits, makes things of its own, and ends in peace."""
    x = random(1, 1, 300, 8, 64)
    want, logits = exactflash.attention(x, x, x), model(PROMPT)
    cache = model.new_cache(32)
    model(PROMPT, cache=cache)
    for _ in range(3):
        child = os.fork()
        if child == 0:
            good = False
            try:
                good = np.array_equal(exactflash.attention(x, x, x), want)
                good = good and np.array_equal(model(PROMPT), logits)
                good = good and np.array_equal(model([5], cache=cache), model([*PROMPT, 5])[-1:])
                other = exactflash.build_model(DEMO_MODEL)
                good = good and np.array_equal(other(PROMPT), logits)
                del other
                gc.collect()
            finally:
                os._exit(0 if good else 1)
        _, status = os.waitpid(child, 0)
        assert status == 0


def test_multiprocessing():
    """The start method fork, after the default context's threads have begun, with a pool of workers."""
    output = run_python(
        """
        import multiprocessing, numpy, exactflash
        x = numpy.random.default_rng(1).standard_normal((1, 300, 8, 64), numpy.float32)
        def work(i):
            return exactflash.attention(x, x, x, causal=True).tobytes()
        want = work(0)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(all(result == want for result in pool.map(work, range(10))))
        """
    )
    assert output.strip() == "True"


def test_interpreters():
    """A model in each of several interpreters of one process, which end while others go on."""
    interpreters = pytest.importorskip("_xxsubinterpreters")
    assert interpreters
    output = run_python(
        """
        import sys, threading, exactflash
        import _xxsubinterpreters as interpreters
        program = '''
        import exactflash, sys
        model = exactflash.build_model(%r)
        text = "".join(piece.text for piece in model.generate("Once upon a time", max_new_tokens=10))
        assert "numpy" not in sys.modules  # which cannot be loaded by two interpreters
        sys.stdout.write(text + chr(10))
        '''.replace("        ", "") % sys.argv[1]
        def run():
            one = interpreters.create()
            interpreters.run_string(one, program)
            interpreters.destroy(one)
        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        run()
        model = exactflash.build_model(sys.argv[1])
        print("".join(piece.text for piece in model.generate("Once upon a time", max_new_tokens=10)))
        """,
        DEMO_MODEL,
    )
    lines = output.splitlines()
    assert len(lines) == 5 and len(set(lines)) == 1


def test_end_of_the_interpreter():
    """Objects that are alive at the end, in cycles and in modules, are destroyed or left in peace."""
    run_python(
        """
        import sys, exactflash
        model = exactflash.build_model(sys.argv[1])
        cache = model.new_cache()
        stream = model.generate("Once", cache=cache)
        next(stream)
        model.me, cache.model, sys.keep = model, model, (model, cache, stream)
        """,
        DEMO_MODEL,
    )


def test_cycles():
    """The garbage collector may finalize the objects of a cycle in any order."""
    for _ in range(5):
        model = exactflash.build_model(DEMO_MODEL, context=exactflash.Context(threads=2))
        cache = model.new_cache()
        stream = model.generate(PROMPT, cache=cache)
        next(stream)
        model.others = [model, cache, stream]  # a cycle
        del model, cache, stream
        gc.collect()


def test_library_that_is_not_there(tmp_path):
    environment = dict(os.environ, EXACTFLASH_LIBRARY=str(tmp_path / "nothing.so"))
    done = subprocess.run(
        [sys.executable, "-c", "import exactflash"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ImportError: exactflash: cannot load the shared library" in done.stderr
