"""Templates of the C++ kernels."""
