"""Tests run the notebooks with a few steps of training."""

import os

os.environ.setdefault("NOTEBOOK_STEPS", "12")
os.environ.setdefault("OMP_NUM_THREADS", "1")
