"""Jobs of the server and what is told of them, for its tests."""

from unified.apps.answering import GenerationSettings
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.server.job import Drew, Ended, Extras, Failed, Job, Prompt, Said

SETTINGS = GenerationSettings(
    text_sampler=Sampler(temperature=1.0),
    image_sampler=Sampler(temperature=1.0),
    guidance=Constant(1.5),
    max_tokens=24,
    max_images=2,
)


class Heard:
    """A job and the events that were told of it."""

    def __init__(self, words, settings=SETTINGS, *, shapes, seed=0, client="", extras=None, seconds=120.0):
        content = words if isinstance(words, list) else [{"type": "text", "text": words}]
        prompt = Prompt([{"role": "user", "content": content}])
        self.events = []
        self.job = Job(
            prompt, settings, shapes, seed, self.events.append, client, seconds, extras or Extras()
        )

    @property
    def text(self):
        return "".join(event.text for event in self.events if isinstance(event, Said))

    @property
    def images(self):
        return [event.image for event in self.events if isinstance(event, Drew)]

    @property
    def last(self):
        return self.events[-1] if self.events else None

    @property
    def over(self):
        return isinstance(self.last, Ended | Failed)


def run(scheduler, heard, most=3000):
    """Tick until all of these jobs are over."""
    for _ in range(most):
        if all(one.over for one in heard):
            return
        scheduler.tick()
    raise AssertionError("the jobs do not end")
