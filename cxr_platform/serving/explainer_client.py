"""Call the Explainer, the Serve deployment with TensorFlow, from a replica that screens, and survive its crashes.

The Explainer works on images of several requests at a time. If its process dies, all of them fail in the same way, and
it is unknown which image caused it, or whether one did. So each image is decoded once more in a process of its own, and
only an image that kills that process too is undecodable. If the cause remains unknown (out of memory, a lost node),
the answer is 503 and the client retries.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cxr_platform.errors import ImageRefused
from cxr_platform.registry.bundle import Preprocessing
from cxr_platform.serving.problems import Problem
from cxr_platform.serving.screener import PreparedImage, prepare_image

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

TIMEOUT_SECONDS = 45.0
HEATMAP_ATTEMPTS = 2
"""Attempts to get a heatmap; without one the image is answered all the same."""

EXPLAINER_CPUS = 0.001
"""Processors that the Explainer and `run_in_own_process` reserve: enough that Ray places neither on a node without
processors, such as a head with num-cpus 0."""

RESERVED_CPUS = 0.01
"""Processors that a screening replica reserves less than it uses, which leaves room for ten Explainers. Otherwise the
Explainer could not start if replicas take all processors, as on a laptop."""


class Explainer(Protocol):
    """A process with TensorFlow. The methods raise `ImageRefused` or `Problem`; or anything if it cannot be reached."""

    async def prepare(self, data: bytes, preprocessing: Preprocessing) -> PreparedImage:
        """Return `screener.prepare_image` of a DICOM object."""

    async def heatmap(self, version: str, image: NDArray[np.uint8], target: int) -> bytes:
        """Return a PNG (`heatmap.overlay_png`) of what in `image` (S, S) speaks for the class index `target`."""


def prepared_or_reason(data: bytes, preprocessing: Preprocessing) -> PreparedImage | str:
    """Return `prepare_image`, or the reason code of its refusal: a value, as it travels between processes."""
    try:
        return prepare_image(data, preprocessing)
    except ImageRefused as refused:
        return refused.reason


async def run_in_own_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return `work(*arguments)`, computed in a Ray process that does nothing else and ends afterwards.

    Raises `ImageRefused` (undecodable) if the process dies, `Problem` (unavailable) if there is none or it takes too
    long.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError, WorkerCrashedError

    result = ray.remote(num_cpus=EXPLAINER_CPUS, max_retries=0, max_calls=1)(work).remote(*arguments)
    try:
        return await asyncio.wait_for(result, TIMEOUT_SECONDS)
    except WorkerCrashedError:
        raise ImageRefused("undecodable", "the decoder crashed") from None
    except RayTaskError:
        raise
    except (asyncio.TimeoutError, RayError):
        ray.cancel(result, force=True)
        raise Problem("unavailable") from None


class ExplainerClient:
    """An `Explainer` in another process. `isolated` runs a function in a process of its own."""

    def __init__(
        self, handle: "DeploymentHandle", isolated: Callable[..., Awaitable[Any]] = run_in_own_process
    ) -> None:
        self._handle, self._isolated = handle, isolated
        self._one_at_a_time = asyncio.Lock()

    async def prepare(self, data: bytes, preprocessing: Preprocessing) -> PreparedImage:
        """Raise `ImageRefused` for what is not an image or crashes its decoder, `Problem` if none can decode it now."""
        from ray.exceptions import RayActorError

        try:
            result: PreparedImage | str = await self._call("prepare", data, preprocessing)
        except RayActorError:
            async with self._one_at_a_time:
                result = await self._isolated(prepared_or_reason, data, preprocessing)
        if isinstance(result, str):
            raise ImageRefused(result, "")
        return result

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
