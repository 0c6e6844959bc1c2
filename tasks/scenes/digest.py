"""One hash per sample, of everything the model sees: equal digests mean equal samples, byte for byte."""

from __future__ import annotations

import hashlib
import json

from unified.tasks.sample import Sample


def digest(sample: Sample) -> str:
    """The SHA-256 of a sample's messages: roles, texts and pixels, in order."""
    hasher = hashlib.sha256()
    for message in sample.messages:
        hasher.update(json.dumps(message["role"]).encode())
        for item in message["content"]:
            if item["type"] == "image":
                hasher.update(json.dumps(["image", *item["image"].shape]).encode())
                hasher.update(item["image"].tobytes())
            else:
                hasher.update(json.dumps(item, sort_keys=True).encode())
    return hasher.hexdigest()
