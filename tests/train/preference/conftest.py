"""A tiny model and pairs of replies of every sort: text, drawn images, frames after actions, sketch
traces."""

import copy

import pytest
import torch
from unified.tokenizers.text import byte_tokenizer

from unified.model import UnifiedConfig, UnifiedModel
from unified.stream.messages import Stream

trl = pytest.importorskip("trl", reason="TRL comes with the extra `train`")
datasets = pytest.importorskip("datasets", reason="datasets comes with the extra `train`")

SHAPES = [[1, 1], [2, 2]]


def image(first, **more):
    codes = [(first + n) % 64 for n in range(5)]
    return {"type": "image", "codes": codes, "shapes": SHAPES, "order": "next_scale", **more}


def shown(first):
    return {"type": "image", "codes": [(first + n) % 64 for n in range(4)], "shapes": [[2, 2]]}


def text(words):
    return {"type": "text", "text": words}


def action(first):
    return {"type": "action", "ids": [(first + n) % 68 for n in range(11)]}


@pytest.fixture(scope="session")
def tiny():
    torch.manual_seed(0)
    return UnifiedModel(UnifiedConfig(vocabulary={"orders": ["next_scale"]}, initializer_range=0.2))


@pytest.fixture
def model(tiny):
    return copy.deepcopy(tiny)


def rows(model, replies):
    """(user content, chosen content, rejected content) as rows of ids."""
    stream = Stream(model.vocabulary, byte_tokenizer())
    found = []
    for user, *answers in replies:
        prompt = stream.encode([{"role": "user", "content": user}], prompt=True)
        ids = [[*stream.content(answer), model.vocabulary.end] for answer in answers]
        found.append({"prompt_ids": prompt, "chosen_ids": ids[0], "rejected_ids": ids[1]})
    return found


def replies():
    """Eight pairs."""
    frames = [[shown(n), action(n)] for n in range(2)]
    return [
        ([text("draw one")], [image(1)], [image(40)]),
        ([text("draw two")], [image(2)], [text("no")]),
        ([text("what?")], [text("a cat")], [text("the dogs")]),
        ([shown(3), text("edit")], [image(3)], [image(9)]),
        ([text("maze")], [text("left"), image(5), text("up"), image(6)], [text("right"), image(7)]),
        (frames[0], [image(10)], [image(11)]),
        (frames[1], [image(12)], [image(13)]),
        ([shown(4)], [action(1)], [action(5)]),
    ]


@pytest.fixture
def every_sort(model):
    """Eight pairs of rows of ids."""
    return rows(model, replies())


@pytest.fixture
def pairs(every_sort):
    return datasets.Dataset.from_list(every_sort)


@pytest.fixture
def make_trainer(model, pairs, tmp_path):
    """A `PreferenceTrainer` on a copy of the model."""
    from unified.train.preference import PreferenceConfig, PreferenceTrainer

    def make(
        data=None, *, policy=None, steps=4, pairs_a_step=4, micro=2, folder="run", trainer=None, **given
    ):
        options = {
            name: given.pop(name) for name in ("peft_config", "callbacks", "ref_model") if name in given
        }
        settings = {
            "max_steps": steps,
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": pairs_a_step // micro,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "logging_steps": 1,
            "save_strategy": "no",
            "use_cpu": True,
            "bf16": False,
            "report_to": [],
            "disable_tqdm": True,
        } | given
        args = PreferenceConfig(output_dir=str(tmp_path / folder), **settings)
        kind = trainer or PreferenceTrainer
        start = copy.deepcopy(model) if policy is None else policy
        return kind(start, args=args, train_dataset=pairs if data is None else data, **options)

    return make


@pytest.fixture
def logged():
    """Values of one name in the log of a trainer."""
    return lambda trainer, name: [entry[name] for entry in trainer.state.log_history if name in entry]
