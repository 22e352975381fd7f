"""Receipts to entries, exact, and deaf to what other contracts say."""

from typing import Any

import pytest
from mev.chain.abi import event_topic
from mev.chain.errors import MalformedAnswerError
from mev.trading.execution.accounts import Accounts
from mev.trading.execution.fees import offer
from mev.trading.execution.receipt import entries, parse

WRAPPED, SIGNER, EXECUTOR, PAIR = (bytes([number]) * 20 for number in (0xEE, 0x51, 0xE8, 0x0A))
ACCOUNTS = Accounts(chain="base", wrapped_native=WRAPPED, signer=SIGNER, executor=EXECUTOR)
TRANSFER = event_topic("Transfer(address,address,uint256)")
DEPOSIT = event_topic("Deposit(address,uint256)")
WITHDRAWAL = event_topic("Withdrawal(address,uint256)")


def text(content: bytes) -> str:
    return "0x" + content.hex()


def topic(account: bytes) -> str:
    return text(account.rjust(32, b"\0"))


def transfer(sender: bytes, receiver: bytes, amount: int, token: bytes = WRAPPED) -> dict[str, Any]:
    return {
        "address": text(token),
        "topics": [text(TRANSFER), topic(sender), topic(receiver)],
        "data": f"0x{amount:064x}",
    }


def receipt(*logs: dict[str, Any], status: int = 1, **more: str) -> Any:
    return parse(
        {
            "transactionHash": text(b"\x01" * 32),
            "blockNumber": "0x10",
            "blockHash": text(b"\x02" * 32),
            "status": hex(status),
            "gasUsed": "0x64",
            "effectiveGasPrice": "0x7",
            "logs": list(logs),
            "type": "0x2",
            **more,
        }
    )


def booked(read: Any, *, operators: bool = False) -> list[tuple[str, bytes, int, str]]:
    """Kind, token, amount, and the way it went."""
    return [
        (entry.kind.value, entry.token, entry.amount, f"{entry.credit}>{entry.debit}")
        for entry in entries(read, ACCOUNTS, "a", 5, operators=operators)
    ]


COIN = bytes(20)
GAS = ("gas", COIN, 700, "signer>gas")


def test_profit_is_what_came_in_less_what_went_out() -> None:
    read = receipt(transfer(EXECUTOR, PAIR, 1000), transfer(PAIR, PAIR, 3), transfer(PAIR, EXECUTOR, 1017))
    assert booked(read) == [GAS, ("swap_profit", WRAPPED, 17, "market>executor")]
    lost = receipt(transfer(EXECUTOR, PAIR, 1000), transfer(PAIR, EXECUTOR, 990))
    assert booked(lost) == [GAS, ("swap_profit", WRAPPED, 10, "executor>market")]


def test_a_rollup_s_data_fee_is_booked_apart() -> None:
    assert booked(receipt(l1Fee="0x3", status=0)) == [GAS, ("l1_fee", COIN, 3, "signer>l1_fee")]


def test_what_the_executor_unwraps_is_a_bribe() -> None:
    unwrap = {"address": text(WRAPPED), "topics": [text(WITHDRAWAL), topic(EXECUTOR)], "data": f"0x{5:064x}"}
    assert booked(receipt(transfer(PAIR, EXECUTOR, 17), unwrap))[1:] == [
        ("swap_profit", WRAPPED, 17, "market>executor"),
        ("bribe", WRAPPED, 5, "executor>bribe"),
    ]


def test_native_coin_that_a_pool_is_paid_or_gives_is_no_bribe() -> None:
    def wrapping(kind: bytes, amount: int) -> dict[str, Any]:
        return {"address": text(WRAPPED), "topics": [text(kind), topic(EXECUTOR)], "data": f"0x{amount:064x}"}

    def paid(amount: int, by: bytes = EXECUTOR) -> dict[str, Any]:
        return {
            "address": text(by),
            "topics": [text(event_topic("NativePaid(uint256)"))],
            "data": f"0x{amount:064x}",
        }

    there = receipt(wrapping(WITHDRAWAL, 1000), paid(1000), paid(7, by=PAIR), transfer(PAIR, EXECUTOR, 1017))
    assert booked(there)[1:] == [("swap_profit", WRAPPED, 17, "market>executor")]
    back = receipt(transfer(EXECUTOR, PAIR, 1000), wrapping(DEPOSIT, 1017))
    assert booked(back)[1:] == [("swap_profit", WRAPPED, 17, "market>executor")]
    both = receipt(wrapping(WITHDRAWAL, 1005), paid(1000), wrapping(DEPOSIT, 1017))
    assert booked(both)[1:] == [
        ("swap_profit", WRAPPED, 17, "market>executor"),
        ("bribe", WRAPPED, 5, "executor>bribe"),
    ]
    # A wrapped coin that tells of it by Transfer tells of it once.
    nobody = bytes(20)
    other = receipt(transfer(EXECUTOR, nobody, 1000), paid(1000), transfer(PAIR, EXECUTOR, 1017))
    assert booked(other)[1:] == [("swap_profit", WRAPPED, 17, "market>executor")]


def test_a_revert_costs_gas_and_earns_nothing() -> None:
    assert booked(receipt(status=0)) == [GAS]


def test_other_tokens_and_foreign_events_count_for_nothing() -> None:
    short = {"address": text(WRAPPED), "topics": [text(TRANSFER)], "data": "0x"}
    anonymous = {"address": text(WRAPPED), "topics": [], "data": "0x01"}
    read = receipt(transfer(PAIR, EXECUTOR, 10**30, token=PAIR), short, anonymous, transfer(PAIR, EXECUTOR, 4))
    assert booked(read)[1] == ("swap_profit", WRAPPED, 4, "market>executor")


def test_an_operator_s_wrap_and_fund_move_capital_and_earn_nothing() -> None:
    wrap = {"address": text(WRAPPED), "topics": [text(DEPOSIT), topic(SIGNER)], "data": f"0x{50:064x}"}
    assert booked(receipt(wrap), operators=True) == [
        GAS,
        ("funding", COIN, 50, "signer>wrapper"),
        ("funding", WRAPPED, 50, "wrapper>signer"),
    ]
    fund, withdraw = transfer(SIGNER, EXECUTOR, 50), transfer(EXECUTOR, SIGNER, 50)
    assert booked(receipt(fund), operators=True) == [GAS, ("funding", WRAPPED, 50, "signer>executor")]
    assert booked(receipt(withdraw), operators=True) == [GAS, ("funding", WRAPPED, 50, "executor>signer")]
    given = transfer(PAIR, SIGNER, 3)
    assert booked(receipt(fund, given), operators=True)[2] == ("funding", WRAPPED, 3, "equity>signer")


@pytest.mark.parametrize("answer", ["0x1", [], {}, {"status": "0x1"}, 7])
def test_what_is_no_receipt_is_refused(answer: object) -> None:
    with pytest.raises(MalformedAnswerError):
        parse(answer)


def test_fees_hold_through_five_full_blocks_and_never_pass_the_cap() -> None:
    offered = offer(base_fee_wei=80, tip_wei=2, cap_wei=1000)
    assert (offered.max_priority_fee_wei, offered.max_fee_wei, offered.next_price_wei) == (2, 162, 92)
    assert offered.max_fee_wei > 80 * (9 / 8) ** 5
    capped = offer(base_fee_wei=80, tip_wei=2, cap_wei=100)
    assert (capped.max_fee_wei, capped.next_price_wei) == (100, 92)
    assert offer(base_fee_wei=80, tip_wei=500, cap_wei=100).max_priority_fee_wei == 100
