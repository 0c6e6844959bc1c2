"""The tasks made of clips: `world_frames`, `world_actions`, `world_play` and `world_recordings`."""

from __future__ import annotations

from typing import Any

from unified.tasks.sample import Sample, check_index, check_split
from unified.tasks.worlds.clips import Clip, WorldConfig, watch
from unified.tasks.worlds.forms import FORMS, Content
from unified.tasks.worlds.lookahead import WorldLookahead
from unified.tasks.worlds.recorded import RecordedClips, RecordingsConfig


class WorldTask:
    """What the tasks of the voxel world share. Implements `unified.tasks.sample.Task`."""

    name = ""
    form = ""

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config or WorldConfig()

    def sample(self, index: int, split: str = "train") -> Sample:
        """The sample with this number, the same every time. Raises ValueError for an unknown split or a bad
        index."""
        check_split(split)
        check_index(index)
        return _sample(self.name, self.form, watch(self.config, int(index), split))

    def score(self, sample: Sample, answer: Content) -> dict[str, float]:
        """See `scoring`; the items of an answer are compared with the last as many steps of the clip."""
        return FORMS[self.form].score(sample, answer)


class WorldFrames(WorldTask):
    """Voxel world: a frame and an action, then the next frame, and so on."""

    name, form = "world_frames", "frames"


class WorldActions(WorldTask):
    """Voxel world: two frames, then the action between them, and so on."""

    name, form = "world_actions", "actions"


class WorldPlay(WorldTask):
    """Voxel world: a task and a frame, then what a good player does, and so on."""

    name, form = "world_play", "play"


class WorldRecordings:
    """Recordings on disk (option `folder`), asked about like the voxel world (option `form`)."""

    name = "world_recordings"

    def __init__(self, config: RecordingsConfig) -> None:
        self.config = config
        self._clips = RecordedClips(config)

    def count(self, split: str = "train") -> int:
        """How many clips a split is cut into."""
        return self._clips.count(split)

    def fingerprint(self) -> str:
        """Hash of all recordings, see `RecordedClips`."""
        return self._clips.fingerprint

    def sample(self, index: int, split: str = "train") -> Sample:
        """The sample with this number, the same every time. Raises ValueError where nothing can be read."""
        check_index(index)
        return _sample(self.name, self.config.form, self._clips.clip(int(index), split))

    def score(self, sample: Sample, answer: Content) -> dict[str, float]:
        return FORMS[self.config.form].score(sample, answer)


def _sample(name: str, form: str, clip: Clip) -> Sample:
    meta = {"category": form, "text": clip.text, **clip.source}
    return Sample(task=name, messages=FORMS[form].messages(clip), meta=meta)


TASKS: dict[str, Any] = {
    task.name: task for task in (WorldFrames, WorldActions, WorldPlay, WorldLookahead, WorldRecordings)
}
