"""What a pool says no with."""


class AmmError(Exception):
    """The pool would refuse this swap, and says why in the contracts' words."""
