# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A token that is a trap as told
@dev HONEYPOT lets only those send who were minted to; REBASING adds a hundredth to every balance each day; PAUSED moves nothing for anybody.
"""

HONEST: constant(uint256) = 0
HONEYPOT: constant(uint256) = 1
REBASING: constant(uint256) = 2
PAUSED: constant(uint256) = 3
DAY: constant(uint256) = 86400

shares: HashMap[address, uint256]
listed: HashMap[address, bool]
behaviour: public(uint256)
since: uint256


@external
def mint(receiver: address, amount: uint256):
    self.shares[receiver] += amount
    self.listed[receiver] = True


@external
def behave(behaviour: uint256):
    self.behaviour = behaviour
    self.since = block.timestamp


@external
@view
def balanceOf(holder: address) -> uint256:
    if self.behaviour == REBASING:
        return self.shares[holder] + self.shares[holder] * (block.timestamp - self.since) // DAY // 100
    return self.shares[holder]


@external
def transfer(receiver: address, amount: uint256) -> bool:
    assert self.behaviour != PAUSED
    assert self.behaviour != HONEYPOT or self.listed[msg.sender]
    self.shares[msg.sender] -= amount
    self.shares[receiver] += amount
    return True
