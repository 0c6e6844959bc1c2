"""Settings of imagined episodes; every field can be passed to `gymnasium.make` and `gymnasium.make_vec`."""

from __future__ import annotations

from dataclasses import dataclass

from unified.apps.dream import WINDOW
from unified.decoding.sampling import Sampler

MOST_UNDO = 1_000_000
TEMPERATURE, TOP_P = 0.7, 0.8  # sharp for some sixteen frames, where the mean over codes is fog after four


@dataclass(frozen=True, kw_only=True)
class WorldModelConfig:
    """`window`: frames that are read. `temperature` and `top_p` of the codes, or a whole `sampler` in their
    place; temperature 0 is greedy. `mean`: frames are shown as means over codes, which have the least error
    and are blurred; None: where decoding is greedy. `max_steps`: an episode is truncated after so many, 0 is
    never. `size`: (height, width) of the frames in pixels, any that the model can draw; None: that of a start
    image, else a square of the model's side. `undo`: steps that `step_back` can take back. ValueError for
    values out of range."""

    window: int = WINDOW
    temperature: float = TEMPERATURE
    top_p: float = TOP_P
    sampler: Sampler | None = None
    mean: bool | None = None
    max_steps: int = 0
    size: tuple[int, int] | None = None
    undo: int = 16

    def __post_init__(self) -> None:
        for name, least in (("window", 1), ("max_steps", 0), ("undo", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if self.undo > MOST_UNDO:
            raise ValueError(f"undo must be at most {MOST_UNDO}, got {self.undo}")
        if self.mean is not None and not isinstance(self.mean, bool):
            raise ValueError(f"mean must be True, False or None, got {self.mean!r}")
        if self.sampler is not None and not isinstance(self.sampler, Sampler):
            raise ValueError(f"sampler must be a Sampler, got {type(self.sampler).__name__}")
        self.decoding  # noqa: B018 - checks temperature and top_p

    @property
    def decoding(self) -> Sampler:
        """How codes are chosen."""
        return self.sampler or Sampler(temperature=self.temperature, top_p=self.top_p)


def config_of(config: WorldModelConfig | None, settings: dict[str, object]) -> WorldModelConfig:
    """A configuration given as one object or as single settings. ValueError for both, or unknown ones."""
    if config is not None and settings:
        raise ValueError("give either config or single settings, not both")
    if config is not None and not isinstance(config, WorldModelConfig):
        raise ValueError(f"config must be a WorldModelConfig, got {type(config).__name__}")
    try:
        return config or WorldModelConfig(**settings)  # type: ignore[arg-type]
    except TypeError as error:
        raise ValueError(f"unknown setting of the world model: {error}") from None
