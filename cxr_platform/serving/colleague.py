"""The Explainer as a replica of Screening asks it, whatever may become of its process."""

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.errors import ImageRefused
from cxr_platform.registry.bundle import Preprocessing
from cxr_platform.serving.problems import Problem
from cxr_platform.serving.screener import Prepared

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

PATIENCE_SECONDS = 45.0
ATTEMPTS = 2
"""A decoder that dies twice over one file dies of the file."""


class RemoteColleague:
    """A `service.Colleague` in another process."""

    def __init__(self, handle: "DeploymentHandle") -> None:
        self._handle = handle

    async def prepare(self, data: bytes, preprocessing: Preprocessing) -> Prepared:
        """`ImageRefused` for what is no film, or kills its decoder; `Problem` where nobody can decode it now."""
        prepared = await self._ask("prepare", data, preprocessing)
        if isinstance(prepared, str):
            raise ImageRefused(prepared, "")
        answer: Prepared = prepared
        return answer

    async def heatmap(self, version: str, film: NDArray[np.uint8], target: int) -> bytes:
        """`Problem` or `ImageRefused` where there is none to be had."""
        picture: bytes = await self._ask("heatmap", version, film, target)
        return picture

    async def _ask(self, method: str, *arguments: Any) -> Any:
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        for _ in range(ATTEMPTS):
            response = getattr(self._handle, method).remote(*arguments)
            try:
                return await asyncio.wait_for(response, PATIENCE_SECONDS)
            except RayActorError:
                continue
            except BackPressureError:
                raise Problem("busy") from None
            except (asyncio.TimeoutError, DeploymentUnavailableError):
                raise Problem("unavailable") from None
        raise ImageRefused("undecodable", "")
