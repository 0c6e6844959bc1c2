"""The model as an environment: actions in, imagined frames out.

    env = gymnasium.make("unified/WorldModel-v0")  # starts in the voxel world
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step({"forward": 1, "camera": [0, 5]})
    four = env.get_wrapper_attr("fork")(4)  # that go on from here, with the same weights

`env.WorldModelEnv` is one environment, `vector.WorldModelVectorEnv` many rows in one forward pass; `starts`
says where an episode starts, `episodes` keeps the rows.
"""

from unified.envs.world_model.config import WorldModelConfig
from unified.envs.world_model.env import WorldModelEnv
from unified.envs.world_model.vector import WorldModelVectorEnv

__all__ = ["WorldModelConfig", "WorldModelEnv", "WorldModelVectorEnv"]
