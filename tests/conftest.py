"""One thread per test process: the models are tiny, and threads that wait for each other only cost time."""

import os

import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)
