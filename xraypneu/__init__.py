"""Chest radiographs to a calibrated NORMAL / PNEUMONIA verdict. The names below are stable; other modules may change.

They are imported when they are first used, and TensorFlow with none of them.
"""

import contextlib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

# ONNX Runtime for Linux, from 1.29 on, otherwise keeps events and a device id in the user's cache and sends them to its maker
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Python 3.11 doesn't notice that a full disk took a part of a compiled module, and can't import that module again
with contextlib.suppress(OSError, AttributeError):  # where there is no statvfs
    _disk = os.statvfs(__path__[0])
    sys.dont_write_bytecode |= _disk.f_bavail * _disk.f_frsize < 64 << 20

__all__ = [
    "Bundle",
    "BundleError",
    "ImageError",
    "Prediction",
    "Predictor",
    "Radiograph",
    "XraypneuError",
    "load_bundle",
    "read_radiograph",
]

if TYPE_CHECKING:
    from .data.image import ImageError, Radiograph, read_radiograph
    from .errors import XraypneuError
    from .model.bundle import Bundle, BundleError, load_bundle
    from .serving.predict import Prediction, Predictor

_NAMES = {
    "model.bundle": ("Bundle", "BundleError", "load_bundle"),
    "errors": ("XraypneuError",),
    "data.image": ("ImageError", "Radiograph", "read_radiograph"),
    "serving.predict": ("Prediction", "Predictor"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
