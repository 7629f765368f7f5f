import os

__version__ = "0.2.0"

# ONNX Runtime for Linux, from 1.29 on, otherwise keeps events and a device id in the user's cache and sends them to its maker
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
