"""An inverse dynamics model: which action lies between two frames. Trained on real frames only.

    python -m unified.eval.inverse --out inverse.safetensors --clips 4000

It reads true frames of a player who uses every key of the voxel world (training split) and predicts the
classes of `unified.tasks.worlds.action_classes`; the model is that of `unified.tasks.worlds.inverse`.
`unified eval world --inverse FILE` reads actions back from imagined frames with it. Before it is used its own
score on true held-out video is printed beside.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from unified.eval.metrics.following import accuracy, f1, macro_f1, varied
from unified.tasks.worlds.action_classes import CLASSES
from unified.tasks.worlds.inverse import (
    HEADS,
    InverseConfig,
    InverseModel,
    InverseTraining,
    Steps,
    load,
    save,
    steps_of,
    train,
    watched,
)

from unified.apps.commands.common import check_target, count, seed
from unified.command import Parser, run


def score(model: InverseModel, data: Steps) -> dict[str, Any]:
    """On true video: mean macro F1 over the tasks that vary and that of each, accuracy, camera error in
    bins."""
    with torch.no_grad():
        parts = [model(part) for part in data.clips.split(16)]
    found = {name: torch.cat([part[name] for part in parts]).argmax(-1).flatten().numpy() for name in HEADS}
    truth = {name: values.flatten().numpy() for name, values in data.truth.items()}
    tasks = varied({name: truth[name] for name in CLASSES})
    camera = np.mean([np.abs(found[axis] - truth[axis]).mean() for axis in ("pitch", "yaw")])
    result = {"macro_f1": f1(found, truth, tasks), "accuracy": accuracy(found, truth, tasks)}
    by_task = {name: round(macro_f1(found[name], truth[name]), 3) for name in tasks}
    return {**result, "camera_bins": float(camera), "by_task": by_task}


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        prog="unified.eval.inverse", description="Trains an inverse dynamics model on true frames."
    )
    parser.add_argument("--out", type=Path, required=True, help="where to write it (.safetensors)")
    parser.add_argument(
        "--clips", type=count, default=2000, help="clips of 17 frames to train on (default 2000)"
    )
    parser.add_argument("--test-clips", type=count, default=200)
    parser.add_argument("--epochs", type=count, default=8)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--memory", type=int, default=96, help="channels along the clip, in either direction")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--start", type=Path, help="model to train on from (its width, memory, size)")
    parser.add_argument("--seed", type=seed, default=0, help="of the clips and of their order (default 0)")
    options = parser.parse_args(arguments)
    try:
        check_target(options.out)
        start = load(options.start) if options.start else None
        config = InverseConfig(width=options.width, size=options.size, memory=options.memory)
    except (ValueError, OSError) as error:
        parser.error(" ".join(str(error).split()))
    return run(parser.prog, lambda options: _work(options, config, start), options)


def _work(options: argparse.Namespace, config: InverseConfig, start: InverseModel | None) -> int:
    config = start.config if start else config
    started = time.monotonic()
    training = InverseTraining(clips=options.clips, epochs=options.epochs, seed=options.seed)
    data = steps_of(watched(training.clips, "train", size=config.size, seed=training.seed))
    model = train(data, config, training, start)
    scores = score(model, steps_of(watched(options.test_clips, "test", size=config.size)))
    notes = {**asdict(training), "seconds": round(time.monotonic() - started), "test": scores}
    save(model, options.out, notes)
    print(json.dumps(notes))
    print(f"Wrote {options.out}: macro F1 {scores['macro_f1']:.3f} on true test video.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
