"""The game's rules: terrain, movement, breaking and placing, sight and light."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unified.envs.voxel import blocks as b
from unified.envs.voxel import physics as p
from unified.envs.voxel.actions import parse_action
from unified.envs.voxel.inventory import Inventory
from unified.envs.voxel.render import View, draw_world
from unified.envs.voxel.simulation import Simulation
from unified.envs.voxel.spawn import spawn_body
from unified.envs.voxel.terrain import generate, sea_level
from unified.envs.voxel.walking import reachable
from unified.envs.voxel.world import World

FLOOR = 5  # the y on which one stands in the flat world


def flat_game(items=None, size=(64, 24, 64)):
    """A player in the middle of a stone floor, looking along +z."""
    blocks = np.zeros(size, dtype=np.uint8)
    blocks[:, :FLOOR] = b.STONE
    body = np.zeros(8)
    body[:3] = (size[0] / 2 + 0.5, FLOOR, 4.5)
    game = Simulation(World(blocks, 0), body, Inventory.of(items or {}), 4.5)
    game.status[p.ON_GROUND] = 1
    return game


def press(game, ticks, *keys, camera=(0.0, 0.0)):
    """Holds keys for some ticks; the camera turns in the first only."""
    events = []
    for tick in range(ticks):
        action = dict.fromkeys(keys, 1) | ({"camera": camera} if tick == 0 else {})
        events.append(game.tick(parse_action(action)))
    return events


def speed(game, *keys):
    """Steady speed in metres a second."""
    press(game, 30, *keys)
    start = game.body[:3].copy()
    press(game, 40, *keys)
    return np.linalg.norm(game.body[:3] - start) / 2


@pytest.mark.parametrize("seed", range(6))
def test_terrain_has_everything(seed):
    world = generate((64, 48, 64), seed)
    sea = sea_level(48)
    for block in (b.GRASS, b.DIRT, b.STONE, b.SAND, b.LOG, b.LEAVES, b.WATER, b.COAL_ORE, b.BEDROCK):
        assert (world == block).sum() > 5, b.NAMES[block]
    ground = np.array([[np.nonzero(b.SOLID[column])[0].max() for column in plane.T] for plane in world])
    assert np.ptp(ground) > 8  # hills
    caves = (world == b.AIR) & (np.arange(48)[None, :, None] < sea - 3)
    assert caves.sum() > 50
    assert (world[:, 0] == b.BEDROCK).all()


def test_terrain_depends_on_the_seed_alone():
    first = [generate((32, 32, 32), seed).tobytes() for seed in (1, 2, 1)]
    assert first[0] == first[2] != first[1]


@pytest.mark.parametrize(
    ("keys", "metres"),
    [
        (("forward",), 4.317),
        (("forward", "sprint"), 5.612),
        (("forward", "sneak"), 1.295),
        (("back",), 4.317),
    ],
)
def test_speeds_are_minecrafts(keys, metres):
    game = flat_game()
    if keys == ("back",):
        game.body[p.Z] = 40.5
    assert speed(game, *keys) == pytest.approx(metres, rel=0.002)


def test_opposite_keys_cancel():
    assert speed(flat_game(), "forward", "back", "left", "right") == 0.0


def test_a_jump_rises_one_and_a_quarter_blocks_and_lands():
    game = flat_game()
    heights = []
    for _ in range(14):
        press(game, 1, *(["jump"] if not heights else []))
        heights.append(game.body[p.Y] - FLOOR)
    assert max(heights) == pytest.approx(1.2522, abs=1e-3)
    assert heights[-1] == 0.0
    assert game.status[p.ON_GROUND] == 1


def test_falling_follows_gravity_with_drag():
    game = flat_game()
    game.body[p.Y] = 20.0
    game.status[p.ON_GROUND] = 0
    press(game, 3)
    # v' = (v - 0.08) * 0.98, moved by the velocity before it: 0, 0.0784, 0.155232
    assert 20.0 - game.body[p.Y] == pytest.approx(0.0784 + 0.155232)
    press(game, 60)
    assert game.body[p.Y] == FLOOR


def test_camera_turns_right_and_down_and_stops_at_the_poles():
    game = flat_game()
    press(game, 1, camera=(30.0, 90.0))
    assert game.body[p.PITCH] == 30.0
    assert game.body[p.YAW] == 90.0
    press(game, 10, "forward")
    assert game.body[p.X] < 32.4  # a right turn from +z faces -x
    press(game, 1, camera=(180.0, 180.0))
    assert game.body[p.PITCH] == 90.0
    assert game.body[p.YAW] == -90.0


def test_walls_stop_and_one_block_can_be_jumped():
    game = flat_game()
    game.world.blocks[:, FLOOR, 8] = b.STONE
    press(game, 40, "forward")
    assert game.body[p.Z] == pytest.approx(8 - p.HALF_WIDTH)
    press(game, 25, "forward", "jump")
    assert game.body[p.Z] > 8.5


def test_sneaking_does_not_leave_an_edge():
    for keys, falls in ((("forward",), True), (("forward", "sneak"), False)):
        game = flat_game()
        game.world.blocks[:, 1:FLOOR, 10:] = b.AIR
        press(game, 200, *keys)
        assert bool(game.body[p.Y] < FLOOR) is falls


def test_water_slows_and_carries():
    game = flat_game()
    game.world.blocks[:, 1:FLOOR, 6:40] = b.WATER
    game.world.refresh_light()
    press(game, 30, "forward")
    assert game.status[p.IN_WATER] == 1
    assert 0.5 < speed(game, "forward", "jump") < 2.6
    assert game.body[p.Y] > FLOOR - 1.5


def test_breaking_takes_its_time_and_gives_the_drop():
    game = flat_game()
    press(game, 1, camera=(89.0, 0.0))
    cell = game.target().cell
    assert cell == (32, FLOOR - 1, 4)
    ticks = int(b.BREAK_TICKS[b.STONE])
    broken = press(game, ticks - 1, "attack")
    assert all(event.broken == b.AIR for event in broken)
    assert press(game, 1, "attack")[0].broken == b.STONE
    assert game.world.blocks[cell] == b.AIR
    assert game.inventory.named_counts()["cobblestone"] == 1
    assert game.inventory.held == b.COBBLESTONE


def test_letting_go_starts_breaking_anew():
    game = flat_game()
    press(game, 1, camera=(89.0, 0.0))
    for _ in range(4):
        press(game, 20, "attack")
        press(game, 1)
    assert game.world.blocks[32, FLOOR - 1, 4] == b.STONE


def test_bedrock_and_what_is_out_of_reach_stay():
    game = flat_game()
    game.world.blocks[32, FLOOR - 1, 4] = b.BEDROCK
    press(game, 300, "attack", camera=(89.0, 0.0))
    assert game.world.blocks[32, FLOOR - 1, 4] == b.BEDROCK
    game.world.blocks[32, FLOOR : FLOOR + 2, 12] = b.DIRT  # more than 4.5 away
    press(game, 1, camera=(-89.0, 0.0))
    press(game, 60, "attack")
    assert (game.world.blocks[32, FLOOR : FLOOR + 2, 12] == b.DIRT).all()


def test_placing_uses_one_and_never_enters_the_player():
    game = flat_game({"bricks": 2})
    press(game, 1, camera=(89.0, 0.0))
    press(game, 10, "use")
    assert game.inventory.named_counts()["bricks"] == 2  # the cell above the target is the player's own
    press(game, 1, camera=(-44.0, 0.0))
    cell = game.target().front
    assert press(game, 1, "use")[0].placed == b.BRICKS
    assert game.world.blocks[cell] == b.BRICKS
    press(game, 1, camera=(-10.0, 30.0))
    press(game, 30, "use")
    assert game.inventory.named_counts()["bricks"] == 0
    assert game.inventory.held == b.AIR
    press(game, 30, "use")
    assert (game.world.blocks == b.BRICKS).sum() == 2


def test_a_held_use_key_places_every_four_ticks():
    game = flat_game({"bricks": 10})
    press(game, 1, camera=(40.0, 0.0))
    placed = [event.placed for event in press(game, 9, "use")]
    assert placed[0] == b.BRICKS
    assert placed[1:4] == [b.AIR] * 3


def test_drop_select_pick_and_swap():
    game = flat_game({"bricks": 2, "dirt": 1})
    press(game, 5, "drop")  # one press, one item
    assert game.inventory.named_counts()["bricks"] == 1
    press(game, 1, "hotbar.2")
    assert game.inventory.held == b.DIRT
    press(game, 1, "swapHands")
    assert (game.inventory.held, game.inventory.offhand) == (b.AIR, b.DIRT)
    game.world.blocks[32, FLOOR + 1, 7] = b.BRICKS
    press(game, 1, "pickItem")
    assert game.inventory.held == b.BRICKS


def test_an_open_inventory_holds_the_player_still():
    game = flat_game()
    press(game, 1, "inventory")
    before = game.body.copy()
    press(game, 20, "forward", "jump", "attack", camera=(20.0, 20.0))
    assert game.hands.gui_open
    assert np.array_equal(game.body[[p.X, p.Y, p.Z, p.YAW, p.PITCH]], before[[p.X, p.Y, p.Z, p.YAW, p.PITCH]])
    press(game, 1, "inventory")
    press(game, 5, "forward")
    assert not game.hands.gui_open
    assert game.body[p.Z] > before[p.Z]


def test_a_hole_beside_water_fills():
    game = flat_game()
    game.world.blocks[33, FLOOR - 1, 4] = b.WATER
    press(game, 40, "attack", camera=(89.0, 0.0))
    assert game.world.blocks[32, FLOOR - 1, 4] == b.WATER


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_nothing_ever_leaves_the_world_or_enters_a_block(seed):
    rng = np.random.default_rng(seed)
    world = World.from_seed((24, 24, 24), seed % 5)
    game = Simulation(world, spawn_body(world, rng), Inventory.of({"dirt": 64}), 4.5)
    keys = ("forward", "back", "left", "right", "jump", "sneak", "sprint", "attack", "use")
    for _ in range(150):
        pressed = {key: int(rng.random() < 0.4) for key in keys}
        game.tick(parse_action({**pressed, "camera": rng.uniform(-30, 30, 2)}))
        assert np.isfinite(game.body).all()
        assert (game.body[:3] > (0, -1e-6, 0)).all()
        assert (game.body[:3] < world.size).all()
        assert not p.collides(world.cells, b.SOLID, *game.body[:3])


def test_light_is_full_outside_dark_inside_and_fades_between():
    game = flat_game()
    world = game.world
    world.blocks[20:40, FLOOR + 3, 20:40] = b.STONE
    world.blocks[20:40, FLOOR : FLOOR + 3, 39] = b.STONE
    world.refresh_light()
    light = world.light[1:-1, 1:-1, 1:-1]
    assert light[5, FLOOR, 5] == 15
    under = light[30, FLOOR, 20:39].astype(int)
    assert under[0] == 14
    assert (np.diff(under) <= 0).all()
    assert light[30, FLOOR - 2, 30] == 0


def test_pictures_show_the_block_that_is_looked_at():
    """A wall of one kind fills the view with its colour: row 0 is up, right is right."""
    game = flat_game()
    game.world.blocks[32:, FLOOR:, 8] = b.SNOW  # the left half: east lies left of one who looks along +z
    game.world.blocks[:32, FLOOR:, 8] = b.BRICKS
    game.world.refresh_light()
    view = View(eye=np.array([32.0, FLOOR + 5, 4.5]), yaw=0.0, pitch=0.0, field_of_view=70.0, distance=64.0)
    frame = draw_world(game.world, view, 64, 64).astype(int)
    left, right = frame[20:44, 4:28].mean(axis=(0, 1)), frame[20:44, 36:60].mean(axis=(0, 1))
    assert left.min() > 150  # snow
    assert right[0] > 1.5 * right[2]  # red
    down = View(eye=view.eye, yaw=0.0, pitch=60.0, field_of_view=70.0, distance=64.0)
    floor = draw_world(game.world, down, 64, 64)[40:].astype(int)
    assert np.ptp(floor.mean(axis=(0, 1))) < 12  # grey stone


def test_far_things_fade_into_the_horizon():
    game = flat_game(size=(160, 24, 160))
    game.world.blocks[:, FLOOR:, 40] = b.STONE
    game.world.refresh_light()
    near, far = (
        draw_world(
            game.world,
            View(eye=np.array([80.5, 10.0, 3.5]), yaw=0.0, pitch=0.0, field_of_view=20.0, distance=distance),
            16,
            16,
        )
        .astype(int)
        .mean(axis=(0, 1))
        for distance in (200.0, 40.0)
    )
    horizon = np.array([196, 216, 240])
    assert np.abs(far - horizon).sum() < 0.5 * np.abs(near - horizon).sum()


def test_walks_go_up_one_and_down_three_and_around_walls():
    game = flat_game(size=(24, 24, 24))
    blocks = game.world.blocks
    blocks[:, FLOOR : FLOOR + 2, 10] = b.STONE  # too high to jump
    blocks[3, FLOOR : FLOOR + 2, 10] = b.AIR  # but for one gap
    reach = reachable(game.world, (12, FLOOR, 4))
    cells = [tuple(cell) for cell in reach.cells.tolist()]
    path = reach.path(cells.index((12, FLOOR, 20)))
    assert (3, FLOOR, 10) in path
    assert path[0] == (12, FLOOR, 4)
    for first, second in itertools.pairwise(path):
        assert max(abs(first[0] - second[0]), abs(first[2] - second[2])) == 1
    with pytest.raises(ValueError, match="inside the world"):
        reachable(game.world, (99, 0, 0))
