"""How a player moves: Minecraft 1.16's walking, jumping, swimming and colliding, one tick at a time.

Numbers are those of the game's `LivingEntity` and `Player` (as described on minecraft.wiki, "Transportation",
"Entity motion"), so on flat ground: 4.317 m/s walking, 5.612 sprinting, 1.295 sneaking, 1.25 blocks of jump.
Left out: falling damage, steps of half a block, currents.
"""

import numpy as np
from numba import njit

# Places in `body`, float64 [8]. Position is that of the feet's centre; yaw 0 looks along +z, 90 along -x.
X, Y, Z, VX, VY, VZ, YAW, PITCH = range(8)
# Places in `status`, int64 [5].
ON_GROUND, SPRINTING, IN_WATER, JUMP_WAIT, COLLIDED = range(5)

HALF_WIDTH = 0.3
TALL = 1.8
EYE = 1.62
SNEAKING_EYE = 1.27
_SKIN = 1e-7  # two faces that touch do not collide
_WATER = 7  # blocks.WATER; compiled code wants a literal


@njit(cache=True)
def is_solid(cells: np.ndarray, solid: np.ndarray, x: int, y: int, z: int) -> bool:  # pragma: no cover
    """Whether block (x, y, z) stops a body; everything beyond the world does."""
    size_x, size_y, size_z = cells.shape
    if x < 0 or y < 0 or z < 0 or x >= size_x - 2 or y >= size_y - 2 or z >= size_z - 2:
        return True
    return solid[cells[x + 1, y + 1, z + 1]] != 0


@njit(cache=True)
def collides(cells: np.ndarray, solid: np.ndarray, x: float, y: float, z: float) -> bool:  # pragma: no cover
    """Whether a player standing at (x, y, z) would overlap a solid block."""
    for i in range(int(np.floor(x - HALF_WIDTH + _SKIN)), int(np.floor(x + HALF_WIDTH - _SKIN)) + 1):
        for j in range(int(np.floor(y + _SKIN)), int(np.floor(y + TALL - _SKIN)) + 1):
            for k in range(int(np.floor(z - HALF_WIDTH + _SKIN)), int(np.floor(z + HALF_WIDTH - _SKIN)) + 1):
                if is_solid(cells, solid, i, j, k):
                    return True
    return False


@njit(cache=True)
def _slide(cells: np.ndarray, solid: np.ndarray, body: np.ndarray, axis: int, delta: float) -> bool:
    """Moves along one axis until something is in the way; true if something was."""  # pragma: no cover
    below = 0.0 if axis == Y else HALF_WIDTH
    above = TALL if axis == Y else HALF_WIDTH
    while delta != 0.0:
        step = min(max(delta, -0.5), 0.5)
        delta -= step
        before = body[axis]
        body[axis] = before + step
        if collides(cells, solid, body[X], body[Y], body[Z]):
            if step > 0:
                body[axis] = max(before, np.floor(before + step + above) - above)
            else:
                body[axis] = min(before, np.floor(before + step - below) + 1.0 + below)
            return True
    return False


@njit(cache=True)
def _in_water(cells: np.ndarray, body: np.ndarray) -> bool:  # pragma: no cover
    x, z = int(np.floor(body[X])), int(np.floor(body[Z]))
    y = int(np.floor(body[Y] + 0.4))
    size_x, size_y, size_z = cells.shape
    if x < 0 or y < 0 or z < 0 or x >= size_x - 2 or y >= size_y - 2 or z >= size_z - 2:
        return False
    return cells[x + 1, y + 1, z + 1] == _WATER


@njit(cache=True)
def _keep_on_edge(cells: np.ndarray, solid: np.ndarray, body: np.ndarray, dx: float, dz: float) -> tuple:
    """Shortens a sneaking step so that it never leaves the ground behind."""  # pragma: no cover
    x, y, z = body[X], body[Y] - 0.6, body[Z]
    while dx != 0.0 and not collides(cells, solid, x + dx, y, z):
        dx = 0.0 if abs(dx) < 0.05 else dx - np.sign(dx) * 0.05
    while dz != 0.0 and not collides(cells, solid, x, y, z + dz):
        dz = 0.0 if abs(dz) < 0.05 else dz - np.sign(dz) * 0.05
    while dx != 0.0 and dz != 0.0 and not collides(cells, solid, x + dx, y, z + dz):
        dx = 0.0 if abs(dx) < 0.05 else dx - np.sign(dx) * 0.05
        dz = 0.0 if abs(dz) < 0.05 else dz - np.sign(dz) * 0.05
    return dx, dz


@njit(cache=True)
def _push(body: np.ndarray, forward: float, left: float, acceleration: float) -> None:  # pragma: no cover
    """Accelerates the body along its own axes; diagonals are no faster."""
    length = np.sqrt(forward * forward + left * left)
    if length < 1e-4:
        return
    scale = acceleration / max(length, 1.0)
    yaw = np.radians(body[YAW])
    sine, cosine = np.sin(yaw), np.cos(yaw)
    body[VX] += scale * (left * cosine - forward * sine)
    body[VZ] += scale * (forward * cosine + left * sine)


@njit(cache=True)
def _jump(body: np.ndarray, status: np.ndarray, jump: bool, sneak: bool) -> None:  # pragma: no cover
    status[JUMP_WAIT] = max(status[JUMP_WAIT] - 1, 0)
    if not jump:
        status[JUMP_WAIT] = 0
    if status[IN_WATER]:
        body[VY] += 0.04 * (int(jump) - int(sneak))
    elif jump and status[ON_GROUND] and status[JUMP_WAIT] == 0:
        body[VY] = 0.42
        status[JUMP_WAIT] = 10
        if status[SPRINTING]:
            yaw = np.radians(body[YAW])
            body[VX] -= 0.2 * np.sin(yaw)
            body[VZ] += 0.2 * np.cos(yaw)


@njit(cache=True)
def _travel(cells: np.ndarray, solid: np.ndarray, body: np.ndarray, status: np.ndarray, sneak: bool) -> None:
    """Moves by the velocity, y first, and notes what was hit."""  # pragma: no cover
    dx, dy, dz = body[VX], body[VY], body[VZ]
    if sneak and status[ON_GROUND] and dy <= 0:
        dx, dz = _keep_on_edge(cells, solid, body, dx, dz)
    hit_y = _slide(cells, solid, body, Y, dy)
    if abs(dx) >= abs(dz):
        hit_x = _slide(cells, solid, body, X, dx)
        hit_z = _slide(cells, solid, body, Z, dz)
    else:
        hit_z = _slide(cells, solid, body, Z, dz)
        hit_x = _slide(cells, solid, body, X, dx)
    if hit_x:
        body[VX] = 0.0
    if hit_y:
        body[VY] = 0.0
    if hit_z:
        body[VZ] = 0.0
    status[ON_GROUND] = int(hit_y and dy < 0)
    status[COLLIDED] = int(hit_x or hit_z)


@njit(cache=True)
def advance(
    cells: np.ndarray,
    solid: np.ndarray,
    body: np.ndarray,
    status: np.ndarray,
    forward: float,
    left: float,
    jump: bool,
    sneak: bool,
    sprint: bool,
) -> None:  # pragma: no cover
    """One tick. forward, left in {-1, 0, 1}; changes body [8] and status [5] in place."""
    for axis in (VX, VY, VZ):
        if abs(body[axis]) < 0.003:
            body[axis] = 0.0
    status[IN_WATER] = int(_in_water(cells, body))
    wants_sprint = sprint or status[SPRINTING]
    status[SPRINTING] = int(wants_sprint and forward > 0 and not sneak and not status[COLLIDED])
    _jump(body, status, jump, sneak)
    slow = 0.98 * (0.3 if sneak else 1.0)
    if status[IN_WATER]:
        _push(body, forward * slow, left * slow, 0.02)
        before = body[Y]
        _travel(cells, solid, body, status, False)
        drag = 0.9 if status[SPRINTING] else 0.8
        body[VX] *= drag
        body[VY] = body[VY] * 0.8 - 0.005
        body[VZ] *= drag
        # Swimming against a bank lifts the player over it.
        rise = body[VY] + 0.6 + before
        if status[COLLIDED] and not collides(cells, solid, body[X] + body[VX], rise, body[Z] + body[VZ]):
            body[VY] = 0.3
        return
    boost = 1.3 if status[SPRINTING] else 1.0
    grip = 0.546 if status[ON_GROUND] else 0.91
    _push(body, forward * slow, left * slow, (0.1 if status[ON_GROUND] else 0.02) * boost)
    _travel(cells, solid, body, status, sneak)
    body[VX] *= grip
    body[VY] = (body[VY] - 0.08) * 0.98
    body[VZ] *= grip
