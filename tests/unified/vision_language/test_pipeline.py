"""`pipeline("image-text-to-text")` beside ours: the same folder, and the same model after ours has it."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

import unified
from unified.decoding.sampling import Sampler


@pytest.fixture(scope="module")
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize("family", ["gemma3", "idefics3"])
def test_the_pipeline_answers_as_we_do(folders, family, picture):
    folder = folders.folder(family)
    assistant = unified.load(folder, device="cpu", dtype="float32")
    assistant.sampler = Sampler(temperature=0)
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "What is in the picture?"}]
    messages = [{"role": "user", "content": content}]
    (want,) = assistant.answers([messages], max_tokens=8)
    options = {"max_new_tokens": 8, "do_sample": False}
    of_folder = pipeline("image-text-to-text", model=str(folder), device="cpu", dtype=torch.float32)
    shared = pipeline(
        "image-text-to-text",
        model=assistant.model.pretrained,
        processor=assistant.processor.processor,
        device="cpu",
    )
    for pipe in (of_folder, shared):
        (found,) = pipe(text=messages, return_full_text=False, generate_kwargs=options)
        assert found["generated_text"].strip() == want
