"""Questions about pictures in other words, two of three about pictures of the second renderer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from unified.eval.measurement import DATA_SEED
from unified.eval.suites.ood.asking import Case, Reply
from unified.eval.suites.ood.phrasings.questions import QUESTIONS
from unified.eval.suites.ood.pictures import framed
from unified.eval.suites.ood.scenes import Shown, show
from unified.eval.suites.ood.scoring import says
from unified.eval.suites.ood.wording import deck, filled, name_of, noun_phrase, with_article
from unified.tasks.sample import generator
from unified.tasks.scenes.choice import chance, pick
from unified.tasks.scenes.generate import allowed
from unified.tasks.scenes.questions import Query, answer
from unified.tasks.scenes.relations import clear, clear_cell
from unified.tasks.scenes.scene import VALUES, Filter, Scene, SceneObject

CHANNELS = ("verb", "chat", "verb", "verb", "long history")
HOLLOW = ("circle", "square", "triangle", "diamond", "heart")  # shapes whose outlines are seen at every size
RENDERERS = ("own renderer", "other renderer")
GROUNDS = {  # all that a ground may be called
    "cream": "cream/beige/yellow",
    "slate": "slate/grey/blue",
    "light blue": "blue/cyan",
    "light green": "green/sage",
    "dark grey": "grey/black/slate",
}
IN_WINDOWS = ("colour", "shape", "count", "existence")
Asked = tuple[dict[str, str], str]  # slots of the template, true answer


def question_cases(split: str, count: int) -> Iterator[Case]:
    """As many questions, all kinds in turn."""
    for number, (kind, template) in enumerate(deck(generator(DATA_SEED, split, 0), QUESTIONS, count)):
        rng = generator(DATA_SEED, split, number)
        second = number % 3 != 0
        shown, (slots, truth) = _asked(rng, split, kind, number, second)
        inside = second and kind in IN_WINDOWS and chance(rng, 0.3)
        picture = framed(rng, shown.picture) if inside else shown.picture
        words = filled(rng, template, slots)
        yield Case(
            kind=f"{'in a window' if inside else RENDERERS[second]}, {kind}",
            words=words,
            verb="ask",
            channel=CHANNELS[number % len(CHANNELS)],
            right=lambda reply, kind=kind, words=words, truth=truth: _right(reply, kind, words, truth),  # type: ignore[misc]
            truth=truth,
            picture=picture,
        )


def _right(reply: Reply, kind: str, words: str, truth: str) -> bool:
    return says(_reader(kind), reply.text, words) in truth.split("/")


def _reader(kind: str) -> str:
    first = kind.split()[0]
    return {"existence": "yes or no", "relation": "yes or no", "more": "yes or no", "larger": "yes or no",
            "same": "yes or no", "extreme": "object"}.get(first, first)  # fmt: skip


def _asked(rng: np.random.Generator, split: str, kind: str, number: int, second: bool) -> tuple[Shown, Asked]:
    """A picture of which a question of this kind can be asked, and that question."""
    while True:
        shown = show(rng, split, number, second)
        asked = _ground(shown) if kind == "ground" else _question(rng, split, kind, shown.scene)
        if asked is not None:
            return shown, asked


def _ground(shown: Shown) -> Asked | None:
    return {}, GROUNDS.get(shown.ground, shown.ground.split()[-1])


def _question(rng: np.random.Generator, split: str, kind: str, scene: Scene) -> Asked | None:
    first, _, detail = kind.partition(" ")
    if first in ("count", "existence", "more"):
        return _of_groups(rng, split, first, scene)
    if first == "extreme":
        query = Query(kind="extreme", detail=detail)
        return ({}, answer(query, scene)) if _one_extreme(scene, detail) else None
    if first in ("colour", "shape", "size", "fill", "where"):
        return _of_one(rng, first, scene)
    return _of_two(rng, first, detail, scene)


def _of_one(rng: np.random.Generator, kind: str, scene: Scene) -> Asked | None:
    item = pick(rng, scene.objects)
    name = name_of(rng, scene, item, without=kind)
    if name is None or (kind == "where" and not clear_cell(item)):
        return None
    if kind == "fill" and item.shape not in HOLLOW:
        return None
    return {"thing": name}, answer(Query(kind=kind, subject=_alone(item)), _only(scene, item))


def _alone(item: SceneObject) -> Filter:
    return Filter(shape=item.shape, colour=item.colour, size=item.size, fill=item.fill)


def _only(scene: Scene, item: SceneObject) -> Scene:
    return Scene(background=scene.background, objects=(item,))


def _of_two(rng: np.random.Generator, kind: str, detail: str, scene: Scene) -> Asked | None:
    if len(scene.objects) < 2:
        return None
    i, j = (int(k) for k in rng.permutation(len(scene.objects))[:2])
    a, b = scene.objects[i], scene.objects[j]
    without = "colour" if kind == "same" else "size" if kind == "larger" else ""
    names = [name_of(rng, scene, item, without) for item in (a, b)]
    relation = {"relation": detail, "side": "left"}.get(kind, "")
    if None in names or _alone(a) == _alone(b) or (relation and not clear(a, b, relation)):
        return None
    if kind == "larger" and a.size == b.size:
        return None
    detail = {"side": "left or right", "larger": "larger"}.get(kind, detail)
    query = Query(kind=kind, subject=_alone(a), other=_alone(b), detail=detail)
    pair = Scene(background=scene.background, objects=(a, b))
    return {"thing": str(names[0]), "other": str(names[1])}, answer(query, pair)


def _of_groups(rng: np.random.Generator, split: str, kind: str, scene: Scene) -> Asked | None:
    one, two = (_group(rng, scene) for _ in range(2))
    if not allowed(split, one.shape, one.colour) or not allowed(split, two.shape, two.colour):
        return None
    if kind == "more":
        numbers = [len(group.select(scene.objects)) for group in (one, two)]
        if one == two or numbers[0] == numbers[1]:
            return None
        slots = {"things": noun_phrase(rng, one, plural=True), "others": noun_phrase(rng, two, plural=True)}
        return slots, answer(Query(kind="more", subject=one, other=two, detail="more"), scene)
    truth = answer(Query(kind=kind, subject=one), scene)
    if kind == "existence":
        return {"one": with_article(noun_phrase(rng, one))}, truth
    return (
        ({"things": noun_phrase(rng, one, plural=True)}, truth) if truth != "0" or chance(rng, 0.2) else None
    )


def _group(rng: np.random.Generator, scene: Scene) -> Filter:
    """Attributes of an object of the scene, or one of them exchanged for another value."""
    item = pick(rng, scene.objects)
    names = pick(rng, (("shape",), ("colour",), ("colour", "shape")))
    values = {name: getattr(item, name) for name in names}
    if chance(rng, 0.5):
        name = pick(rng, names)
        values[name] = pick(rng, VALUES[name])
    return Filter(**values)


def _one_extreme(scene: Scene, detail: str) -> bool:
    places = sorted((item.x if detail == "leftmost" else item.y) for item in scene.objects)
    return len(places) > 1 and places[1] - places[0] >= 0.1
