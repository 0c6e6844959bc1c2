"""A Ray on this machine, for tests."""

from contextlib import contextmanager

import pytest

TRIES = 3  # ray gives its own processes 30 s to start, which a busy machine may exceed


@contextmanager
def local_ray(processors=2):
    """The package, connected to a Ray of so many processors while the context is open. Skips without ray."""
    ray = pytest.importorskip("ray", reason="ray is not installed")
    from unified.tasks.ray_work import LOCAL, join

    for number in range(TRIES):
        try:
            join(LOCAL, num_cpus=processors, object_store_memory=2**27)
            break
        except ConnectionError:
            ray.shutdown()
            if number + 1 == TRIES:
                raise
    try:
        yield ray
    finally:
        ray.shutdown()
