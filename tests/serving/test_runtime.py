import numpy as np
import onnxruntime
import pytest

from cxr_platform.errors import BundleError
from cxr_platform.serving import runtime
from tests.serving.builders import SIZE, graph


def test_a_graph_answers_batches_of_any_size() -> None:
    session = runtime.open_session(graph(), threads=1)
    for batch in (1, 5):
        logits, features = session.run(["logits", "features"], {"images": np.zeros((batch, SIZE, SIZE), np.uint8)})
        assert (logits.shape[0], features.shape[0]) == (batch, batch)
    assert session.get_session_options().intra_op_num_threads == 1


@pytest.mark.parametrize("content", [b"", b"no graph", graph()[:200]])
def test_what_is_no_graph_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="ONNX Runtime"):
        runtime.open_session(content, None)


def test_a_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in (
        (["AzureExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]),
        (["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
         ["CUDAExecutionProvider", "CPUExecutionProvider"]),
    ):  # fmt: skip
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda found=available: found)
        assert runtime.providers() == expected
