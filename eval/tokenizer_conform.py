"""The conformance suite of visual tokenizers: what must hold for every one, for those of one's own too.

`tokenizer_checks(tokenizer)` asks any object with the interface of `tokenizers/visual.py`, in eval mode and
float32, whatever its form: a grid, a line of codes, clips, latents. `unified lab conform tokenizer:NAME`
prints it for a registered kind at a tiny size, for a folder, or for `module:NAME`, a tokenizer or a
function that makes one."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from unified.eval.check import Check
from unified.tokenizers.kinds import KINDS, Wanted, kind_name, kind_of
from unified.tokenizers.reconstruction import (
    Reconstruction,
    example,
    frames_of,
    reconstruct,
    side_of,
)
from unified.tokenizers.visual import Moment

CLOSE = 1e-3  # between images that differ by rounding alone, of a range of 2
TINY = Wanted(size=16, stride=4, codes=64, dim=4, tokens=16, frames=4)
Test = Callable[[Any], str]  # "" where the property holds, else what was found


def named_checks(name: str) -> Iterator[Check]:
    """Of a kind, a folder, or `module:NAME`. ValueError for none of these."""
    yield from tokenizer_checks(subject(name), name)


def tokenizer_checks(tokenizer: Any, name: str = "tokenizer") -> Iterator[Check]:
    """Every property in turn; one whose test ends in an error does not hold."""
    tokenizer.eval()
    for what, test in TESTS.items():
        try:
            found = test(tokenizer)
        except Exception as error:  # what a tokenizer of one's own may raise is not known here
            found = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        yield Check(name, what, not found, found)


def subject(name: str) -> Any:
    """The tokenizer of a name, a kind at its tiny size."""
    if name in KINDS:
        kind = kind_of(name)
        state = torch.get_rng_state()
        torch.manual_seed(0)
        tokenizer = kind.build(kind.small(TINY)).eval()
        torch.set_rng_state(state)
        return tokenizer
    if Path(name).is_dir():
        from unified.pretrained import load_tokenizer

        return load_tokenizer(name)
    module, sign, attribute = name.partition(":")
    if not sign:
        raise ValueError(f"no tokenizer {name!r}: give module:NAME, a folder, or one of {', '.join(KINDS)}")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name}: {error}") from None
    return found if hasattr(found, "decode_vectors") and not isinstance(found, type) else found()


# Properties -------------------------------------------------------------------------------------------------


def form(tokenizer: Any) -> str:
    """Images come back at their size; ids are int64, of the announced maps, in range."""
    images = example(tokenizer)
    found = reconstruct(tokenizer, images)
    if found.images.shape != images.shape or not found.images.isfinite().all():
        return f"{tuple(images.shape)} became {tuple(found.images.shape)}, or is not finite"
    if not tokenizer.codes:
        return ""
    lengths, expected = [item.shape[1] for item in found.ids], [h * w for h, w in found.shapes]
    if lengths != expected:
        return f"maps of {lengths} ids, announced were {expected}"
    ids = torch.cat(found.ids, dim=1)
    if ids.dtype != torch.int64 or not 0 <= int(ids.min()) <= int(ids.max()) < tokenizer.codes:
        return f"ids are {ids.dtype}, from {int(ids.min())} to {int(ids.max())}"
    return ""


def repeatable(tokenizer: Any) -> str:
    """Equal input, equal output; the global seed is not used."""
    images, state = example(tokenizer), torch.get_rng_state()
    one, other = reconstruct(tokenizer, images), reconstruct(tokenizer, images)
    if not torch.equal(torch.get_rng_state(), state):
        return "the global seed moved"
    return "" if _same(one, other) else "ids or images differ"


def batched(tokenizer: Any) -> str:
    """Each image of a batch as it is alone."""
    images = example(tokenizer, 3)
    together = reconstruct(tokenizer, images)
    for row in range(3):
        alone = reconstruct(tokenizer, images[row : row + 1])
        if any(not torch.equal(a[0], b[row]) for a, b in zip(alone.ids, together.ids, strict=True)):
            return f"image {row} has other ids in a batch"
        gap = float((alone.images[0] - together.images[row]).abs().max())
        if gap > CLOSE:
            return f"image {row} differs by {gap:.2g} in a batch"
    return ""


def sized(tokenizer: Any) -> str:
    """Any legal size; a tokenizer of one size refuses others."""
    if side := side_of(tokenizer):
        frames = (frames_of(tokenizer),) if frames_of(tokenizer) else ()
        return _refusal(lambda: tokenizer.encode(torch.zeros(1, 3, *frames, side, 2 * side)))
    for height, width in ((2, 5), (3, 3), (6, 2)):
        images = torch.zeros(1, 3, height * tokenizer.stride, width * tokenizer.stride)
        made = reconstruct(tokenizer, images).images
        if made.shape != images.shape:
            return f"{tuple(images.shape)} became {tuple(made.shape)}"
    return ""


def from_vectors(tokenizer: Any) -> str:
    """Vectors are rows of the codebook, and decode to what their ids decode to."""
    if not tokenizer.codes or tokenizer.codes > 2**16:
        return ""
    images = example(tokenizer)
    found = reconstruct(tokenizer, images)
    vectors = tokenizer.vectors(found.ids[-1])
    if not torch.equal(vectors, tokenizer.codebook()[found.ids[-1]]):
        return "vectors are no rows of the codebook"
    if len(tokenizer.read_shapes(found.shapes)) > 1:
        return ""
    grid = vectors.transpose(1, 2).unflatten(2, found.shapes[-1])
    with torch.no_grad():
        made = tokenizer.decode_vectors(grid).float().clamp(-1, 1)
    gap = float((made - found.images).abs().max())
    return "" if gap <= CLOSE else f"images differ by {gap:.2g}"


def read_part(tokenizer: Any) -> str:
    """The maps that are read stand for the image as well as all maps do."""
    if not tokenizer.codes:
        return ""
    images = example(tokenizer)
    found = reconstruct(tokenizer, images)
    with torch.no_grad():
        whole = tokenizer.decode_maps(found.ids, found.shapes).float().clamp(-1, 1)
    gap = float((whole - found.images).abs().max())
    return "" if gap <= CLOSE else f"images differ by {gap:.2g}"


def half(tokenizer: Any) -> str:
    """bfloat16 weights take float32 images and give finite ones."""
    narrow = copy.deepcopy(tokenizer).to(torch.bfloat16)
    images = example(tokenizer)
    made = reconstruct(narrow, images).images
    return "" if made.shape == images.shape and bool(made.isfinite().all()) else "images are not finite"


def stored(tokenizer: Any) -> str:
    """Saved and loaded it gives the same; a kind that is not registered has no files."""
    from unified.stream.visual_files import load_visual, save_visual

    try:
        kind_name(tokenizer)
    except ValueError:
        return ""
    images = example(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        save_visual(tokenizer, folder)
        loaded = load_visual(folder)
    if hasattr(tokenizer, "teacher"):
        loaded.teacher = tokenizer.teacher
    return "" if _same(reconstruct(tokenizer, images), reconstruct(loaded, images)) else "it gives others"


def images_refused(tokenizer: Any) -> str:
    """Images of other channels, types and dimensions end in one line."""
    images = example(tokenizer)
    encode = tokenizer.encode if tokenizer.codes else tokenizer.latent
    wrong = (images[:, :2], (images * 100).to(torch.uint8), images[0], images[..., :-1])
    return next(filter(None, (_refusal(partial(encode, given)) for given in wrong)), "")


def ids_refused(tokenizer: Any) -> str:
    """Ids out of range and maps of the wrong length end in one line."""
    if not tokenizer.codes:
        return ""
    images = example(tokenizer)
    found = reconstruct(tokenizer, images)
    read = tokenizer.read_shapes(found.shapes)
    ids = found.ids[-len(read) :]
    high = [torch.full_like(item, tokenizer.codes) for item in ids]
    short = [item[:, :-1] for item in ids]
    tries = (lambda: tokenizer.decode_maps(high, read), lambda: tokenizer.decode_maps(short, read))
    return next(filter(None, map(_refusal, tries)), "")


def trained(tokenizer: Any) -> str:
    """A training pass has a finite loss whose gradient reaches the first weights that images meet."""
    if not hasattr(tokenizer, "training_pass"):
        return ""
    learner = copy.deepcopy(tokenizer).requires_grad_(True).train()
    images = example(tokenizer)
    generator = torch.Generator().manual_seed(0)
    shapes = learner.training_shapes(images, 1, generator)
    features = None
    if wanted := getattr(getattr(tokenizer, "config", None), "features", 0):
        features = torch.zeros(len(images), wanted, 2, 2)
    moment = Moment(step=1, steps=10, features=features, noise=generator, shared=generator)
    result = learner.training_pass(images, shapes, 0.0, moment)
    total = result.loss + sum(item.float().square().mean() for item in result.images)
    if not total.isfinite():
        return f"the loss is {float(total)}"
    total.backward()
    reached = [parameter.grad is not None for parameter in learner.parameters()]
    share = sum(reached) / len(reached)
    return "" if share > 0.5 else f"only {share:.0%} of the weights have a gradient"


TESTS: dict[str, Test] = {
    "images come back at their size, ids in range": form,
    "equal input gives equal output, without the global seed": repeatable,
    "each image of a batch is as it is alone": batched,
    "any legal size, and no other": sized,
    "vectors are rows of the codebook and decode as ids do": from_vectors,
    "the maps that are read are enough": read_part,
    "bfloat16 weights give finite images": half,
    "saved and loaded it is the same": stored,
    "bad images end in one line": images_refused,
    "bad ids end in one line": ids_refused,
    "a training pass reaches the weights": trained,
}


def _same(one: Reconstruction, other: Reconstruction) -> bool:
    ids = all(map(torch.equal, one.ids, other.ids))
    return ids and bool(torch.allclose(one.images, other.images, atol=CLOSE))


def _refusal(call: Callable[[], Any]) -> str:
    """ "" if a call ends in a ValueError of one line."""
    try:
        call()
    except ValueError as error:
        return "" if "\n" not in str(error) else f"an error of several lines: {error}"
    except Exception as error:  # whatever else a tokenizer raises is what is reported
        return f"{type(error).__name__} in place of ValueError: {str(error).splitlines()[0]:.80}"
    return "bad input was taken"
