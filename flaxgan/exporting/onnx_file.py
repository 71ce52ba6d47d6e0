"""A generator as ONNX, with its text path, checked with onnxruntime (extra `onnx`)."""

from typing import Any

import numpy as np

import flaxgan
from flaxgan.drawing.sampler import Sampler
from flaxgan.errors import UserError
from flaxgan.exporting.program import check_close, largest_difference, program_of


def check_installed() -> None:
    """Raises UserError where the packages of the extra `onnx` are missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(f'this format needs {error.name}: pip install "flaxgan[onnx]"') from error


def to_onnx(sampler: Sampler, dtype: str = "float32") -> tuple[bytes, float]:
    """Serialises a generator with its text path, with a symbolic batch.

    Args:
      sampler: of `flaxgan.load`.
      dtype: of the generator's parameters in the file: float16 or float32; computed is in float32.

    Returns:
      The file, and the largest difference of its images, in [-1, 1], to those of the Flax model.

    Raises:
      UserError: onnx or onnxruntime is missing, this kind of generator cannot be exported, or it
        draws other pictures then.
    """
    check_installed()
    from flaxgan.exporting.onnx_graph import model_of

    program = program_of(sampler, dtype)
    model = model_of(program.draw, program.params, program.inputs, ["images"], metadata_of(sampler))
    data = model.SerializeToString()
    session = open_session(data)

    def call(inputs: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(session.run(["images"], inputs)[0])

    difference = largest_difference(sampler, call)
    check_close(difference, dtype, "ONNX file")
    return data, difference


def metadata_of(sampler: Sampler) -> dict[str, str]:
    """What an ONNX file says about itself."""
    return {
        "flaxgan": flaxgan.__version__,
        "name": sampler.config.name,
        "step": str(sampler.step),
        "text_encoder": sampler.config.text.encoder,
    }


def open_session(data: bytes) -> Any:
    """An inference session on the CPU; its own warnings are not shown."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
