"""Who a client is: the key that it sends, or its address where no keys are asked for."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

VARIABLE = "UNIFIED_API_KEY"
SHORTEST = 16  # letters of a key


class Keys:
    """Keys that are accepted; none: nobody is asked for one. ValueError for one that is short, or has other
    letters than printable ASCII."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        for key in keys:
            if len(key) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
                raise ValueError(f"an API key has at least {SHORTEST} letters of ASCII, without spaces")
        self._digests = [_digest(key) for key in keys]

    @staticmethod
    def read(file: Path | None = None) -> Keys:
        """Those of a file, one a line (empty lines and lines that begin with # are passed over), or the one
        of the environment variable. ValueError for a file without a key."""
        if file is None:
            given = os.environ.get(VARIABLE, "")
            return Keys([given] if given else [])
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise ValueError(f"{file}: there is no API key in it")
        return Keys(keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def client(self, authorization: str, address: str) -> str | None:
        """A name for the client, None for one that is refused. All keys are compared, in a time that does not
        depend on how much of one is right."""
        if not self:
            return f"address {address}"
        scheme, _, key = authorization.partition(" ")
        sent = _digest(key.strip())
        matches = [hmac.compare_digest(sent, digest) for digest in self._digests]
        return f"key {matches.index(True)}" if any(matches) and scheme.lower() == "bearer" else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def as_bearer(authorization: str) -> str:
    """A header with the password of basic authentication (any name) as a key; others as they are."""
    scheme, _, held = authorization.partition(" ")
    if scheme.lower() != "basic":
        return authorization
    try:
        return f"Bearer {base64.b64decode(held, validate=True).decode().partition(':')[2]}"
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
