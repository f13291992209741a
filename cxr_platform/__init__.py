"""Chest X-ray classification studies on Ray. For research, not for diagnosis."""

import os
from importlib.util import find_spec

__version__ = "0.1.0"

BACKEND_OF_STACK = "jax" if "KERAS_BACKEND" not in os.environ and not find_spec("tensorflow") else None
"""The backend of Keras that was chosen here, `None` if Keras or the user chooses. Keras reads the variable when it is
first imported, in this process or in one that Ray starts, and takes TensorFlow without it, installed or not."""

if BACKEND_OF_STACK:
    os.environ["KERAS_BACKEND"] = BACKEND_OF_STACK
