"""Call the Explainer, the Serve deployment with Keras, from a replica that screens, and survive its crashes."""

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cxr_platform.serving.problems import Problem

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

TIMEOUT_SECONDS = 45.0
HEATMAP_ATTEMPTS = 2
"""Attempts to get a heatmap; without one the image is answered all the same."""

EXPLAINER_CPUS = 0.001
"""Processors that the Explainer reserves: enough that Ray does not place it on a node without processors, such as a
head with num-cpus 0."""

RESERVED_CPUS = 0.01
"""Processors that a screening replica reserves less than it uses, which leaves room for ten Explainers. Otherwise the
Explainer could not start if replicas take all processors, as on a laptop."""


class Explainer(Protocol):
    """A process with Keras. The method raises `Problem`, or anything if it cannot be reached."""

    async def heatmap(self, version: str, image: NDArray[np.uint8], target: int) -> bytes:
        """Return a PNG (`heatmap.overlay_png`) of what in `image` (S, S) speaks for the class index `target`."""


class ExplainerClient:
    """An `Explainer` in another process."""

    def __init__(self, handle: "DeploymentHandle") -> None:
        self._handle = handle

    async def heatmap(self, version: str, image: NDArray[np.uint8], target: int) -> bytes:
        """Raise `Problem` if the Explainer cannot be reached."""
        from ray.exceptions import RayActorError

        for _ in range(HEATMAP_ATTEMPTS):
            try:
                picture: bytes = await self._call("heatmap", version, image, target)
            except RayActorError:
                continue
            return picture
        raise Problem("unavailable")

    async def _call(self, method: str, *arguments: Any) -> Any:
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        try:
            return await asyncio.wait_for(getattr(self._handle, method).remote(*arguments), TIMEOUT_SECONDS)
        except BackPressureError:
            raise Problem("busy") from None
        except (asyncio.TimeoutError, DeploymentUnavailableError):
            raise Problem("unavailable") from None
