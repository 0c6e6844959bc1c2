"""Settings of the suite's own renderers, as plain data: no training renderer may use one of them.

`STYLES` are those of scenes, `MAZE_STYLES` those of mazes. White and black grounds, white floors and black
walls (`SHARED`) are everybody's; the other values of a style are the suite's alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

RGB = tuple[int, int, int]
SUPERSAMPLING = 6  # linear; a picture is painted this much larger, then averaged
SHARED = ((255, 255, 255), (0, 0, 0))
NAMES = (
    "palette",
    "ground_name",
    "mark",
    "size",
)  # settings that are names or sizes, not values of a renderer


@dataclass(frozen=True, kw_only=True)
class Style:
    """`ground`: its colour at the top left and at the bottom right; `ground_name`: what it is called.
    `outline`: width in radii; `contour`: of a dark line around solid objects, in radii. `rotation`: degrees,
    of every object. `scale`: of all radii. `star`: inner radius of a star in outer radii; `arm`: half the
    width of a cross in its half length; `bite`: how far the disc that is cut out of a moon is shifted, in
    radii (negative: open to the left). `corner`: radius of a square's corners, in radii. `jpeg`: quality, 0
    for none. `size`: (height, width) in pixels. `palette`: index into `PALETTES`."""

    ground: tuple[RGB, RGB]
    ground_name: str
    size: tuple[int, int]
    outline: float = 0.2
    contour: float = 0.0
    rotation: float = 0.0
    scale: float = 1.0
    star: float = 0.4
    arm: float = 0.3
    bite: float = 0.55
    corner: float = 0.0
    jpeg: int = 0
    palette: int = 0


PALETTES: tuple[dict[str, RGB], ...] = (
    {"red": (230, 25, 30), "orange": (255, 140, 0), "yellow": (255, 235, 20), "green": (20, 170, 40),
     "cyan": (0, 215, 230), "blue": (20, 60, 235), "purple": (140, 20, 190), "pink": (255, 120, 200),
     "white": (255, 255, 255), "black": (0, 0, 0)},
    {"red": (190, 30, 45), "orange": (240, 120, 40), "yellow": (240, 210, 60), "green": (60, 140, 70),
     "cyan": (80, 200, 215), "blue": (50, 85, 195), "purple": (110, 50, 160), "pink": (240, 130, 180),
     "white": (245, 245, 240), "black": (30, 30, 32)},
)  # fmt: skip

STYLES: tuple[Style, ...] = (
    Style(ground=((255, 255, 255), (255, 255, 255)), ground_name="white", size=(256, 256), outline=0.21),
    Style(ground=((0, 0, 0), (0, 0, 0)), ground_name="black", size=(128, 128), outline=0.31, star=0.36),
    Style(ground=((255, 255, 255), (255, 255, 255)), ground_name="white", size=(200, 200), outline=0.16,
          contour=0.07, rotation=7, arm=0.34, corner=0.25, jpeg=84),
    Style(ground=((204, 229, 255), (204, 229, 255)), ground_name="light blue", size=(96, 96), outline=0.26,
          rotation=-8, bite=-0.6, jpeg=62, palette=1),
    Style(ground=((255, 224, 230), (255, 224, 230)), ground_name="light pink", size=(192, 256), outline=0.24,
          scale=1.06, star=0.46, arm=0.26),
    Style(ground=((250, 250, 250), (214, 206, 232)), ground_name="white", size=(160, 160), outline=0.27,
          scale=0.93, rotation=11, corner=0.15, jpeg=47, palette=1),
    Style(ground=((58, 60, 64), (22, 24, 40)), ground_name="dark grey", size=(180, 240), outline=0.18,
          bite=0.48, jpeg=91, palette=1),
    Style(ground=((224, 242, 210), (224, 242, 210)), ground_name="light green", size=(72, 72), outline=0.33,
          rotation=5, star=0.42, contour=0.05),
    Style(ground=((255, 248, 220), (240, 214, 170)), ground_name="cream", size=(320, 240), outline=0.28,
          scale=1.1, bite=-0.5, jpeg=33),
    Style(ground=((255, 255, 255), (255, 255, 255)), ground_name="white", size=(64, 64), outline=0.23,
          scale=1.03, rotation=-4, arm=0.36, palette=1),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MazeStyle:
    """`wall`: width in cells; `margin`: in cells; `size`: pixels of a cell's pitch. `start` is the arrow's
    colour, `goal` that of the mark, a `mark` of "disc", "star", "square" or "ring"; `reach`: size of both, in
    cells. No colour is blue, that of the way in a sketch."""

    floor: RGB
    wall_colour: RGB
    wall: float
    margin: float
    size: int
    start: RGB = (20, 150, 60)
    goal: RGB = (225, 30, 30)
    mark: str = "disc"
    reach: float = 0.3
    jpeg: int = 0


MAZE_STYLES: tuple[MazeStyle, ...] = (
    MazeStyle(floor=(255, 255, 255), wall_colour=(0, 0, 0), wall=0.06, margin=0.35, size=40),
    MazeStyle(floor=(255, 255, 255), wall_colour=(90, 90, 90), wall=0.2, margin=0.15, size=30, mark="star"),
    MazeStyle(floor=(250, 240, 215), wall_colour=(110, 60, 20), wall=0.16, margin=0.5, size=48, jpeg=73),
    MazeStyle(floor=(30, 32, 36), wall_colour=(230, 230, 225), wall=0.09, margin=0.25, size=36,
              start=(70, 210, 90), goal=(255, 80, 70)),
    MazeStyle(floor=(235, 235, 235), wall_colour=(40, 70, 60), wall=0.24, margin=0.1, size=28, mark="square",
              reach=0.24),
    MazeStyle(floor=(255, 255, 255), wall_colour=(20, 20, 20), wall=0.13, margin=0.8, size=44, mark="ring",
              reach=0.34, jpeg=52),
)  # fmt: skip


def setting_values() -> dict[str, set[float | RGB]]:
    """What each setting of the renderers takes in the suite, but for what is `SHARED` or turned off."""
    found: dict[str, set[float | RGB]] = {}
    for settings in (*map(asdict, STYLES), *map(asdict, MAZE_STYLES)):
        for name, value in settings.items():
            if name not in NAMES:
                values = value if name == "ground" else (value,)
                found.setdefault(name, set()).update(one for one in values if one not in (*SHARED, 0, 1))
    for palette in PALETTES:
        found.setdefault("palette", set()).update(one for one in palette.values() if one not in SHARED)
    return found
