"""The Explainer as a replica of Screening asks it, whatever may become of its process.

The Explainer works on images of several requests at a time. When it dies, all of them fail alike, and nothing tells
over which it died, or whether over one at all: somebody may have killed it. So no image is blamed for that death. Each
is decoded once more in a process of its own, and only an image over which that process dies as well is undecodable. What
cannot be told apart (memory ran out, a node is gone) is nobody's fault either: 503, and the client asks again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.errors import ImageRefused
from cxr_platform.registry.bundle import Preprocessing
from cxr_platform.serving.problems import Problem
from cxr_platform.serving.screener import Prepared, prepare

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

PATIENCE_SECONDS = 45.0
ATTEMPTS = 2
"""At a heatmap, without which the image is answered too."""

SLIVER = 0.001
"""Of a processor: what Explainer and `alone` reserve, so that Ray puts neither on a node that has none to give, such as
a head that is kept from work with num-cpus 0."""

ROOM = 0.01
"""Of a processor: what a replica of Screening reserves less than it uses, which is room for ten slivers. Where replicas
take all processors, as on a laptop, the Explainer would find none otherwise, or one of the replicas."""

Decoded = Prepared | str
"""The image of a DICOM object, or the reason code of its refusal."""


def decoded(data: bytes, preprocessing: Preprocessing) -> Decoded:
    """`screener.prepare` with the refusal as a value, as it travels between processes."""
    try:
        return prepare(data, preprocessing)
    except ImageRefused as refused:
        return refused.reason


async def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work(*arguments)` returns in a process that does nothing else and ends with it.

    Raises `ImageRefused` (undecodable) where the process dies over it, `Problem` (unavailable) where there is none.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError, WorkerCrashedError

    answer = ray.remote(num_cpus=SLIVER, max_retries=0, max_calls=1)(work).remote(*arguments)
    try:
        return await asyncio.wait_for(answer, PATIENCE_SECONDS)
    except WorkerCrashedError:
        raise ImageRefused("undecodable", "the decoder dies over it") from None
    except RayTaskError:
        raise
    except (asyncio.TimeoutError, RayError):
        ray.cancel(answer, force=True)
        raise Problem("unavailable") from None


class RemoteColleague:
    """A `service.Colleague` in another process; `alone` decodes one image in one of its own."""

    def __init__(self, handle: "DeploymentHandle", alone: Callable[..., Awaitable[Any]] = alone) -> None:
        self._handle, self._alone = handle, alone
        self._one_at_a_time = asyncio.Lock()

    async def prepare(self, data: bytes, preprocessing: Preprocessing) -> Prepared:
        """`ImageRefused` for what is no image, or kills its decoder; `Problem` where nobody can decode it now."""
        from ray.exceptions import RayActorError

        try:
            answer: Decoded = await self._ask("prepare", data, preprocessing)
        except RayActorError:
            async with self._one_at_a_time:
                answer = await self._alone(decoded, data, preprocessing)
        if isinstance(answer, str):
            raise ImageRefused(answer, "")
        return answer

    async def heatmap(self, version: str, image: NDArray[np.uint8], target: int) -> bytes:
        """`Problem` where there is none to be had."""
        from ray.exceptions import RayActorError

        for _ in range(ATTEMPTS):
            try:
                picture: bytes = await self._ask("heatmap", version, image, target)
            except RayActorError:
                continue
            return picture
        raise Problem("unavailable")

    async def _ask(self, method: str, *arguments: Any) -> Any:
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        try:
            return await asyncio.wait_for(getattr(self._handle, method).remote(*arguments), PATIENCE_SECONDS)
        except BackPressureError:
            raise Problem("busy") from None
        except (asyncio.TimeoutError, DeploymentUnavailableError):
            raise Problem("unavailable") from None
