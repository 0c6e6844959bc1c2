"""A model split over the processes that torchrun starts, beside the whole one: what differs, as JSON.

Arguments: the folder of the model, and that of the result.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed

from unified.apps.assistant import Assistant
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.hugging_face.tensor_parallel import load_parallel
from unified.pretrained import load_model


def sampled(model, processor):
    """The streams of two rows: text, an image under guidance, text."""
    prompts = [
        processor.encode([{"role": "user", "content": [{"type": "text", "text": words}]}], prompt=True)
        for words in ("Draw a circle", "Hello")
    ]
    session, sampler = Session(model, rows=2, seed=3), Sampler(temperature=1.0)
    session.feed(prompts)
    list(session.text(sampler=sampler, max_tokens=5))
    session.draw(processor.schedule((4, 4)), sampler=sampler, guidance=Constant(1.5))
    list(session.text(sampler=sampler, max_tokens=5))
    return session.streams


def main():
    folder, out = sys.argv[1:]
    part, processor = load_parallel(folder)
    whole = load_model(folder)[0]
    said = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}]}]
    said += [{"role": "assistant", "content": [{"type": "text", "text": "A large red circle."}]}]
    ids = torch.tensor([processor.encode(said)])
    with torch.no_grad():
        found, expected = part(ids), whole(ids)
    finite = expected.logits.isfinite()
    query = part.backbone.layers[0].self_attn.q_proj.weight.to_local()
    fused = Assistant(part.fuse(), processor, side=32)
    result = {
        "logits": float((found.logits - expected.logits)[finite].abs().max()),
        "log_probs": float((found.log_probs - expected.log_probs).abs().max()),
        "streams": sampled(part, processor) == sampled(whole, processor),
        "rows": len(query),
        "fused": part.fused is not None,
        "drawn": fused.draw("A red circle", tries=1).mean().item(),
    }
    (Path(out) / f"{os.environ['RANK']}.json").write_text(json.dumps(result))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
