"""How near predicted frames and actions come to the true ones.

PSNR and SSIM are those of MineWorld's evaluation (arXiv 2504.08388): values in [0, 1], PSNR 100 for equal
frames, SSIM with an 11 x 11 Gaussian window of standard deviation 1.5, mean of the channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from unified.tasks.packing import check_image

SSIM_WINDOW = 11
BEST_PSNR = 100.0
WORST_CAMERA = 180.0


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """In decibel. uint8 [H, W, 3] both."""
    error = float(np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2)) / 255.0**2
    return BEST_PSNR if error < 1e-10 else -10.0 * math.log10(error)


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity, 1 for equal frames. uint8 [H, W, 3] both, at least 11 pixels a side."""
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise ImportError("SSIM needs scikit-image: pip install 'unified-multimodal[worlds]'") from error
    return float(
        structural_similarity(
            image / 255.0,
            truth / 255.0,
            data_range=1.0,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def score_frames(answer: Sequence[Any], truth: Sequence[np.ndarray]) -> dict[str, float]:
    """Means over the frames of an answer, compared with the last as many true ones; 0 without any. Raises
    ValueError for more frames than there are, other sizes, or anything that is no frame."""
    if len(answer) > len(truth):
        raise ValueError(f"the answer has {len(answer)} frames, the clip asks for {len(truth)}")
    pairs = list(zip(answer, truth[len(truth) - len(answer) :], strict=True))
    for image, true_image in pairs:
        check_image(image, "answer")
        if image.shape != true_image.shape:
            raise ValueError(f"a frame has shape {list(true_image.shape)}, got {list(image.shape)}")
    if not pairs:
        return {"psnr": 0.0, "ssim": 0.0}
    scores = {"psnr": float(np.mean([psnr(*pair) for pair in pairs]))}
    if min(truth[0].shape[:2]) >= SSIM_WINDOW:
        scores["ssim"] = float(np.mean([ssim(*pair) for pair in pairs]))
    return scores


def score_actions(answer: Sequence[Any], truth: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Means over the actions of an answer, compared with the last as many true ones.

    `buttons`: share of the 23 buttons that agree; `exact`: share of actions on which all do;
    `button.NAME`: share for one button; `camera_error`: mean of both axes, in degrees. Without any action
    nothing agrees and the error is 180. Raises ValueError for more actions than there are and for malformed
    ones (unknown key, camera that is not finite)."""
    from unified.tokenizers.environment_action import BUTTONS, complete

    if len(answer) > len(truth):
        raise ValueError(f"the answer has {len(answer)} actions, the clip asks for {len(truth)}")
    names = [f"button.{name}" for name in BUTTONS]
    if not answer:
        return {"buttons": 0.0, "exact": 0.0, "camera_error": WORST_CAMERA, **dict.fromkeys(names, 0.0)}
    pairs = list(zip(answer, truth[len(truth) - len(answer) :], strict=True))
    both = [(complete(given), complete(true)) for given, true in pairs]
    agree = np.array([[given[name] == true[name] for name in BUTTONS] for given, true in both])  # [N, 23]
    cameras = np.array([given["camera"] - true["camera"] for given, true in both], np.float64)  # [N, 2]
    return {
        "buttons": float(agree.mean()),
        "exact": float(agree.all(axis=1).mean()),
        "camera_error": float(np.abs(cameras).mean()),
        **dict(zip(names, agree.mean(axis=0).tolist(), strict=True)),
    }
