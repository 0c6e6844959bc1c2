"""Runs of `unified.train`, measurements of memory and removals, one after the other, in every process that
torchrun starts: starting Python takes longer than training a tiny model."""

import json
import os
import shutil
import sys


def main() -> int:
    from accelerate.state import AcceleratorState
    from transformers.integrations import deepspeed
    from unified.train import measured
    from unified.train.__main__ import leave_group
    from unified.train.__main__ import main as train
    from unified.train.stage_model import wait

    with open(sys.argv[1], encoding="utf-8") as file:
        jobs = json.load(file)
    for job in jobs:
        status = 0
        if "remove" in job and int(os.environ["RANK"]) == 0:
            for path in job["remove"]:
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        if "remove" in job:
            wait()  # or the others would see what is about to go
        if "arguments" in job:
            status = train(job["arguments"])
        if "plan" in job:
            status = measured.main([json.dumps(job)])
        if status:
            return status
        AcceleratorState._reset_state()
        deepspeed.unset_hf_deepspeed_config()
        for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
            del os.environ[name]
        wait()
    leave_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
