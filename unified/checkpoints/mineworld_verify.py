"""The published MineWorld transformer against ours: every tensor and every call of a golden folder.

Runs that a `Session` can make (raster, and diagonal with the newest code as stand-in) are made by one too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unified.cache.policy import Full
from unified.checkpoints.check import Check, exact
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import prefixes, read_config
from unified.checkpoints.mineworld import MineWorldTransformer, load
from unified.checkpoints.mineworld_config import ACTION_SLOTS, config_from
from unified.checkpoints.mineworld_schedule import Call, Decoder, PlacedCache
from unified.checkpoints.mineworld_session import Played
from unified.checkpoints.state_dict import read_safetensors, read_weights
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.text_files import content_of, read_object

RUN = re.compile(
    r"(?P<kind>naive|img|vid|play)_(?:p\d+|w(?P<window>\d+)|raster)(?P<variant>_stale|_samerow)?"
)
FILTER = re.compile(r"sampling\.top(?P<filter>[kp])(?P<value>[\d.]+)_T(?P<temperature>[\d.]+)\.probs")
INPUTS = ("input_ids", "position_ids", "prompt_ids", "actions", "first_prompt_ids", "first_actions",
          "prefix_ids", "sel_positions")  # fmt: skip
Stored = Mapping[str, Tensor]


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this transformer."""
    return "transformer_config" in config and "tokens_per_action" in config


def load_folder(folder: Path, prefix: str = "") -> MineWorldTransformer:
    """The transformer of a golden folder. ValueError with a short reason if anything does not fit."""
    options = read_config(folder, prefix)
    grid = (options["rows"], options["cols"])
    config = config_from(options["transformer_config"], grid=grid, codes=options["visual_vocab"])
    return load(config, read_weights(folder / f"{prefix}weights.safetensors"))


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output, of each config in the folder. ValueError for an unusable folder."""
    for prefix in prefixes(folder):
        model = load_folder(folder, prefix)
        stored = read_safetensors(folder / f"{prefix}io.safetensors")
        path = folder / f"{prefix}traces.json"
        traces = read_object(path) if path.is_file() else {}
        for check in _checks(model, stored, traces):
            yield Check(f"{prefix}{check.name}", check.ok, check.detail)


def _checks(model: MineWorldTransformer, stored: Stored, traces: Mapping[str, Any]) -> Iterator[Check]:
    computed = {**_forced(model, stored), **_holes(model, stored), **_filtered(model, stored)}
    calls: dict[str, list[Call]] = {}
    names = dict.fromkeys(name.split(".")[0] for name in stored if RUN.fullmatch(name.split(".")[0]))
    for name in names:
        found, calls[name] = _run(model, stored, name)
        computed |= {f"{name}.{what}": value for what, value in found.items()}
    wanted = {
        name: value.long() if not value.is_floating_point() else value for name, value in stored.items()
    }
    yield from compare(wanted, computed, _is_input, lambda _: Tolerance(1e-4, 1e-4))
    for name, want in traces.items():
        with content_of("traces.json"):
            check = _calls(f"{name}, calls", calls.get(name, []), want, model.config.codes)
        yield check
    for name in names:
        match = RUN.fullmatch(name)
        if match and match["kind"] in ("naive", "play"):
            codes = _in_session(model, stored, name)
            yield exact(f"{name}.output_ids, in a session", codes, wanted[f"{name}.output_ids"])


def _is_input(name: str) -> bool:
    return name.split(".")[-1] in INPUTS or name == "sampling.logits"


# Teacher forcing ------------------------------------------------------------------------------------------


@torch.no_grad()
def _forced(model: MineWorldTransformer, stored: Stored) -> dict[str, Tensor]:
    if "tf.input_ids" not in stored:
        return {}
    ids = stored["tf.input_ids"].long()
    kept: dict[str, Tensor] = {}
    decoder = model.transformer.model
    handles = [
        layer.register_forward_hook(_keep(kept, f"layer{n}.out")) for n, layer in enumerate(decoder.layers)
    ]
    handles.append(decoder.norm.register_forward_hook(_keep(kept, "final_norm")))
    logits = model(ids)
    for handle in handles:
        handle.remove()
    caches = [PlacedCache(model), PlacedCache(model)]
    first = min(model.config.step, ids.shape[1])
    whole, chunked = Decoder(model, caches[0]), Decoder(model, caches[1])
    whole.call(ids[0].tolist(), range(ids.shape[1]))
    for part in (range(first), range(first, ids.shape[1])):
        chunked.call(ids[0, part.start : part.stop].tolist(), part)
    codes, table = logits[0, :, : model.config.codes], torch.arange(model.config.context)[None]
    cos, sin = decoder.rotary_emb(logits, table)
    chosen = stored.get("tf.sel_positions")
    found = kept | {
        "embed": model.embed(ids),
        "logits": logits,
        "chunked_logits": torch.cat([call.logits for call in chunked.calls])[None],
        "rope_cos": cos[0],
        "rope_sin": sin[0],
        "logsumexp": logits.logsumexp(dim=-1),
        "argmax_visual": codes.argmax(dim=-1)[None],
        "max_visual": codes.amax(dim=-1)[None],
        **_caches(caches[0]),
    }
    if chosen is not None:
        found["sel_logits"] = logits[:, chosen.long()]
    return {f"tf.{name}": value for name, value in found.items()}


def _keep(found: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        found[name] = (output if isinstance(output, Tensor) else output[0]).detach()

    return hook


def _caches(cache: PlacedCache) -> dict[str, Tensor]:
    """[layers, places, G, D] as stored."""
    return {"cache_k": cache.keys[:, 0].transpose(1, 2), "cache_v": cache.values[:, 0].transpose(1, 2)}


def _holes(model: MineWorldTransformer, stored: Stored) -> dict[str, Tensor]:
    """Ids at places with gaps between them: what was not written is attended to as zeros."""
    if "holes.prefix_ids" not in stored:
        return {}
    decoder, prefix = Decoder(model, PlacedCache(model)), stored["holes.prefix_ids"][0].tolist()
    decoder.call(prefix, range(len(prefix)))
    decoder.call(stored["holes.input_ids"][0].tolist(), stored["holes.position_ids"].tolist())
    return {"holes.logits": decoder.calls[-1].logits[None]}


def _filtered(model: MineWorldTransformer, stored: Stored) -> dict[str, Tensor]:
    """Probabilities of codes after temperature and a filter."""
    found = {}
    for match in filter(None, map(FILTER.fullmatch, stored)):
        value, temperature = float(match["value"]), float(match["temperature"])
        top = {"top_k": int(value)} if match["filter"] == "k" else {"top_p": value}
        if not value:
            top = {"top_k": 1}  # a nucleus of nothing keeps the likeliest
        logits = stored["sampling.logits"][:, : model.config.codes]
        found[match[0]] = Sampler(temperature=temperature, **top).filter(logits).softmax(dim=-1)
    return found


# Decoding -------------------------------------------------------------------------------------------------


def _run(model: MineWorldTransformer, stored: Stored, name: str) -> tuple[dict[str, Tensor], list[Call]]:
    """A run by the published loops: its tensors by name, and its calls."""
    match = RUN.fullmatch(name)
    assert match is not None
    window = int(match["window"] or model.config.grid[1])
    decoder = Decoder(model, PlacedCache(model))
    prompt, actions = _told(stored, name)
    found: dict[str, Tensor] = {}
    newest = (lambda _, code: code) if match["variant"] == "_samerow" or match["kind"] == "naive" else None
    if match["variant"] == "_stale":
        decoder.frames(*_told(stored, name, "first_"), window)
        decoder = Decoder(model, decoder.cache)
    if match["kind"] == "play":
        decoder.call(prompt, range(len(prompt)))
        decoder.calls.clear()
        codes, places = decoder.play(len(prompt), actions, window)
        found["next_position"] = torch.tensor(places)
        rows = [call.logits for call in decoder.calls]
    else:
        run = decoder.video if match["kind"] == "vid" else decoder.frames
        codes = run(prompt, actions, window, newest)
        rows = [call.logits for call in decoder.calls]
        rows[0] = rows[0][-1:]
    found |= {"output_ids": torch.tensor([codes]), "call_logits": torch.cat(rows), **_caches(decoder.cache)}
    return found, decoder.calls


def _told(stored: Stored, name: str, prefix: str = "") -> tuple[list[int], list[list[int]]]:
    """Ids of the prompt, and of the action before each frame."""
    prompt = stored[f"{name}.{prefix}prompt_ids"][0].tolist()
    return prompt, stored[f"{name}.{prefix}actions"][:, 0].tolist()


def _calls(name: str, got: list[Call], want: list[dict[str, list[int]]], codes: int) -> Check:
    """The schedule: ids fed, places, and the likeliest code after each. Long lists are stored by their
    ends."""
    wrong = abs(len(got) - len(want))
    for call, stated in zip(got, want, strict=False):
        ids, places, out = stated["ids"], stated["pos"], stated["out"]
        found = call.logits[:, :codes].argmax(dim=-1).tolist()
        short = len(places) == 2 and len(call.places) > 2
        same = [call.places[0], call.places[-1]] == places if short else call.places == places
        wrong += not (same and (not ids or ids == call.ids) and found[-len(out) :] == out)
    return Check(name, not wrong, f"{wrong} of {len(want)} calls differ (exact)")


def _in_session(model: MineWorldTransformer, stored: Stored, name: str) -> Tensor:
    """The same run through a `Session`: codes [1, frames * codes of one]."""
    match, config = RUN.fullmatch(name), model.config
    assert match is not None
    played, (prompt, actions) = Played(model), _told(stored, name)
    words = played.vocabulary
    session = Session(played, policy=Full())
    session.feed([token for ids in _steps(prompt, config.frame) for token in _segment(ids, played)])
    order = f"diagonal(window={match['window']})" if match["window"] else "raster"
    order = "diagonal" if match["window"] == "1" else order
    found = []
    for action in actions:
        session.feed([words.action_start + token - config.codes for token in action])
        found.append(session.draw([config.grid], order=order, sampler=Sampler(temperature=0)).codes)
    return torch.cat(found, dim=1)


def _steps(prompt: list[int], frame: int) -> list[list[int]]:
    """The frames and actions that a prompt is made of, in turn."""
    found: list[list[int]] = []
    start = 0
    while start < len(prompt):
        length = ACTION_SLOTS if len(found) % 2 else frame
        found.append(prompt[start : start + length])
        start += length
    return found


def _segment(ids: list[int], played: Played) -> list[int]:
    """Ids of the checkpoint, of one frame or one action, as ids of the stream."""
    words, config = played.vocabulary, played.config
    if len(ids) == ACTION_SLOTS and ids[0] >= config.codes:
        return [words.action_start + token - config.codes for token in ids]
    return words.read_segment(ids, [config.grid])
