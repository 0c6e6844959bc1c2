"""The picture: one ray per pixel through the grid, textured, lit, fogged, with water, sky and sea.

`draw_world` fills a frame; all it needs to know of blocks is in the tables of `blocks.py` and `textures.py`.
The world ends in an endless sea, so an island looks like one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from unified.envs.voxel.blocks import GLOWS, LOOK, OUTSIDE, WATER
from unified.envs.voxel.noise import value_noise
from unified.envs.voxel.textures import CRACK_STAGES, CRACKS, FACE_TILES, TILES
from unified.envs.voxel.world import FULL_LIGHT, World

HORIZON = (196.0, 216.0, 240.0)
ZENITH = (104.0, 158.0, 238.0)
SEA = (38.0, 80.0, 178.0)  # deep water in full light
CLOUD_CELL = 7.0
# Towards the sun: low enough to be seen, from the side that is lit by `_SIDE_X`.
SUN = (0.62, 0.52, -0.587)
_TOP, _BOTTOM, _SIDE_X, _SIDE_Z = 1.0, 0.5, 0.64, 0.82

# Sunlight level 0..15 -> brightness; caves are dark but never black.
BRIGHTNESS = np.array([0.22 + 0.78 * 0.82 ** (FULL_LIGHT - level) for level in range(FULL_LIGHT + 1)])
# Cloud cover on a torus of 64 x 64 cells, uint8 0 or 1.
CLOUDS = (value_noise((64, 64), 4, 900) * 0.7 + value_noise((64, 64), 2, 901) * 0.3 > 0.6).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class View:
    """From where to look: eye [3] in blocks, angles and vertical field of view in degrees.

    target: the outlined block, or None; crack: how far it is broken, 0 to 1.
    """

    eye: np.ndarray
    yaw: float
    pitch: float
    field_of_view: float
    distance: float
    target: tuple[int, int, int] | None = None
    crack: float = 0.0


def draw_world(world: World, view: View, width: int, height: int) -> np.ndarray:
    """The view as [height, width, 3] uint8 RGB, row 0 at the top."""
    frame = np.empty((height, width, 3), dtype=np.uint8)
    stage = _stage(view)
    _cast(
        frame, world.cells, world.light, LOOK, GLOWS, FACE_TILES, TILES, CRACKS[min(stage, CRACK_STAGES - 1)],
        BRIGHTNESS, CLOUDS, _camera(view, height), view.distance, world.sea_level + 0.9,
        _target(view, world.cells.shape), stage >= 0,
    )  # fmt: skip
    return frame


def draw_worlds(
    cells: np.ndarray, light: np.ndarray, views: Sequence[View], sea_level: int, width: int, height: int
) -> np.ndarray:
    """The views of n worlds of one size, `cells` and `light` [n, x, y, z], as [n, height, width, 3] uint8, in
    one compiled loop over the worlds that threads share (NUMBA_NUM_THREADS)."""
    frames = np.empty((len(views), height, width, 3), dtype=np.uint8)
    stages = np.array([_stage(view) for view in views])
    _cast_all(
        frames, cells, light, LOOK, GLOWS, FACE_TILES, TILES, CRACKS, BRIGHTNESS, CLOUDS,
        np.stack([_camera(view, height) for view in views]), views[0].distance, sea_level + 0.9,
        np.array([_target(view, cells.shape[1:]) for view in views]), stages,
    )  # fmt: skip
    return frames


def _target(view: View, shape: tuple[int, ...]) -> int:
    """The flat index of the outlined cell in the padded grid, -1 for none."""
    if view.target is None:
        return -1
    x, y, z = view.target
    return ((x + 1) * shape[1] + y + 1) * shape[2] + z + 1


def _stage(view: View) -> int:
    """How far the target is broken, in stages; -1 for not at all."""
    return int(view.crack * CRACK_STAGES) if view.crack > 0 else -1


def _camera(view: View, height: int) -> np.ndarray:
    """Eye, forward, right and up as [4, 3]; right and up are per half a picture height."""
    yaw, pitch = math.radians(view.yaw), math.radians(view.pitch)
    sine, cosine, sine_p, cosine_p = math.sin(yaw), math.cos(yaw), math.sin(pitch), math.cos(pitch)
    zoom = math.tan(math.radians(view.field_of_view) / 2)
    forward = (-sine * cosine_p, -sine_p, cosine * cosine_p)
    right = (-cosine * zoom, 0.0, -sine * zoom)
    up = (-sine * sine_p * zoom, cosine_p * zoom, cosine * sine_p * zoom)
    return np.array([tuple(view.eye), forward, right, up])


@njit(cache=True, fastmath=True)
def _sky(clouds: np.ndarray, eye_y: float, x: float, z: float, dx: float, dy: float, dz: float) -> tuple:
    """Colour of the sky in a direction: gradient, square sun, blocky clouds."""  # pragma: no cover
    up = max(dy, 0.0)
    share = 1.0 - (1.0 - up) * (1.0 - up)
    red = HORIZON[0] + (ZENITH[0] - HORIZON[0]) * share
    green = HORIZON[1] + (ZENITH[1] - HORIZON[1]) * share
    blue = HORIZON[2] + (ZENITH[2] - HORIZON[2]) * share
    towards = dx * SUN[0] + dy * SUN[1] + dz * SUN[2]
    if towards > 0.9:
        # A square in the plane facing the sun: its sides are level and upright.
        level = (dx * -SUN[2] + dz * SUN[0]) / math.sqrt(SUN[0] * SUN[0] + SUN[2] * SUN[2])
        upright = math.sqrt(max(1.0 - towards * towards - level * level, 0.0))
        reach = max(abs(level), upright) / towards
        if reach < 0.085:
            return 255.0, 250.0, 214.0
        glow = 0.35 * max(0.0, 1.0 - (reach - 0.085) / 0.3)
        red += (255.0 - red) * glow
        green += (246.0 - green) * glow
        blue += (214.0 - blue) * glow
    if dy > 0.06:
        far = (74.0 - eye_y) / dy
        column = math.floor((x + dx * far) / CLOUD_CELL) & 63
        row = math.floor((z + dz * far) / CLOUD_CELL) & 63
        if clouds[column, row]:
            cover = min(1.0, (dy - 0.06) * 5.0) * 0.75
            red += (252.0 - red) * cover
            green += (253.0 - green) * cover
            blue += (255.0 - blue) * cover
    return red, green, blue


@njit(cache=True, fastmath=True)
def _smooth_light(
    light: np.ndarray, brightness: np.ndarray, front: int, along_u: int, along_v: int, u: float, v: float
) -> float:  # pragma: no cover
    """Brightness at (u, v) of a face: each corner averages the four open cells around it, as Minecraft does.

    Solid cells have no light, which darkens corners and edges (ambient occlusion).
    """
    centre = brightness[light[front]]
    low = brightness[light[front - along_v]]
    high = brightness[light[front + along_v]]
    left = brightness[light[front - along_u]]
    right = brightness[light[front + along_u]]
    c00 = centre + low + left + brightness[light[front - along_u - along_v]]
    c10 = centre + low + right + brightness[light[front + along_u - along_v]]
    c01 = centre + high + left + brightness[light[front - along_u + along_v]]
    c11 = centre + high + right + brightness[light[front + along_u + along_v]]
    near = c00 + (c10 - c00) * u
    far = c01 + (c11 - c01) * u
    return 0.25 * (near + (far - near) * v)


@njit(cache=True, fastmath=True)
def _cast(
    frame: np.ndarray,
    cells3: np.ndarray,
    light3: np.ndarray,
    look: np.ndarray,
    glows: np.ndarray,
    face_tiles: np.ndarray,
    tiles: np.ndarray,
    crack: np.ndarray,
    brightness: np.ndarray,
    clouds: np.ndarray,
    camera: np.ndarray,
    view_distance: float,
    sea_y: float,
    target: int,
    cracked: bool,
) -> None:  # pragma: no cover
    """Amanatides and Woo's grid walk for each pixel, over flat indices of the padded grid."""
    height, width = frame.shape[0], frame.shape[1]
    cells, light = cells3.ravel(), light3.ravel()
    stride_x, stride_y = cells3.shape[1] * cells3.shape[2], cells3.shape[2]
    ox, oy, oz = camera[0, 0], camera[0, 1], camera[0, 2]
    start_x, start_y, start_z = math.floor(ox), math.floor(oy), math.floor(oz)
    start = (start_x + 1) * stride_x + (start_y + 1) * stride_y + start_z + 1
    start_medium = WATER if cells[start] == WATER else 0
    pixel = 2.0 * math.sqrt(camera[3, 0] ** 2 + camera[3, 1] ** 2 + camera[3, 2] ** 2) / height
    fog_start = view_distance * 0.45
    for row in range(height):
        v_screen = 1.0 - (2.0 * row + 1.0) / height
        for column in range(width):
            u_screen = (2.0 * column + 1.0 - width) / height
            dx = camera[1, 0] + camera[2, 0] * u_screen + camera[3, 0] * v_screen
            dy = camera[1, 1] + camera[2, 1] * u_screen + camera[3, 1] * v_screen
            dz = camera[1, 2] + camera[2, 2] * u_screen + camera[3, 2] * v_screen
            scale = 1.0 / math.sqrt(dx * dx + dy * dy + dz * dz)
            dx *= scale
            dy *= scale
            dz *= scale
            if abs(dx) < 1e-9:
                dx = 1e-9
            if abs(dy) < 1e-9:
                dy = 1e-9
            if abs(dz) < 1e-9:
                dz = 1e-9
            gap_x, gap_y, gap_z = abs(1.0 / dx), abs(1.0 / dy), abs(1.0 / dz)
            step_x = stride_x if dx > 0 else -stride_x
            step_y = stride_y if dy > 0 else -stride_y
            step_z = 1 if dz > 0 else -1
            side_x = (start_x + 1 - ox if dx > 0 else ox - start_x) * gap_x
            side_y = (start_y + 1 - oy if dy > 0 else oy - start_y) * gap_y
            side_z = (start_z + 1 - oz if dz > 0 else oz - start_z) * gap_z
            index = start
            medium = start_medium
            wet_from, wet = 0.0, 0.0
            surface_light, through_surface = 1.0, False
            axis = 1
            t = 0.0
            red, green, blue = 0.0, 0.0, 0.0
            hit = False
            while t < view_distance:
                if side_x < side_y:
                    if side_x < side_z:
                        t = side_x
                        side_x += gap_x
                        index += step_x
                        axis = 0
                    else:
                        t = side_z
                        side_z += gap_z
                        index += step_z
                        axis = 2
                elif side_y < side_z:
                    t = side_y
                    side_y += gap_y
                    index += step_y
                    axis = 1
                else:
                    t = side_z
                    side_z += gap_z
                    index += step_z
                    axis = 2
                block = cells[index]
                if block == medium:
                    continue
                if block == OUTSIDE:
                    break
                if block == 0:  # out of the water
                    wet += t - wet_from
                    medium = 0
                    continue
                step = step_x if axis == 0 else (step_y if axis == 1 else step_z)
                if block == WATER:
                    medium = WATER
                    wet_from = t
                    through_surface = True
                    surface_light = brightness[light[index - step]]
                    continue
                px, py, pz = ox + dx * t, oy + dy * t, oz + dz * t
                px -= math.floor(px)
                py -= math.floor(py)
                pz -= math.floor(pz)
                if axis == 0:
                    u, v, face, slope = pz, py, 0, abs(dx)
                    shade = _SIDE_X
                    along_u, along_v = 1, stride_y
                elif axis == 2:
                    u, v, face, slope = px, py, 0, abs(dz)
                    shade = _SIDE_Z
                    along_u, along_v = stride_x, stride_y
                else:
                    u, v, slope = px, pz, abs(dy)
                    face = 1 if dy < 0 else 2
                    shade = _TOP if dy < 0 else _BOTTOM
                    along_u, along_v = stride_x, 1
                # A pixel covers `spread` texels; choose the level that averages about as many.
                spread = 16.0 * t * pixel / math.sqrt(max(slope, 0.05))
                level = 0
                while spread > 1.4 and level < 4:
                    spread *= 0.5
                    level += 1
                texel_u = min(int(u * 16.0), 15)
                texel_v = min(int((1.0 - v) * 16.0), 15)
                tile = face_tiles[block, face]
                if tiles[level, tile, texel_v, texel_u, 3] == 0:
                    continue
                hit = True
                if glows[block]:
                    lit = 0.92 + 0.08 * shade
                elif t < 28.0:
                    lit = shade * _smooth_light(light, brightness, index - step, along_u, along_v, u, v)
                else:
                    lit = shade * brightness[light[index - step]]
                if index == target:
                    line = max(0.02, 0.7 * t * pixel)
                    if u < line or u > 1.0 - line or v < line or v > 1.0 - line:
                        lit *= 0.3
                    elif cracked and crack[texel_v, texel_u]:
                        lit *= 0.4
                red = tiles[level, tile, texel_v, texel_u, 0] * lit
                green = tiles[level, tile, texel_v, texel_u, 1] * lit
                blue = tiles[level, tile, texel_v, texel_u, 2] * lit
                break
            if not hit:
                red, green, blue = _sky(clouds, oy, ox, oz, dx, dy, dz)
                t = view_distance
                far = -1.0
                if medium == WATER:
                    far = wet_from
                elif dy < 0 and oy > sea_y:
                    far = (sea_y - oy) / dy
                if far >= 0.0:
                    # Beyond the island: the sea, fading into the horizon.
                    fog = max(0.0, (far - fog_start) / (2.5 * view_distance - fog_start))
                    fog = min(fog, 1.0)
                    red = SEA[0] + (HORIZON[0] - SEA[0]) * fog
                    green = SEA[1] + (HORIZON[1] - SEA[1]) * fog
                    blue = SEA[2] + (HORIZON[2] - SEA[2]) * fog
                    medium, wet = 0, 0.0
            elif t > fog_start:
                fog = (t - fog_start) / (view_distance - fog_start)
                fog = min(fog * fog, 1.0)
                red += (HORIZON[0] - red) * fog
                green += (HORIZON[1] - green) * fog
                blue += (HORIZON[2] - blue) * fog
            if medium == WATER:
                wet += t - wet_from
            if wet > 0.0:
                cover = wet / (wet + 7.0)
                if through_surface:
                    cover = 0.42 + 0.58 * cover
                red += (SEA[0] * surface_light - red) * cover
                green += (SEA[1] * surface_light - green) * cover
                blue += (SEA[2] * surface_light - blue) * cover
            frame[row, column, 0] = int(min(red, 255.0))
            frame[row, column, 1] = int(min(green, 255.0))
            frame[row, column, 2] = int(min(blue, 255.0))


@njit(cache=True, parallel=True)
def _cast_all(
    frames: np.ndarray,
    cells: np.ndarray,
    light: np.ndarray,
    look: np.ndarray,
    glows: np.ndarray,
    face_tiles: np.ndarray,
    tiles: np.ndarray,
    cracks: np.ndarray,
    brightness: np.ndarray,
    clouds: np.ndarray,
    cameras: np.ndarray,
    view_distance: float,
    sea_y: float,
    targets: np.ndarray,
    stages: np.ndarray,
) -> None:  # pragma: no cover
    """`_cast` for each of n worlds."""
    for n in prange(len(frames)):
        crack = cracks[min(stages[n], len(cracks) - 1)]
        _cast(
            frames[n], cells[n], light[n], look, glows, face_tiles, tiles, crack, brightness, clouds,
            cameras[n], view_distance, sea_y, targets[n], stages[n] >= 0,
        )  # fmt: skip
