"""Strategies: each turns what a block changed into sized opportunities, and does nothing else."""
