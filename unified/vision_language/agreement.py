"""Whether a session computes what `transformers` computes, for families that the tests do not cover.

Architectures differ in scales, masks and positions that no interface tells of. So a family without a test is
run once both ways, on some ids and on one image, before it is used.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unified.decoding.session import Session
from unified.vision_language.model import PretrainedReader
from unified.vision_language.processor import PretrainedProcessor, Prompt
from unified.weight_files import first_line

COVERED = (
    *("qwen2_5_vl", "qwen3_vl", "gemma3", "idefics3", "llava_onevision", "internvl"),
    *("llama", "qwen2", "qwen3", "gemma3_text"),
)
CLOSE, CLOSE_HALF = 1e-3, 5e-2  # of the largest logit, in float32 and in half precision


def check_agreement(model: PretrainedReader, processor: PretrainedProcessor) -> None:
    """ValueError, in one line, unless the last logits agree."""
    kind, close = model.config.model_type, CLOSE if model.dtype == torch.float32 else CLOSE_HALF
    try:
        pairs = [both(model, prompt) for prompt in _prompts(model, processor)]
    except Exception as error:  # whatever an unknown architecture does not have
        reason = first_line(error)
        raise ValueError(f"{kind} is not supported: a session cannot run it ({reason})") from None
    if not all((ours - theirs).abs().max() <= close * theirs.abs().max() for ours, theirs in pairs):
        raise ValueError(f"{kind} is not supported: a session does not compute what transformers does")


@torch.no_grad()
def both(model: PretrainedReader, prompt: Prompt) -> tuple[Tensor, Tensor]:
    """The logits [V] after a prompt of a session and of the model itself, in float32."""
    session = Session(model)
    session.feed(prompt.ids, values=model.values(prompt.inputs))
    assert session.last is not None
    given = {name: tensor.to(model.device) for name, tensor in prompt.tensors().items()}
    theirs = model.pretrained(**given).logits[0, -1]
    return model.all_logits(session.last)[0].float(), theirs.float()


def _prompts(model: PretrainedReader, processor: PretrainedProcessor) -> list[Prompt]:
    taken = {model.image, *model.ends}
    found = [Prompt([token for token in range(3, 20) if token not in taken], {})]
    if model.sees and getattr(processor.processor, "chat_template", None):
        grey = np.linspace(0, 255, 48 * 64 * 3).astype(np.uint8).reshape(48, 64, 3)
        found.append(processor.prompt([{"role": "user", "content": [{"type": "image", "image": grey}]}]))
    return found
