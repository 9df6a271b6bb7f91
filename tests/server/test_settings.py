"""Settings of flags, environment and TOML: precedence, types, and what is refused."""

from __future__ import annotations

import pytest

from resvox.errors import ResvoxError
from resvox.prediction.options import PredictOptions
from resvox.server.refusals import SettingsError
from resvox.server.settings import ServeSettings, is_loopback, load_settings, name_of

TOKEN = "0123456789abcdef"


def test_flags_go_before_the_environment_and_that_before_the_file(tmp_path):
    config = tmp_path / "serve.toml"
    config.write_text('port = 1\nmax_queue = 7\nmodels = ["a", "b=c/d"]\nmirror = true\nkeep_hours = 2\n')
    environment = {"RESVOX_SERVE_PORT": "2", "RESVOX_SERVE_KEEP_HOURS": "3.5", "OTHER": "x"}
    made = load_settings({"port": 4, "data": None, "origins": ()}, config=config, environment=environment)
    assert (made.port, made.keep_hours, made.max_queue, made.mirror) == (4, 3.5, 7, True)
    assert made.named_models == {"a": "a", "b": "c/d"}
    assert load_settings({}, environment={"RESVOX_SERVE_CONFIG": str(config)}).port == 1
    assert load_settings({}, environment={"RESVOX_SERVE_DEVICES": "cuda:0, cuda:1"}).devices == ("cuda:0", "cuda:1")


def test_what_is_not_set_is_as_in_predict():
    """A model of nnU-Net is mirrored by default in both."""
    made, plain = ServeSettings().predict_options("model"), PredictOptions(model="model")
    for name in ("engine", "precision", "mirror", "overlap"):
        assert getattr(made, name) == getattr(plain, name), name
    for text, wanted in (("0", False), ("1", True)):
        assert load_settings({}, environment={"RESVOX_SERVE_MIRROR": text}).predict_options("model").mirror is wanted


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("prot = 1", "no setting 'prot'.*did you mean port"),
        ("port = 'x'", "port='x'"),
        ("port = ", "not TOML"),
        ("mirror = 'maybe'", "mirror='maybe'"),
        ("max_queue = 0", "max_queue=0"),
        ("port = 70000", "0 to 65535"),
        ("log_level = 'loud'", "log_level"),
        ("devices = ['gpu']", "device 'gpu'"),
        ("devices = ['cpu', 'cpu']", "each once"),
        ("origins = ['*']", "origin"),
        ("dicomweb = 'file:///etc'", "http"),
        ("engine = 'none'", "engine"),
        ("token = 'short'", "at least 16"),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(tmp_path, text, reason):
    config = tmp_path / "serve.toml"
    config.write_text(text)
    with pytest.raises(ResvoxError, match=reason):
        load_settings({}, config=config, environment={})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "scanner.example.org", ""])
def test_other_machines_need_a_token(host):
    with pytest.raises(SettingsError, match="without a token"):
        ServeSettings(host=host)
    assert ServeSettings(host=host, token=TOKEN).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_the_loopback_needs_none(host):
    assert is_loopback(host)
    assert ServeSettings(host=host).token == ""


def test_a_token_can_come_from_a_file(tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert load_settings({"token_file": str(tmp_path / "token")}, environment={}).token == TOKEN
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings({"token_file": str(tmp_path / "none")}, environment={})


def test_of_a_token_and_a_token_file_that_of_the_stronger_source_is_used(tmp_path):
    (tmp_path / "token").write_text("of-the-file-" + TOKEN)
    config = tmp_path / "serve.toml"
    flag = {"token_file": str(tmp_path / "token")}
    config.write_text("token = 'of-the-toml-0123456789'")
    assert load_settings(flag, config=config, environment={}).token == "of-the-file-" + TOKEN
    assert load_settings(flag, environment={"RESVOX_SERVE_TOKEN": TOKEN}).token == "of-the-file-" + TOKEN
    environment = {"RESVOX_SERVE_TOKEN_FILE": flag["token_file"]}
    assert load_settings({}, config=config, environment=environment).token == "of-the-file-" + TOKEN
    config.write_text(f"token_file = '{tmp_path / 'none'}'")
    made = load_settings({}, config=config, environment={"RESVOX_SERVE_TOKEN": TOKEN})
    assert (made.token, made.token_file) == (TOKEN, "")


def test_a_token_and_a_token_file_of_one_source_are_refused(tmp_path):
    config = tmp_path / "serve.toml"
    config.write_text(f"token = '{TOKEN}'\ntoken_file = 'token'")
    with pytest.raises(SettingsError, match=r"serve\.toml: token and token_file; expected one of them"):
        load_settings({}, config=config, environment={})
    environment = {"RESVOX_SERVE_TOKEN": TOKEN, "RESVOX_SERVE_TOKEN_FILE": "token"}
    with pytest.raises(SettingsError, match="the environment: token and token_file"):
        load_settings({}, environment=environment)


def test_models_are_named_by_run_or_file(tmp_path):
    (tmp_path / "liver").mkdir()
    assert name_of(tmp_path / "liver") == "liver"
    assert name_of(tmp_path / "liver" / "model.safetensors") == "liver"
    assert name_of(tmp_path / "spleen.onnx") == "spleen"
    with pytest.raises(SettingsError, match="two models named 'liver'"):
        _ = ServeSettings(models=(str(tmp_path / "liver"), "liver=x")).named_models
    with pytest.raises(SettingsError, match="model name 'a b'"):
        _ = ServeSettings(models=("a b=x",)).named_models
    with pytest.raises(SettingsError, match="no model"):
        _ = ServeSettings().named_models
