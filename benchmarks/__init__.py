"""What seqc promises about speed, memory and precision, measured: ``python -m benchmarks.cpu``."""
