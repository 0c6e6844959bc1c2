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
DREAM_IDS = {"unified/DreamReach-v0": "reach", "unified/DreamDig-v0": "dig_down"}


def register_envs() -> None:
    """Makes the project's environments known to gymnasium."""
    for name, task in VOXEL_IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                id=name,
                entry_point=f"{_VOXEL}.env:VoxelEnv",
                vector_entry_point=f"{_VOXEL}.vector:VoxelVectorEnv",
                max_episode_steps=VOXEL_STEPS,
                kwargs={"task": task},
            )
    if WORLD_MODEL_ID not in gymnasium.registry:
        gymnasium.register(
            id=WORLD_MODEL_ID,
            entry_point=f"{_DREAM}:WorldModelEnv",
            vector_entry_point=f"{_DREAM}:WorldModelVectorEnv",
            max_episode_steps=DREAM_STEPS,
        )
    for name, task in DREAM_IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                id=name,
                entry_point=f"{_DREAM}.dream_tasks:make_dream",
                vector_entry_point=f"{_DREAM}.dream_tasks:make_dream_rows",
                max_episode_steps=DREAM_STEPS,
                kwargs={"task": task},
            )


register_envs()
