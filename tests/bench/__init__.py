"""Benchmarks: JSON on standard output, a table on standard error; never asserted on."""
