"""Bring a chain's data to its place from a published snapshot: known size, verified parts, all of it or nothing.

Standard library only, with aria2c, tar and the decompressors of the host.
"""

__version__ = "1.1.0"
