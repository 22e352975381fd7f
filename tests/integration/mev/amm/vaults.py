"""Balancer V2's vault and pools as they were deployed, by their published bytecode, between the seeded chain's own tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eth_abi.abi import encode

from lab.evm.contracts import ZERO_ADDRESS, call_data
from tests.integration.mev.amm.forks import give, on
from tests.integration.mev.conftest import raw, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

TASKS = "@balancer-labs/v2-deployments/dist/tasks"
PAUSE_SECONDS, BUFFER_SECONDS = 7_776_000, 2_592_000
CHANGE = "(address[],uint256[],bytes,bool)"
SWAP = "swap((bytes32,uint8,address,address,uint256,bytes),(address,bool,address,bool),uint256,uint256)"
FOREVER = 2**255
INIT, JOIN_EXACT, EXIT_ALL = 0, 1, 1
COMPOSABLE_EXIT_ALL = 2


class Vault:
    """A vault whose every action its deployer may do, and pools of four of their versions."""

    def __init__(self, evm: DevNode, modules: Modules, published: Modules) -> None:
        self.evm, self.published = evm, published
        self.bench = on(evm, modules)
        account = self.bench.account
        self.authorizer = self.bench.deploy(
            self._code("20210418-authorizer/bytecode/Authorizer.json"), ["address"], [account]
        )
        code = self._code("20210418-vault/bytecode/Vault.json")
        ends = [self.authorizer, evm.deployment.wrapped_native, PAUSE_SECONDS, BUFFER_SECONDS]
        self.vault = self.bench.deploy(code, ["address", "address", "uint256", "uint256"], ends)
        provider = self._code("20220725-protocol-fee-percentages-provider/bytecode/ProtocolFeePercentagesProvider.json")
        most = 10**18 // 2
        self.provider = self.bench.deploy(provider, ["address", "uint256", "uint256"], [self.vault, most, most])

    def _code(self, path: str) -> str:
        made = self.published.artefact(f"{TASKS}/{path}")
        return str(made.get("creationCode") or made["bytecode"])

    def weighted(
        self, tokens: Sequence[bytes], weights: Sequence[int], fee: int, amounts: Sequence[int], *, newer: bool = False
    ) -> bytes:
        """Make a weighted pool of 2021, or of 2023; weights and fee in 18 decimals, amounts in base units. Returns its id."""
        ends = [text(token) for token in tokens]
        if newer:
            code = self._code("20230206-weighted-pool-v3/artifact/WeightedPool.json")
            params = "(string,string,address[],uint256[],address[],address[],uint256)"
            nobody = [ZERO_ADDRESS] * len(ends)
            types = [params, "address", "address", "uint256", "uint256", "address", "string"]
            made = ("P", "P", ends, list(weights), nobody, nobody, fee)
            pool = self.bench.deploy(
                code,
                types,
                [made, self.vault, self.provider, PAUSE_SECONDS, BUFFER_SECONDS, self.bench.account, "3"],
            )
        else:
            code = self._code("20210418-weighted-pool/bytecode/WeightedPool.json")
            types = ["address", "string", "string", "address[]", "uint256[]", *["uint256"] * 3, "address"]
            times = [PAUSE_SECONDS, BUFFER_SECONDS]
            pool = self.bench.deploy(
                code, types, [self.vault, "P", "P", ends, list(weights), fee, *times, self.bench.account]
            )
        return self._filled(pool, tokens, amounts)

    def stable(self, tokens: Sequence[bytes], amplification: int, fee: int, amounts: Sequence[int]) -> bytes:
        """Make a stable pool of 2021."""
        code = self._code("deprecated/20210624-stable-pool/bytecode/StablePool.json")
        types = ["address", "string", "string", "address[]", *["uint256"] * 4, "address"]
        ends = [text(token) for token in tokens]
        times = [PAUSE_SECONDS, BUFFER_SECONDS]
        pool = self.bench.deploy(
            code, types, [self.vault, "P", "P", ends, amplification, fee, *times, self.bench.account]
        )
        return self._filled(pool, tokens, amounts)

    def composable(
        self,
        tokens: Sequence[bytes],
        amplification: int,
        fee: int,
        amounts: Sequence[int],
        rates: Sequence[str] = (),
    ) -> bytes:
        """Make a composable stable pool of 2023, its own LP token among its tokens; `rates` are its rate providers."""
        code = self._code("20230206-composable-stable-pool-v3/artifact/ComposableStablePool.json")
        params = (
            "(address,address,string,string,address[],address[],uint256[],bool[],uint256,uint256,uint256,uint256,"
            "address,string)"
        )
        ends = [text(token) for token in tokens]
        count = len(ends)
        made = (
            *(self.vault, self.provider, "P", "P", ends, list(rates) or [ZERO_ADDRESS] * count, [0] * count),
            *([False] * count, amplification, fee, PAUSE_SECONDS, BUFFER_SECONDS, self.bench.account, "3"),
        )
        pool = self.bench.deploy(code, [params], [made])
        own = raw(pool)
        ordered = sorted([*tokens, own])
        held = {**dict(zip(tokens, amounts, strict=True)), own: 2**111}
        return self._filled(pool, ordered, [held[token] for token in ordered], own=own)

    def _filled(self, pool: str, tokens: Sequence[bytes], amounts: Sequence[int], own: bytes = b"") -> bytes:
        [identity] = self.bench.ask(["bytes32"], pool, "getPoolId()")
        for token, amount in zip(tokens, amounts, strict=True):
            if token != own:
                self.afford(token, 4 * amount)
        self.join(identity, tokens, amounts, INIT)
        return bytes(identity)

    def afford(self, token: bytes, amount: int) -> None:
        """Give the account as much of a token where it has less, and let the vault take it."""
        [held] = self.bench.ask(["uint256"], text(token), "balanceOf(address)", self.bench.account)
        if held < amount:
            give(self.bench, self.evm, token, self.bench.account, amount)
        self.bench.send(text(token), "approve(address,uint256)", self.vault, 2**256 - 1)

    def join(self, identity: bytes, tokens: Sequence[bytes], amounts: Sequence[int], kind: int = JOIN_EXACT) -> None:
        """Put tokens in; those of composable pools are told without its own."""
        own = identity[:20]
        told = [amount for token, amount in zip(tokens, amounts, strict=True) if kind == INIT or token != own]
        types, data = (["uint256", "uint256[]"], [kind, told])
        if kind == JOIN_EXACT:
            types, data = [*types, "uint256"], [*data, 0]
        request = ([text(token) for token in tokens], [FOREVER] * len(tokens), encode(types, data), False)
        account = self.bench.account
        self.bench.send(self.vault, f"joinPool(bytes32,address,address,{CHANGE})", identity, account, account, request)

    def exit(self, identity: bytes, tokens: Sequence[bytes], shares: int, kind: int = EXIT_ALL) -> None:
        """Take out of all tokens for LP tokens."""
        data = encode(["uint256", "uint256"], [kind, shares])
        request = ([text(token) for token in tokens], [0] * len(tokens), data, False)
        account = self.bench.account
        self.bench.send(self.vault, f"exitPool(bytes32,address,address,{CHANGE})", identity, account, account, request)

    def shares(self, identity: bytes) -> int:
        """What the account holds of a pool's LP token."""
        [held] = self.bench.ask(["uint256"], self.pool(identity), "balanceOf(address)", self.bench.account)
        return int(held)

    def swap(self, identity: bytes, token_in: bytes, token_out: bytes, amount: int) -> None:
        """Have somebody swap exactly so much in."""
        account = self.bench.account
        single = (identity, 0, text(token_in), text(token_out), amount, b"")
        self.bench.send(self.vault, SWAP, single, (account, False, account, False), 0, FOREVER)

    def pool(self, identity: bytes) -> str:
        """Return a pool's address."""
        return text(identity[:20])

    def allowed(self, contract: str, signature: str, *arguments: object) -> None:
        """Do what only a role may: the deployer takes it first."""
        selector = call_data(signature, *arguments)[:4]
        [action] = self.bench.ask(["bytes32"], contract, "getActionId(bytes4)", selector)
        self.bench.send(self.authorizer, "grantRole(bytes32,address)", action, self.bench.account)
        self.bench.send(contract, signature, *arguments)
