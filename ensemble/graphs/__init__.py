"""ONNX graphs: opened, joined, cut."""
