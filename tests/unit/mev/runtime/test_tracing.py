"""Spans reach a collector that takes the protocol at its word; one that does not take them is counted, told of, and waited for by nobody."""

from __future__ import annotations

import datetime as dt
import ssl
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mev.runtime import otlp
from mev.runtime.secret import SecretError
from prometheus_client import CollectorRegistry

from tests.collector import Collector
from tests.unit.mev.collecting import collector, pipe_to

__all__ = ["collector"]

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def lost(registry: CollectorRegistry, reason: str) -> float | None:
    return registry.get_sample_value("mev_trace_spans_lost_total", {"reason": reason})


def test_what_is_ended_is_there_when_the_agent_ends(collector: Collector, registry: CollectorRegistry) -> None:
    pipe = pipe_to(collector.url, registry)
    outer = pipe.start("outer", {"mev.chain": "base", "mev.block.number": 7})
    inner = pipe.start("inner", {}, parent=outer)
    pipe.end(inner, "dropped", "no_profit")
    pipe.end(outer, "expired", "interrupted", failed=True)
    pipe.close()
    assert collector.refused == []
    assert {resource["service.name"] for resource in collector.resources} == {"mev.strategy_engine"}
    (above,), (below,) = collector.named("outer"), collector.named("inner")
    assert (above.parent, below.parent, below.trace) == ("", above.id, above.trace)
    assert above.attributes == {
        "mev.chain": "base",
        "mev.block.number": 7,
        "mev.outcome": "expired",
        "mev.reason": "interrupted",
    }
    assert (above.failed, below.failed) == (True, False)
    assert all("Authorization" not in headers for headers in collector.headers)
    assert (lost(registry, "not_delivered"), lost(registry, "queue_full")) == (0.0, 0.0)


def test_the_credential_goes_in_the_header_and_is_read_each_time(
    collector: Collector, registry: CollectorRegistry, tmp_path: Path
) -> None:
    secret = tmp_path / "authorization"
    secret.touch(mode=0o600)
    secret.write_text("Bearer first\n")
    pipe = pipe_to(collector.url, registry, authorization=f"file:{secret}")
    secret.write_text("Bearer second\n")
    pipe.start("one", {}).end()
    pipe.close()
    assert [headers["Authorization"] for headers in collector.headers] == ["Bearer second"]


def own_certificate() -> bytes:
    """A key and a certificate for 127.0.0.1 that is its own authority; PEM."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "collector")])
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(addresses, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return secret + certificate.public_bytes(pem)


@pytest.mark.parametrize("known", [True, False])
def test_the_host_decides_whose_certificates_are_good(
    registry: CollectorRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr(otlp, "EXPORT_SECONDS", 0.5)
    pair = tmp_path / "collector.pem"
    pair.write_bytes(own_certificate())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    collector = Collector(tls=context)
    if known:
        monkeypatch.setenv("SSL_CERT_FILE", str(pair))
    with structlog.testing.capture_logs() as logged:
        pipe = pipe_to(collector.url, registry)
        pipe.start("one", {}).end()
        pipe.close()
    collector.close()
    assert [span.name for span in collector.spans] == (["one"] if known else [])
    assert all("certificate verify failed" in line["why"] for line in logged)
    assert lost(registry, "not_delivered") == len(logged) == (0 if known else 1)


@pytest.mark.parametrize("content", ["Bearer se5ame\nX-More: 1", "Bearer se5am\u00e9"])
def test_a_credential_that_is_no_header_is_refused_and_not_shown(
    registry: CollectorRegistry, tmp_path: Path, content: str
) -> None:
    secret = tmp_path / "authorization"
    secret.touch(mode=0o600)
    secret.write_text(content)
    with pytest.raises(SecretError, match="holds no header's value") as caught:
        pipe_to(NOBODY, registry, authorization=f"file:{secret}")
    assert "se5am" not in str(caught.value)


@pytest.mark.parametrize("answer", [None, 302, 400, 503])
def test_what_is_not_taken_is_counted_and_told_once(
    registry: CollectorRegistry, answer: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One attempt, as there is no time for another.
    monkeypatch.setattr(otlp, "EXPORT_SECONDS", 0.5)
    collector = Collector(answer) if answer else None
    with structlog.testing.capture_logs() as logged:
        for _ in range(2):
            pipe = pipe_to(collector.url if collector else NOBODY, registry := CollectorRegistry())
            pipe.start("one", {}).end()
            pipe.start("two", {}).end()
            pipe.close()
            assert lost(registry, "not_delivered") == 2.0
    if collector:
        collector.close()
    told = [line for line in logged if line["event"] == "spans are lost"]
    assert [(line["log_level"], line["spans"], line["reason"]) for line in told] == 2 * [
        ("warning", 2, "not_delivered")
    ]
    assert str(answer or "Connection refused") in told[0]["why"]


def test_a_queue_that_is_full_takes_no_more_and_the_end_does_not_wait(
    collector: Collector, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "QUEUE_SPANS", 3)
    monkeypatch.setattr(otlp, "BATCH_SPANS", 2)
    monkeypatch.setattr(otlp, "EXPORT_SECONDS", 600.0)
    monkeypatch.setattr(otlp, "CLOSE_SECONDS", 0.1)
    # It answers when the test is over, not before.
    collector.gate.clear()
    pipe = pipe_to(collector.url, registry)
    with structlog.testing.capture_logs() as logged:
        for _ in range(2):
            pipe.start("sent", {}).end()
        assert collector.asked.wait(30)
        for _ in range(5):
            pipe.start("waits", {}).end()
        assert lost(registry, "queue_full") == 4.0
        pipe.close()
    assert lost(registry, "not_delivered") == 3.0
    assert len([line for line in logged if line["event"] == "spans are lost"]) == 1


def test_what_is_not_sampled_is_not_sent(collector: Collector, registry: CollectorRegistry) -> None:
    pipe = pipe_to(collector.url, registry, ratio=1e-18)
    outer = pipe.start("outer", {})
    pipe.start("inner", {}, parent=outer).end()
    outer.end()
    pipe.close()
    assert not outer.is_recording()
    assert collector.spans == []


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)


def test_nothing_is_imported_where_traces_are_off() -> None:
    done = python(
        "import sys\n"
        "import mev.strategy_engine, mev.analytics_engine, mev.cli\n"
        "from mev.runtime import tracing\n"
        "from mev.trading.spans import spans_to, Spans\n"
        "assert type(spans_to(tracing.connect(None, 'strategy_engine', None))) is Spans\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('opentelemetry', 'google', 'requests')])\n"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_packages_that_are_missing_are_one_sentence() -> None:
    done = python(
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "from mev.runtime import tracing\n"
        "from mev.runtime.config import ConfigError, TracesConfig\n"
        "try:\n"
        "    tracing.connect(TracesConfig(endpoint='http://127.0.0.1:4318'), 'strategy_engine', None)\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    assert done.stderr == ""
    assert done.stdout.startswith("traces.endpoint is set and opentelemetry")
    assert done.stdout.endswith("is not installed; allowed: with mev[traces] installed, or no [traces]\n")
