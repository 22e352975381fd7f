"""Signing, held against eth_account."""

import pytest
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes
from hypothesis import given
from hypothesis import strategies as st
from mev.trading.execution.transaction import Signer, Transaction

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

secrets = st.integers(1, CURVE_ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
transactions = st.builds(
    Transaction,
    chain_id=st.sampled_from([1, 10, 137, 8453, 42161, 11155111]),
    nonce=st.integers(0, 2**64 - 2),
    max_priority_fee_wei=st.integers(0, 2**70),
    max_fee_wei=st.integers(0, 2**70),
    gas_limit=st.integers(21_000, 2**40),
    to=st.binary(min_size=20, max_size=20),
    value_wei=st.integers(0, 2**128),
    data=st.binary(max_size=600),
)


@given(secrets, transactions)
def test_bytes_and_hash_are_eth_account_s(secret: bytes, transaction: Transaction) -> None:
    theirs = Account.sign_transaction(
        {
            "type": 2,
            "chainId": transaction.chain_id,
            "nonce": transaction.nonce,
            "maxPriorityFeePerGas": transaction.max_priority_fee_wei,
            "maxFeePerGas": transaction.max_fee_wei,
            "gas": transaction.gas_limit,
            "to": transaction.to,
            "value": transaction.value_wei,
            "data": transaction.data,
        },
        secret,
    )
    ours = Signer(secret).sign(transaction)
    assert ours.raw == bytes(theirs.raw_transaction)
    assert ours.hash == bytes(theirs.hash)


@given(secrets)
def test_address_is_eth_account_s(secret: bytes) -> None:
    assert Signer(secret).address == bytes.fromhex(Account.from_key(secret).address[2:])


@pytest.mark.parametrize(
    "secret", [bytes(32), CURVE_ORDER.to_bytes(32, "big"), b"\xff" * 32, b"\x01" * 31, b"\x01" * 33]
)
def test_what_is_no_key_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Signer(secret)


def test_a_signer_does_not_show_its_key() -> None:
    secret = bytes(range(1, 33))
    assert secret.hex() not in repr(Signer(secret))
    assert secret.hex() not in str(vars(Signer(secret)))


def test_the_oracle_decodes_what_we_sign() -> None:
    signed = Signer(b"\x01" * 32).sign(
        Transaction(chain_id=1, nonce=0, max_priority_fee_wei=1, max_fee_wei=2, gas_limit=21_000, to=b"\x02" * 20)
    )
    assert TypedTransaction.from_bytes(HexBytes(signed.raw)).as_dict()["gas"] == 21_000
