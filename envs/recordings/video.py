"""Frames of a video file, written one by one and read one by one, with PyAV.

Files are fragmented mp4: a fragment (one second) is on disk as soon as it is full, so an interrupted
recording stays readable up to there. Lossless is H.264 on RGB (frames come back bit for bit; ffmpeg, PyAV,
OpenCV and VLC read it, browsers do not); otherwise H.264 with 4:2:0 colour, which everything plays and which
changes pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch.nn import functional

try:
    import av
except ImportError as error:
    raise ImportError("recordings need PyAV: pip install 'unified-multimodal[worlds]'") from error

_CONTAINER_OPTIONS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
# No look-ahead and no B-frames: each frame leaves the encoder at once.
_LOSSLESS = {"qp": "0", "preset": "veryfast", "tune": "zerolatency"}
_COMPATIBLE = {"crf": "17", "preset": "veryfast", "tune": "zerolatency"}


class VideoWriter:
    """Appends uint8 frames [H, W, 3] of one size. `fps` may be fractional."""

    def __init__(self, path: Path, *, fps: float = 20.0, lossless: bool = True) -> None:
        if not 0 < fps < 1000:
            raise ValueError(f"fps must lie between 0 and 1000, got {fps}")
        self.path, self.fps, self.lossless = path, fps, lossless
        self._container: av.container.OutputContainer | None = None
        self._shape: tuple[int, ...] = ()

    def check(self, frame: np.ndarray) -> None:
        """Raises ValueError if the frame cannot be the next one."""
        if (
            not isinstance(frame, np.ndarray)
            or frame.dtype != np.uint8
            or frame.ndim != 3
            or frame.shape[2] != 3
        ):
            found = (
                f"{frame.dtype} {list(frame.shape)}"
                if isinstance(frame, np.ndarray)
                else type(frame).__name__
            )
            raise ValueError(f"a frame must be uint8 [H, W, 3], got {found}")
        if self._shape and frame.shape != self._shape:
            raise ValueError(
                f"frames of one video have one size: {list(self._shape)}, got {list(frame.shape)}"
            )
        if 0 in frame.shape:
            raise ValueError(f"a frame must not be empty, got {list(frame.shape)}")

    def append(self, frame: np.ndarray) -> None:
        self.check(frame)
        container = self._container or self._open(frame.shape)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        container.mux(self._stream.encode(picture))

    def close(self) -> None:
        if self._container is not None:
            self._container.mux(self._stream.encode())
            self._container.close()
            self._container = None

    def _open(self, shape: tuple[int, ...]) -> av.container.OutputContainer:
        height, width = shape[:2]
        even = height % 2 == 0 and width % 2 == 0  # 4:2:0 halves both sides
        self._shape = shape
        self._container = container = av.open(str(self.path), "w", format="mp4", options=_CONTAINER_OPTIONS)
        rate = Fraction(self.fps).limit_denominator(1001)
        self._stream = container.add_stream("libx264rgb" if self.lossless else "libx264", rate=rate)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "rgb24" if self.lossless else "yuv420p" if even else "yuv444p"
        self._stream.options = dict(_LOSSLESS if self.lossless else _COMPATIBLE)
        self._stream.gop_size = max(1, round(self.fps))
        return container

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class VideoReader:
    """Iterates the frames (uint8 [H, W, 3]) up to the end or the first damaged one; `fault` then says what
    stopped it, or is None. `fps` is the file's mean frame rate. Raises ValueError if the file is no video."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault: str | None = None
        try:
            with av.open(str(path)) as container:
                rate = container.streams.video[0].average_rate
        except (av.FFmpegError, OSError, IndexError) as error:
            raise ValueError(f"{path}: not a readable video ({_reason(error)})") from None
        self.fps = float(rate) if rate else 0.0

    def __iter__(self) -> Iterator[np.ndarray]:
        self.fault = None
        with av.open(str(self.path)) as container:
            stream = container.streams.video[0]
            for frame in self._sound(
                frame for packet in self._intact(container) for frame in packet.decode()
            ):
                yield frame.to_ndarray(format="rgb24")
            if self.fault:  # frames that the decoder still holds back for their order are good
                for frame in self._sound(iter(stream.codec_context.decode(None))):
                    yield frame.to_ndarray(format="rgb24")

    def _intact(self, container: av.container.InputContainer) -> Iterator[av.Packet]:
        for packet in container.demux(container.streams.video[0]):
            if packet.is_corrupt:
                self.fault = "damaged data"
                return
            yield packet

    def _sound(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Frames up to the first one that the decoder reports as damaged or fails on."""
        while True:
            try:
                frame = next(frames, None)
            except av.FFmpegError as error:
                self.fault = _reason(error)
                return
            if frame is None:
                return
            if frame.is_corrupt:
                self.fault = "damaged data"
                return
            yield frame


def resize(frame: np.ndarray, size: tuple[int, int], *, antialias: bool = True) -> np.ndarray:
    """Bilinear, uint8 [H, W, 3] -> [height, width, 3]. Without `antialias` a smaller frame samples four
    neighbours per pixel, as the published agents' pipelines do; with it, every source pixel counts."""
    if frame.shape[:2] == tuple(size):
        return frame
    pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float()  # [1, 3, H, W]
    resized = functional.interpolate(
        pixels, size=tuple(size), mode="bilinear", align_corners=False, antialias=antialias
    )
    return resized[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


def _reason(error: Exception) -> str:
    if isinstance(error, IndexError):
        return "it holds no video stream"
    return getattr(error, "strerror", None) or type(error).__name__
