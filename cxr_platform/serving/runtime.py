"""ONNX Runtime as screening wants it: on a GPU where there is one, and without threads that wait by spinning."""

from typing import TYPE_CHECKING

from cxr_platform.errors import BundleError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

GPU, PROCESSOR = "CUDAExecutionProvider", "CPUExecutionProvider"


def open_session(graph: bytes, threads: int | None) -> "InferenceSession":
    """A session for the bytes of an ONNX file; each call uses up to `threads` cores (`None`: all).

    Raises `BundleError` where the bytes are no graph that ONNX Runtime can run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Waiting threads spin by default, which on few cores takes time from whoever decodes the next image.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=providers())
    except Exception as error:  # ONNX Runtime has an exception class for each of its status codes
        raise BundleError(
            "Expected a graph that ONNX Runtime can open.",
            received=type(error).__name__,
            advice="Make the bundle again.",
        ) from error


def providers() -> list[str]:
    """CUDA where this ONNX Runtime has it and a GPU answers (`onnxruntime-gpu`), then the processor."""
    import onnxruntime

    return [name for name in (GPU, PROCESSOR) if name in onnxruntime.get_available_providers()]
