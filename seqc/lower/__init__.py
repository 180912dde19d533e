"""From an analysis to a plan: what runs where, as kernels with their adjoints and schedules."""
