"""GRPO of streams by TRL's `GRPOTrainer`, with the tasks' own scorers as rewards.

Replies are drawn by a `Session` through TRL's `rollout_func` (experimental there), scored by the task (scene
parser, maze walker, action following: `rewards.py`), and their log-probabilities are the model's own
(`scoring.py`). Ids that a reply holds but the model did not draw (headers, READ copies of its images) are
masked out. GRPO: Shao et al., arXiv 2402.03300; on visual autoregressive models its use is ours.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset
from peft import PeftModel
from torch import nn
from transformers import GenerationConfig, Trainer
from trl import GRPOConfig, GRPOTrainer
from unified.tasks.sample import check_split
from unified.train.preference.rewards import TaskReward
from unified.train.preference.sampling import Reply, Sampling, replies
from unified.train.preference.scoring import install
from unified.train.preference.tokenizer import control_tokenizer
from unified.train.preference.trainer import unwrapped

from unified.bound import need_exact
from unified.finite import check_count
from unified.stream.processor import Processor


@dataclass
class StreamGRPOConfig(GRPOConfig):
    """TRL's configuration, and: `prompts`: of how many samples of the task's `split`. `max_completion_length`
    bounds the ids of text of a reply; `rollout_rows`: replies that are drawn at once. The temperature is 1,
    without filters: the log-probabilities of what is drawn are the model's own."""

    prompts: int = field(default=1000, metadata={"help": "samples of the task that are answered"})
    split: str = field(default="train", metadata={"help": "of the task"})
    rollout_rows: int = field(default=16, metadata={"help": "replies drawn at once"})
    gradient_checkpointing: bool = field(default=False, metadata={"help": "compute activations twice"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("prompts", self.prompts, 1)
        check_count("rollout_rows", self.rollout_rows, 1)
        check_split(self.split)
        filtered = self.temperature != 1 or self.top_p != 1 or self.top_k not in (0, None)
        if filtered or self.use_vllm:
            raise ValueError("replies are drawn by a Session at temperature 1: no filters, no vLLM")


class StreamGRPOTrainer(GRPOTrainer):
    """`reward`: of a task, whose samples are the prompts. `options` go to TRL's trainer (`peft_config`,
    `callbacks`, `optimizers`). ValueError for `beta` above 0 without adapters, whose reference TRL would load
    from the hub, and under ZeRO 3, where no session can run."""

    def __init__(
        self,
        model: Any,
        processor: Processor,
        reward: TaskReward,
        args: StreamGRPOConfig | None = None,
        **options: Any,
    ) -> None:
        args = args or StreamGRPOConfig(output_dir="grpo")
        base = unwrapped(model)
        need_exact(base, "GRPO, whose ratios are of what was drawn,")
        adapters = isinstance(model, PeftModel) or options.get("peft_config") is not None
        if args.beta and not adapters:
            raise ValueError("beta above 0 needs a reference: train adapters (peft_config), or set beta=0.0")
        if args.deepspeed_plugin is not None and args.deepspeed_plugin.zero_stage == 3:
            raise ValueError("no session can run on weights that ZeRO 3 has cut to pieces: use ZeRO 2")
        base.generation_config = getattr(base, "generation_config", None) or GenerationConfig()
        self.processor, self.reward, self.rollouts = processor, reward, 0
        self.split = args.split
        self.sampling = Sampling(batch=args.rollout_rows, max_tokens=args.max_completion_length or 256)
        rows = [{"prompt": str(number)} for number in range(args.prompts)]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*rollout_func.*")
            super().__init__(
                model,
                reward_funcs=task_reward,
                args=args,
                train_dataset=Dataset.from_list(rows),
                processing_class=control_tokenizer(base.vocabulary),
                rollout_func=_rollout,
                **options,
            )
        install(unwrapped(self.model), lambda _: None)

    def roll_out(self, prompts: list[str]) -> dict[str, list[Any]]:
        """Replies to samples by their numbers, one each, in the form that TRL asks for."""
        samples = [self.reward.task.sample(int(prompt), self.split) for prompt in prompts]
        place = [self.args.seed, self.state.global_step, self.rollouts, self.accelerator.process_index]
        seeds = np.random.SeedSequence(place).generate_state(len(prompts)).tolist()
        self.rollouts += 1
        model = unwrapped(self.accelerator.unwrap_model(self.model))
        training = model.training
        model.eval()
        found = replies(model, self.processor, samples, seeds, self.sampling)
        model.train(training)
        rewards = [self.reward(each, reply.content) for each, reply in zip(samples, found, strict=True)]
        return {**_ids(found), "reward": rewards}

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Without TRL's model card, which tells how to load another kind of model."""
        Trainer._save_checkpoint(self, model, trial)


def _ids(found: list[Reply]) -> dict[str, list[Any]]:
    drawn = [[not math.isnan(value) for value in reply.log_probs] for reply in found]
    return {
        "prompt_ids": [reply.prompt for reply in found],
        "completion_ids": [reply.ids for reply in found],
        "logprobs": [[0.0 if math.isnan(x) else x for x in reply.log_probs] for reply in found],
        "env_mask": [[int(flag) for flag in flags] for flags in drawn],
    }


def _rollout(prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
    return trainer.roll_out(prompts)


def task_reward(prompts: list[str], reward: list[float | None], **_: Any) -> list[float | None]:
    """What the roll-out has scored."""
    return reward
