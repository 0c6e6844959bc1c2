"""SAR"""

from torch import Tensor


def refined(teacher: Tensor, student: Tensor, gamma: float) -> Tensor:
    """The loss of both passes."""
    return teacher + gamma * student
