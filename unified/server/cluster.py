"""The server on more than one machine: replicas of the same application under Ray Serve.

A request is answered by whichever replica has least to do, and needs nothing of the one before: a client
sends the whole conversation each time. Worlds are state, so all of them are kept by one more process, to
which Ray's proxies send every path under `/v1/worlds`. Queues and limits hold for each replica by itself.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from unified.command import told
from unified.server.app import create_app
from unified.server.cluster_config import ClusterConfig
from unified.server.guard import Access, Guard, Message, Receive, Send
from unified.server.limits import Limits

ANSWERS, WORLDS = "unified", "unified_worlds"  # names of the applications
STORE = 2**27  # bytes of Ray's object store, which nothing large passes through
SPARE = 32  # requests beyond rows and queue that reach a replica: refusals, /health, /metrics


@dataclass(frozen=True, kw_only=True)
class Served:
    """What every replica serves: `load` gives the assistant, in the replica's process; the rest is as of
    `create_app`. All of it is pickled by Ray."""

    load: Callable[[], Any]
    limits: Limits
    access: Access
    name: str = "unified"

    def app(self, worlds: bool) -> Guard:
        return create_app(self.load(), limits=self.limits, access=self.access, name=self.name, worlds=worlds)


class Replica:
    """One process with the model. Ray calls the methods, and replaces a replica that is not well."""

    def __init__(self, served: Served, worlds: bool) -> None:
        self.guard = served.app(worlds)

    def __serve_build_asgi_app__(self) -> Named:
        from ray import serve

        return Named(self.guard, serve.get_replica_context().replica_id.unique_id)

    def check_health(self) -> None:
        if not self.guard.app.state.worker.alive:
            raise RuntimeError("the model's thread has stopped")


class Named:
    """An application whose answers name the replica (`x-replica`). Its paths begin at the root, though Ray
    reaches it under a prefix."""

    def __init__(self, app: Any, name: str) -> None:
        self.app, self.name = app, name

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = (b"x-replica", self.name.encode("ascii"))
                message = {**message, "headers": [*message.get("headers", []), own]}
            await send(message)

        await self.app({**scope, "root_path": ""}, receive, answer)


@contextmanager
def cluster(served: Served, config: ClusterConfig, *, host: str, port: int) -> Iterator[None]:
    """Replicas that answer at host and port while the context is open. ConnectionError where there is no Ray
    at its address; RuntimeError, in one line, where no replica can be started."""
    from ray import serve

    started = _join(config)
    names = [ANSWERS, *([WORLDS] if config.worlds else [])]
    try:
        location = "EveryNode" if config.every_machine else "HeadOnly"
        serve.start(proxy_location=location, http_options={"host": host, "port": port})
        _deploy(served, config)
        yield
    finally:
        if started:
            _leave()
        else:
            for name in names:
                serve.delete(name)


def _deploy(served: Served, config: ClusterConfig) -> None:
    from ray import serve

    targets = [serve.RunTarget(_application(served, config, False), name=ANSWERS, route_prefix="/")]
    if config.worlds:
        kept = _application(served, config, True)
        targets.append(serve.RunTarget(kept, name=WORLDS, route_prefix="/v1/worlds"))
    try:
        serve.run_many(targets)
    except RuntimeError as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise RuntimeError(f"no replica can be started: {said[-1] if said else told(error)}") from None


def _application(served: Served, config: ClusterConfig, worlds: bool) -> Any:
    """Replicas that answer, or the one process that keeps `worlds`."""
    from ray import serve

    own = config.replicas
    count: dict[str, Any] = {"num_replicas": 1}
    if not worlds and own.least == own.most:
        count = {"num_replicas": own.least}
    elif not worlds:
        count = {
            "num_replicas": "auto",
            "autoscaling_config": {
                "min_replicas": own.least,
                "max_replicas": own.most,
                "target_ongoing_requests": own.requests,
                "upscale_delay_s": own.up,
                "downscale_delay_s": own.down,
            },
        }
    deployment: Any = serve.deployment(
        serve.ingress()(Replica),
        name="worlds" if worlds else "answers",
        max_ongoing_requests=served.limits.rows + served.limits.queue + SPARE,
        ray_actor_options={"num_cpus": own.cpus, "num_gpus": own.gpus},
        **count,
    )
    return deployment.bind(served, worlds)


def _join(config: ClusterConfig) -> bool:
    """Connect to the configured Ray, or start one on this machine; whether it was started. It has as many
    processors as the replicas ask for: they share what there is."""
    from unified.tasks.ray_work import LOCAL, join

    own = config.replicas
    needed = math.ceil(own.cpus * (own.most + config.worlds))
    if config.ray:
        join(config.ray)
        return False
    join(LOCAL, num_cpus=max(needed, os.cpu_count() or 1), object_store_memory=STORE)
    return True


def _leave() -> None:
    import ray
    from ray import serve

    serve.shutdown()
    ray.shutdown()
