"""`model.generate` as callers of `transformers` know it, by a `Session`: text after prompts.

Images are not begun here: a session writes them step by step, `unified.load(...).draw` in one call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unified.decoding.drawing import Generator
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session

LONGEST = 20  # new ids where none is asked for: the library's default
NEUTRAL: dict[str, tuple[Any, ...]] = {  # what other loops are told, and the values that change nothing here
    "attention_mask": (),  # any: `<|pad|>` ids say what is padding
    "use_cache": (None, True, False),
    "output_attentions": (None, False),
    "output_hidden_states": (None, False),
    "output_scores": (None, False),
    "output_logits": (None, False),
    "num_beams": (None, 1),
    "num_return_sequences": (None, 1),
    "repetition_penalty": (None, 1.0),
    "return_dict_in_generate": (None, False),
    "synced_gpus": (None, False),
    "logits_processor": (None,),
    "stopping_criteria": (None,),
    "assistant_model": (None,),
    "tokenizer": (),
}


def generate(
    model: Generator,
    input_ids: Tensor | None = None,
    *,
    max_new_tokens: int | None = None,
    do_sample: bool | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    **options: Any,
) -> Tensor:
    """Prompts [B, T], `<|pad|>` on either side of a row, -> [B, T + n] with at most n = `max_new_tokens` new
    ids in each row, `<|pad|>` after a row's `<|end|>`. Greedy unless `do_sample`. Among `options`:
    `generation_config` (of what is not given here), `seed` (None: from PyTorch's generator, which
    `transformers.set_seed` seeds), `streamer` (one row), `pad_token_id` and `eos_token_id` (the model's own
    alone). ValueError for options that would change the text and are not known here."""
    given: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": do_sample}
    given |= {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    config, seed, streamer = (options.pop(name, None) for name in ("generation_config", "seed", "streamer"))
    chosen: dict[str, Any] = {
        name: getattr(config, name, None) if value is None else value for name, value in given.items()
    }
    _check(model, options)
    if input_ids is None or input_ids.ndim != 2:
        raise ValueError("generate continues prompts: give input_ids [B, T], such as a processor's")
    if streamer is not None and len(input_ids) != 1:
        raise ValueError(f"a streamer takes one row, got {len(input_ids)}")
    seed = int(torch.randint(2**31, ())) if seed is None else seed
    prompts = [[token for token in row if token != model.vocabulary.pad] for row in input_ids.tolist()]
    session = Session(model, rows=len(prompts), seed=seed)
    session.feed(prompts)
    if streamer is not None:
        streamer.put(input_ids.cpu())
    most = chosen["max_new_tokens"] or LONGEST
    for ids in session.text(sampler=_sampler(chosen), max_tokens=most, draw=False):
        if streamer is not None:
            streamer.put(torch.tensor(ids))
    if streamer is not None:
        streamer.end()
    new = [row[len(prompt) :] for row, prompt in zip(session.streams, prompts, strict=True)]
    width = max(map(len, new))
    padded = [[*row, *[model.vocabulary.pad] * (width - len(row))] for row in new]
    tail = torch.tensor(padded, dtype=input_ids.dtype, device=input_ids.device).view(len(new), width)
    return torch.cat([input_ids, tail], dim=1)


def _sampler(chosen: dict[str, Any]) -> Sampler:
    if not chosen["do_sample"]:
        return Sampler(temperature=0)
    temperature, top_k, top_p = (chosen[name] for name in ("temperature", "top_k", "top_p"))
    return Sampler(
        temperature=1.0 if temperature is None else temperature, top_k=top_k or 0, top_p=top_p or 0.0
    )


def _check(model: Generator, options: dict[str, Any]) -> None:
    words = model.vocabulary
    own: dict[str, Any] = {"pad_token_id": words.pad, "eos_token_id": words.end}
    for name, value in options.items():
        if name in own:
            if value not in (None, own[name], [own[name]]):
                raise ValueError(f"{name} is {own[name]} in this model, got {value}")
        elif name not in NEUTRAL:
            raise ValueError(f"generate takes no option {name!r} here; a Session has more ways to generate")
        elif NEUTRAL[name] and value not in NEUTRAL[name]:
            raise ValueError(f"generate takes {name}={NEUTRAL[name][-1]!r} alone here, got {value!r:.60}")
