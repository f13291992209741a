"""A measurement of a GPU that stands for a process."""

from typing import Any, ClassVar

from pipelines.benchmarks.gpu_measurements import prepare_limits

RATE = {"flop": 2e12, "moved_bytes": 1e11}
LIMITS = {
    "work": {"macs": 261e6, "outputs": 5.5e6, "flop": 1.57e9},
    "device": {"float32": RATE},
    "images_per_second": {"float32": {"arithmetic_limit": 1000.0, "memory_limit": 400.0}},
}
STEP = {"loop": 200.0, "bare_step": 210.0, "model_fit": 100.0, "loop_to_model_fit": 2.0}


class Prepared:
    """A measurement with a known result; two trials that run together are slower than one."""

    windows: ClassVar[list[tuple[float, float]]] = []

    def __init__(self, prepare: Any, *_: Any) -> None:
        self._kind = prepare

    def __enter__(self) -> "Prepared":
        return self

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None: ...

    def wait(self) -> None: ...

    def begin(self, begin: float, end: float) -> None:
        Prepared.windows.append((begin, end))
        self._seconds = end - begin

    def end(self) -> dict[str, Any]:
        alone = Prepared.windows.count(Prepared.windows[-1]) == 1
        return {"images": self._seconds * (120.0 if alone else 80.0)}

    def result(self) -> dict[str, Any]:
        return LIMITS if self._kind is prepare_limits else STEP
