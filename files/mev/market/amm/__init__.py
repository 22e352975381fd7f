"""Pools' mathematics, exact to the wei as the contracts compute it: one module a family, integers only.

Constant product (Uniswap V2 and forks) is here by name, for those who know no other; what a family is called, and which versions
of its contracts are meant, stands at the head of its module.
"""

from mev.market.amm.constant_product import UINT112_MAX, Swapped, amount_in, amount_out, cheapest_in, swap
from mev.market.amm.errors import AmmError

__all__ = ["UINT112_MAX", "AmmError", "Swapped", "amount_in", "amount_out", "cheapest_in", "swap"]
