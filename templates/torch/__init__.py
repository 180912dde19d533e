"""Templates of the Python module with the PyTorch layer."""
