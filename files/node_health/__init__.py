"""The one judge of a node's health: starting, syncing, in step, lagging, stuck, on the wrong chain, or down.

Standard library only, so that any host can run it; it knows one node's end points and nothing of the rest of the system.
"""

__version__ = "0.1.0"
