# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A token that misbehaves as told
@dev HONEST, or on every transfer: FEE keeps a part, LIES moves nothing and returns false, THIEF calls `target` with
     `payload` and ignores how that ends, BOMB does the same and then moves nothing although it returns true, LIAR also tells of
     a transfer to `target` that never was.
"""

HONEST: constant(uint256) = 0
FEE: constant(uint256) = 1
LIES: constant(uint256) = 2
THIEF: constant(uint256) = 3
BOMB: constant(uint256) = 4
LIAR: constant(uint256) = 5

decimals: public(constant(uint8)) = 18
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
totalSupply: public(uint256)
behaviour: public(uint256)
attempts: public(uint256)
successes: public(uint256)
target: address
payload: Bytes[2048]


event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    amount: uint256


@external
def mint(receiver: address, amount: uint256):
    self.balanceOf[receiver] += amount
    self.totalSupply += amount


@external
def behave(behaviour: uint256, target: address, payload: Bytes[2048]):
    self.behaviour = behaviour
    self.target = target
    self.payload = payload


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    return True


@external
def transfer(receiver: address, amount: uint256) -> bool:
    return self._move(msg.sender, receiver, amount)


@external
def transferFrom(sender: address, receiver: address, amount: uint256) -> bool:
    self.allowance[sender][msg.sender] -= amount
    return self._move(sender, receiver, amount)


@internal
def _move(sender: address, receiver: address, amount: uint256) -> bool:
    if self.behaviour == LIES:
        return False
    if self.behaviour in [THIEF, BOMB]:
        self.attempts += 1
        if raw_call(self.target, self.payload, revert_on_failure=False):
            self.successes += 1
    if self.behaviour == BOMB:
        log Transfer(sender=sender, receiver=receiver, amount=amount)
        return True
    if self.behaviour == LIAR:
        log Transfer(sender=sender, receiver=self.target, amount=amount)
    kept: uint256 = 0
    if self.behaviour == FEE:
        kept = amount // 20
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount - kept
    log Transfer(sender=sender, receiver=receiver, amount=amount - kept)
    return True
