"""Edit quality: every method on the same pictures, the paper's Table 1 and ablation; see docs/quality.md.

python -m benchmarks.quality [--help]
"""
