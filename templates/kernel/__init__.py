"""What every target's kernels share: the struct that a kernel is emitted as."""
