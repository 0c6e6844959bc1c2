"""GRPO by TRL with replies of sessions: scorers of tasks as rewards, our log-probabilities."""

import numpy as np
import pytest
import torch
from peft import LoraConfig
from unified.tasks.registry import make
from unified.tasks.worlds import inverse
from unified.train.preference.grpo import StreamGRPOConfig, StreamGRPOTrainer
from unified.train.preference.rewards import TaskReward

from unified.apps.demo import random_model

TASKS = {
    "scene_draw": {"size": 32, "most": 2, "categories": ["complete"]},
    "maze_text": {"sizes": [[3, 3]], "image_size": 64},
    "world_actions": {"size": 32, "frames": 2},
}


@pytest.fixture
def make_trainer(tmp_path):
    def build(reward, steps=2, **given):
        model, processor = random_model()
        options = {name: given.pop(name) for name in ("peft_config",) if name in given}
        settings = {
            "max_steps": steps,
            "per_device_train_batch_size": 4,
            "num_generations": 4,
            "max_completion_length": 8,
            "prompts": 3,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "save_strategy": "no",
            "use_cpu": True,
            "bf16": False,
            "report_to": [],
            "disable_tqdm": True,
        } | given
        args = StreamGRPOConfig(output_dir=str(tmp_path), **settings)
        return StreamGRPOTrainer(model, processor, reward, args, **options)

    return build


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_trained_by_its_own_scorer(name, make_trainer):
    trainer = make_trainer(TaskReward(make(name, **TASKS[name])))
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(entries) == 2
    assert all(0 <= entry["reward"] <= 1 for entry in entries)
    if any(entry["reward_std"] > 0 for entry in entries):
        changed = trainer.model.state_dict()
        assert any(not torch.equal(value, changed[key]) for key, value in before.items())


def test_log_probabilities_of_trl_are_those_that_were_recorded(make_trainer):
    """Of a drawing, whose reply holds ids that the model did not draw."""
    trainer = make_trainer(TaskReward(make("scene_draw", **TASKS["scene_draw"])))
    found = trainer.roll_out(["0", "1"])
    for number in range(2):
        prompt, reply = found["prompt_ids"][number], found["completion_ids"][number]
        ids = torch.tensor([[trainer.processor.vocabulary.pad] * 3 + prompt + reply])  # TRL pads on the left
        with torch.no_grad():
            log_probs, _, _ = trainer._get_per_token_logps_and_entropies(
                trainer.model, ids, (ids != trainer.processor.vocabulary.pad).long(), len(reply)
            )
        drawn = torch.tensor(found["env_mask"][number]).bool()
        assert 5 <= drawn.sum() < len(reply)
        recorded = torch.tensor(found["logprobs"][number])
        torch.testing.assert_close(log_probs[0][drawn], recorded[drawn], atol=1e-3, rtol=0)


def test_adapters_have_a_reference(make_trainer):
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    trainer = make_trainer(TaskReward(make("scene_draw", **TASKS["scene_draw"])), peft_config=lora, beta=0.1)
    trainer.train()
    kl = [entry["kl"] for entry in trainer.state.log_history if "kl" in entry]
    assert kl[0] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.5}, "at temperature 1"),
        ({"top_p": 0.9}, "no filters"),
        ({"beta": 0.1}, "train adapters"),
    ],
)
def test_what_cannot_be_is_refused(options, message, make_trainer):
    with pytest.raises(ValueError, match=message):
        make_trainer(TaskReward(make("scene_draw", **TASKS["scene_draw"])), **options)


def test_following_reads_the_action_back(tmp_path):
    """An untrained reader of tiny frames: the score is the share of its classes that are right."""
    torch.manual_seed(0)
    path = tmp_path / "inverse.safetensors"
    reader = inverse.InverseModel(inverse.InverseConfig(size=32, width=8, memory=4, reach=1)).eval()
    inverse.save(reader, path, {})
    task = make("world_frames", size=32, frames=2)
    sample = task.sample(0)
    reward = TaskReward(task, following=path)
    found = reward(sample, sample.messages[-1]["content"])
    frames = [sample.messages[0]["content"][0]["image"], sample.messages[-1]["content"][0]["image"]]
    read = reader.read(np.stack(frames))
    truth = inverse.truth_of([sample.messages[0]["content"][1]["action"]])
    assert found == pytest.approx(sum(read[name][0] == truth[name][0] for name in truth) / len(truth))
    assert reward(sample, []) == 0.0
    with pytest.raises(ValueError, match="gives no score 'beauty'"):
        TaskReward(task, ["beauty"])(sample, sample.messages[-1]["content"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": 0}, "prompts must be a whole number of at least 1"),
        ({"rollout_rows": 0}, "rollout_rows must be a whole number of at least 1"),
        ({"split": "all"}, "unknown split 'all'"),
    ],
)
def test_what_gives_nothing_to_answer_is_refused(make_trainer, options, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(TaskReward(make("scene_draw", **TASKS["scene_draw"])), **options)
