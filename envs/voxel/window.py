"""A pygame window that shows frames; pygame is imported only when one is opened."""

import numpy as np


class Window:
    """Shows [H, W, 3] uint8 frames, enlarged by a whole factor to at least 480 pixels of height."""

    def __init__(self, width: int, height: int, frames_per_second: int, title: str = "unified/Voxel") -> None:
        try:
            import pygame
        except ImportError as error:
            raise ImportError("render_mode='human' needs pygame: pip install pygame") from error
        self._pygame = pygame
        self._frames_per_second = frames_per_second
        scale = max(1, 480 // height)
        pygame.display.init()
        self._screen = pygame.display.set_mode((width * scale, height * scale))
        pygame.display.set_caption(title)
        self._clock = pygame.time.Clock()

    def show(self, frame: np.ndarray) -> None:
        """Shows one frame and waits until its time has passed."""
        surface = self._pygame.surfarray.make_surface(frame.swapaxes(0, 1))
        self._pygame.transform.scale(surface, self._screen.get_size(), self._screen)
        self._pygame.event.pump()
        self._pygame.display.flip()
        self._clock.tick(self._frames_per_second)

    def close(self) -> None:
        self._pygame.display.quit()
