"""`unified eval tokenizer FOLDER ...`: visual tokenizers side by side, in one table and one picture."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from unified.apps.commands.common import check_folder
from unified.apps.commands.evaluate import weights_hash
from unified.file_names import SHIPPED, SHIPPED_NAME


def evaluate_tokenizers(options: argparse.Namespace) -> int:
    """Measure the tokenizers of folders and write the report. ValueError, before anything is measured, for a
    folder without one."""
    from unified.eval.bench.machine import machine, versions
    from unified.eval.metrics import lpips
    from unified.eval.report import as_json, table_lines, write_report
    from unified.eval.tokenizer_bench import BenchConfig, bench, named_paths, subject_of

    for path in options.lpips or ():
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
    check_folder(options.out).mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for name in options.suites[1:]:
        folder = SHIPPED if name == SHIPPED_NAME else Path(name)
        label = folder.resolve().name if name != SHIPPED_NAME else name
        found[label if label not in found else name] = subject_of(folder, options.size)
    if options.features:
        from unified.train.teachers import teacher_of

        teacher = teacher_of(options.features)
        for subject in found.values():
            if getattr(subject.tokenizer.config, "features", 0) and hasattr(subject.tokenizer, "teacher"):
                subject.tokenizer.teacher = teacher
    config = BenchConfig(
        count=options.count,
        split=options.split,
        data=named_paths(options.data),
        lpips=lpips.load(*options.lpips) if options.lpips else None,
        text_alone=options.suite == "vtbench",
    )
    result = bench(found, config)
    header = {
        "tokenizers": list(found),
        "weights": {name: weights_hash(subject.tokenizer) for name, subject in found.items()},
        "device": "cpu",
        "dtype": str(torch.float32).removeprefix("torch."),
        "split": options.split,
        "count": options.count,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
    }
    write_report(options.out, header, {"tokenizer": result})
    if options.json:
        print(json.dumps({**header, "suites": {"tokenizer": as_json(result)}}))
        return 0
    for table in result.tables:
        print(f"\n{table.title}\n" + "\n".join(table_lines(table)))
    print("".join(f"\n{note}" for note in result.notes))
    print(f"\nWrote {options.out / 'report.md'}, report.json and tokenizer.png in the same folder.")
    return 0
