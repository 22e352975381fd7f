"""The lab's chains: a real EVM each, seeded with real contracts, and a trader that keeps prices moving."""
