from __future__ import annotations

import math
from pathlib import Path

import pytest

from gearshift.app.parts import inspectors, make_executors
from gearshift.app.settings import CONFIG_VARIABLE, Settings, load_settings
from gearshift.errors import ConfigurationInvalid
from gearshift.executors.trial import inspect_apart


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    # setenv first, so that what load_settings sets is taken back after the test.
    monkeypatch.setenv(CONFIG_VARIABLE, "")
    for name in Settings.model_fields:
        monkeypatch.delenv(f"GEARSHIFT_{name.upper()}", raising=False)


def test_defaults_are_safe():
    settings = load_settings()
    assert (settings.host, settings.grpc_port, settings.http_port) == ("127.0.0.1", 8001, 8002)
    assert settings.repository == Path("model_repo")
    assert settings.workers >= 1


def test_an_option_wins_over_the_environment_over_the_file(tmp_path, monkeypatch):
    config = tmp_path / "gearshift.toml"
    config.write_text('grpc_port = 1\nhttp_port = 1\nworkers = 1\nproviders = ["cpu"]\n')
    monkeypatch.setenv("GEARSHIFT_GRPC_PORT", "2")
    monkeypatch.setenv("GEARSHIFT_HTTP_PORT", "2")
    settings = load_settings(config, grpc_port=3, http_port=None)
    assert (settings.grpc_port, settings.http_port, settings.workers) == (3, 2, 1)
    assert [each.name for each in settings.providers] == ["cpu"]


def test_every_setting_can_come_from_the_environment(monkeypatch):
    values = {
        "max_artifact_bytes": "2000000",
        "max_repository_bytes": "3000000",
        "max_run_bytes": "4000000",
        "try_apart": "true",
        "repository": "/models",
        "host": "0.0.0.0",
        "grpc_port": "9",
        "http_port": "10",
        "workers": "3",
        "processes": "2",
        "state_dir": "/state",
        "providers": '["CPUExecutionProvider"]',
        "on_time_bonus": "0.5",
        "drain_seconds": "1.5",
        "connection_age_seconds": "300",
        "shared_memory": "true",
        "rest": "false",
        "shadow_share": "0.05",
        "drift": "false",
        "watch": "true",
        "watch_settle_seconds": "0.5",
        "feedback": "false",
        "feedback_url": "postgresql://db/gearshift",
        "feedback_rows": "5000",
        "feedback_days": "7.5",
        "quotas": "/etc/gearshift/quotas.toml",
        "max_connections": "100",
        "max_connections_per_peer": "10",
        "max_streams": "50",
        "max_requests": "1000",
        "max_requests_per_connection": "200",
        "max_queue": "300",
        "max_queue_bytes": "2000000",
        "max_held_bytes": "4000000",
        "max_unread_bytes": "3000000",
        "max_message_bytes": "1000000",
        "max_metadata_bytes": "8192",
        "max_cancels_per_second": "20",
        "max_idle_frames_per_second": "1000",
        "stall_seconds": "5",
        "max_shared_memory_regions": "4",
        "max_http_connections": "16",
        "max_http_head_bytes": "4096",
        "http_seconds": "3",
        "otel_endpoint": "http://collector:4317",
        "trace_ratio": "0.25",
        "hung_after_seconds": "20",
        "worker_isolation": "process",
        "worker_memory_mib": "500",
        "worker_threads": "2",
        "gpu_workers": "2",
        "device_memory_mib": '{"cpu": 2048}',
        "log_level": "debug",
        "log_format": "json",
        "tls_certificate": "/tls/tls.crt",
        "tls_key": "/tls/tls.key",
        "tls_client_ca": "/tls/ca.crt",
        "tls_client_required": "false",
        "http_host": "127.0.0.1",
        "http_tls": "false",
        "http_hosts": '["gears.example"]',
        "access": "/access.toml",
        "audit_log": "/audit.jsonl",
        "insecure": "true",
    }
    assert set(values) == set(Settings.model_fields)
    default = load_settings()
    for name, value in values.items():
        monkeypatch.setenv(f"GEARSHIFT_{name.upper()}", value)
    changed = load_settings()
    assert all(getattr(changed, name) != getattr(default, name) for name in values)


def test_threads_a_run_are_for_worker_processes():
    with pytest.raises(ConfigurationInvalid, match=r"worker_threads: 4 .*worker_isolation"):
        load_settings(worker_threads=4)
    alone = load_settings(worker_isolation="process").workers
    four = load_settings(worker_isolation="process", worker_threads=4).workers
    assert four == max(1, alone // 4)
    assert load_settings(worker_isolation="process", worker_threads=4, workers=9).workers == 9


def test_a_wrong_provider_is_told_with_those_that_there_are(monkeypatch):
    with pytest.raises(ConfigurationInvalid, match=r"providers.1: .*known are coreml, cpu, cuda"):
        load_settings(providers=["cpu", "rocm"])
    monkeypatch.setenv("GEARSHIFT_PROVIDERS", '[{"name": "cuda", "fp16": true}]')
    with pytest.raises(ConfigurationInvalid, match=r"providers.0.cuda.fp16: Extra inputs"):
        load_settings()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cpu": 0}, r"device_memory_mib.cpu: .*greater than 0, got 0"),
        ({"cpu": math.inf}, r"device_memory_mib.cpu: .*finite"),
        ({"gpu0": "8 GiB"}, r"device_memory_mib.gpu0: .*valid number.*got '8 GiB'"),
        ({"cuda:0": 8}, r"device_memory_mib.*'cuda:0'; there are cpu, gpu0"),
        ("cpu", r"device_memory_mib.cpu: .*valid number.*got ''"),
        ({"express": 8}, r"device_memory_mib.*no device with a memory of its own"),
        ({"remote": 8}, r"device_memory_mib.*no device with a memory of its own"),
    ],
)
def test_memory_is_so_many_mib_of_a_device_that_has_some(given, message):
    with pytest.raises(ConfigurationInvalid, match=message):
        load_settings(device_memory_mib=given)


def test_memory_by_device_comes_from_a_table(tmp_path):
    config = tmp_path / "gearshift.toml"
    config.write_text("device_memory_mib = { cpu = 2048, gpu0 = 0.5 }\n")
    assert load_settings(config).device_memory == {"cpu": 2.0**31, "gpu0": 2.0**19}
    assert load_settings().device_memory == {}
    told = load_settings(device_memory_mib="cpu=2048, gpu0=0.5")
    assert told.device_memory == {"cpu": 2.0**31, "gpu0": 2.0**19}


def test_providers_go_to_serving_processes_as_they_are():
    given = load_settings(providers=[{"name": "tensorrt", "fp16": True}, "cpu"])
    again = load_settings(**given.model_dump(mode="json"))
    assert again.providers == given.providers


@pytest.mark.parametrize(
    ("host", "said", "registers"),
    [
        ("127.0.0.1", None, True),
        ("127.1.2.3", None, True),
        ("::1", None, True),
        ("localhost", None, True),
        ("0.0.0.0", None, False),
        ("::", None, False),
        ("10.0.0.7", None, False),
        ("models.example", None, False),
        ("0.0.0.0", True, True),
        ("127.0.0.1", False, False),
    ],
)
def test_shared_memory_is_for_callers_on_this_machine_unless_said(host, said, registers):
    settings = load_settings(host=host, shared_memory=said)
    assert settings.registers_shared_memory is registers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grpc_prot = 1\n", "unknown setting 'grpc_prot'; there are .*repository, host"),
        ("workers = 0\n", "setting workers: .*greater than or equal to 1, got 0"),
        ("grpc_port = 70000\n", "setting grpc_port"),
        ('log_level = "loud"\n', "setting log_level: .*'debug'"),
        ("max_streams = 0\n", "setting max_streams: .*greater than or equal to 1, got 0"),
        ("max_message_bytes = 400000000\n", "max_held_bytes of .* less than twice max_message"),
        ("workers = \n", "configuration file .*gearshift.toml"),
    ],
)
def test_a_wrong_file_is_a_clear_error(tmp_path, text, message):
    config = tmp_path / "gearshift.toml"
    config.write_text(text)
    with pytest.raises(ConfigurationInvalid, match=message):
        load_settings(config)


def test_all_mistakes_are_told_at_once(tmp_path):
    config = tmp_path / "gearshift.toml"
    config.write_text("workers = 0\nbogus = 1\n")
    with pytest.raises(ConfigurationInvalid, match=r"(?s)workers.*bogus|bogus.*workers"):
        load_settings(config)


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigurationInvalid, match="no such file"):
        load_settings(tmp_path / "nope.toml")


def test_how_far_a_repository_is_trusted():
    settings = load_settings(max_artifact_bytes=2**20, try_apart=True)
    assert (settings.max_artifact_bytes, settings.max_repository_bytes) == (2**20, 16 * 2**30)
    assert inspectors(settings, make_executors(settings))["onnx"] is inspect_apart
    usual = make_executors(load_settings())
    assert inspectors(load_settings(), usual)["onnx"] == usual["onnx"].inspect
    with pytest.raises(ConfigurationInvalid, match="max_artifact_bytes"):
        load_settings(max_artifact_bytes=0)
