"""One pass of the model for every step of an image and every token of a text: the usual decoding."""

from __future__ import annotations

from collections.abc import Iterator

from unified.decoding.drawing import Choice
from unified.decoding.image import ImageRun
from unified.decoding.text import TextRun


class OnePass:
    """The default strategy."""

    def image(self, run: ImageRun) -> Iterator[Choice]:
        for step in range(len(run.request.plan.steps)):
            yield run.step(step)

    def text(self, run: TextRun) -> Iterator[list[int | None]]:
        session = run.session
        for _ in range(run.max_tokens):
            logits = run.logits(*(context.last[0][0][:, None] for context in run.contexts))
            drawn = run.sampler.draw(logits[:, :, None], session.noise, run.places())
            found = zip(session.rows, drawn.symbols.flatten().tolist(), run.scores(drawn), strict=True)
            said = [session.say(row, token, score) for row, token, score in found]
            if any(token is not None for token in said):
                yield said
            if all(row.stopped for row in session.rows):
                return
            session.read_pending()
            session.stats.passes += 1
            run.read_blind([[] if token is None else [token] for token in said])
