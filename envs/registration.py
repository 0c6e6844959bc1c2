"""Names for `gymnasium.make`. Importing this module registers them; registering again changes nothing.

`import unified` does. Without an import, gymnasium takes the module before a colon:
`gymnasium.make("unified:unified/Voxel-v0")`.
"""

import gymnasium

_DREAM = "unified.envs.world_model"
_VOXEL = "unified.envs.voxel"
VOXEL_IDS = {
    "unified/Voxel-v0": "explore",
    "unified/VoxelReach-v0": "reach",
    "unified/VoxelCollectLogs-v0": "collect_logs",
    "unified/VoxelDigDown-v0": "dig_down",
    "unified/VoxelFollowPath-v0": "follow_path",
}
VOXEL_STEPS = 2400  # two minutes, as the voxel world's own limit
DREAM_STEPS = 256
WORLD_MODEL_ID = "unified/WorldModel-v0"
LUANTI_ID = "unified/Luanti-v0"
LUANTI_STEPS = 2400
REMOTE_ID = "unified/RemoteWorld-v0"
DREAM_IDS = {"unified/DreamReach-v0": "reach", "unified/DreamDig-v0": "dig_down"}


def register_envs() -> None:
    """Makes the project's environments known to gymnasium."""
    single, rows = f"{_VOXEL}.env:VoxelEnv", f"{_VOXEL}.vector:VoxelVectorEnv"
    for name, task in VOXEL_IDS.items():
        _register(name, single, rows, VOXEL_STEPS, task=task)
    _register(WORLD_MODEL_ID, f"{_DREAM}:WorldModelEnv", f"{_DREAM}:WorldModelVectorEnv", DREAM_STEPS)
    if LUANTI_ID not in gymnasium.registry:
        entry = "unified.envs.luanti:LuantiEnv"
        gymnasium.register(id=LUANTI_ID, entry_point=entry, max_episode_steps=LUANTI_STEPS)
    single, rows = (
        "unified.envs.remote_world:RemoteWorldEnv",
        "unified.envs.remote_world_rows:RemoteWorldVectorEnv",
    )
    _register(REMOTE_ID, single, rows, DREAM_STEPS)
    single, rows = f"{_DREAM}.dream_tasks:make_dream", f"{_DREAM}.dream_tasks:make_dream_rows"
    for name, task in DREAM_IDS.items():
        _register(name, single, rows, DREAM_STEPS, task=task)


def _register(name: str, single: str, rows: str, steps: int, **keywords: str) -> None:
    if name not in gymnasium.registry:
        gymnasium.register(
            id=name, entry_point=single, vector_entry_point=rows, max_episode_steps=steps, kwargs=keywords
        )


register_envs()
