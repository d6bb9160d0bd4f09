"""Settings and state that somebody has written who was wrong, or worse."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.cli import evaluate, main, run, train
from spm_gym.config import Config, ConfigError, load_config
from spm_gym.config.json_file import JsonError, parse_json, read_json
from spm_gym.config.yaml_file import excerpt, parse_yaml
from spm_gym.errors import InstrumentError
from spm_gym.instrument.nanonis.commands import RELEASES
from spm_gym.instrument.nanonis.settings import Settings
from spm_gym.instrument.sim.dynamics import ProbeDynamics
from spm_gym.runner.control import Request as Asked
from spm_gym.runner.control import WrongToken, ask
from spm_gym.servers.nanonis.faults import load_faults

ROOT = Path(__file__).parents[2]
LONG = "9" * 6000
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
ATTACKS = {
    "two sections": ("real: {limits: {bias_V: [0.1, 3]}}\nreal: {host: x}\n", "line 2", "'real'"),
    "two keys": ("agent:\n  steps: 3\n  gamma: 0.9\n  steps: 4\n", "line 4", "'steps'"),
    "two keys, one quoted": ('seed: 1\n"seed": 2\n', "line 2", "seed"),
    "two keys, deep": ("env: {regions: {area_nm: 9, area_nm: 8}}\n", "line 1", "area_nm"),
    "merged": ("x: &x {host: a}\nreal:\n  <<: *x\n  host: b\n", "line 3", "merge keys"),
    "merged twice": ("real:\n  <<: {host: a}\n  <<: {host: b}\n", "line 2", "merge keys"),
    "deep flow": ("seed: " + "[" * 50_000, "line 1", "levels"),
    "deep maps": ("seed: " + "{a: " * 20_000, "line 1", "levels"),
    "deep block": ("- " * 20_000 + "x", "line 1", "levels"),
    "aliases": (BOMB, "line", "aliases"),
    "endless": ("seed: &a [*a]", "line 1", "inside what it stands for"),
    "6,000 digits": (f"seed: {LONG}", "line 1", "6000"),
    "6,000 digits after the point": (f"env: {{image_nm: 1.{LONG}}}", "line 1", "6002"),
    "6,000 hexadecimal digits": (f"seed: 0x{LONG}", "line 1", "6002"),
    "6,000 digits as a key": (f"{LONG}: 1", "line 1", "6000"),
    "6,000 sixtieths": ("seed: 1" + ":59" * 2000, "line 1", "characters"),
    "zero byte": ("seed: \0", "not YAML", ""),
    "zero byte in a name": ('operation: {agent: "a\\0b"}', "line 1", "zero byte"),
    "half a letter": ('operation: {agent: "\\ud800"}', "line 1", "half a letter"),
    "no letter": ('operation: {agent: "\\U00110000"}', "line 1", ""),
    "python": ("seed: !!python/object/apply:os.system [id]", "line 1", "tag"),
    "own tag": ("seed: !mine 3", "line 1", "tag"),
    "set": ("seed: !!set {a, b}", "line 1", "tag"),
    "bytes": ("seed: !!binary aGk=", "line 1", "tag"),
    "no number": ("seed: !!int abc", "line 1", "int"),
    "no number at all": ('seed: !!int ""', "line 1", "int"),
    "no truth": ("seed: !!bool abc", "line 1", "bool"),
    "no number with a point": ("seed: !!float abc", "line 1", "float"),
    "a map as a key": ("{a: 1}: 2", "line 1", "key"),
    "a list as a key": ("? [a]\n: 2", "line 1", "key"),
    "two documents": ("seed: 1\n---\nseed: 2\n", "not YAML", ""),
    "a date that is none": ("seed: 2001-99-99", "seed", "'2001-99-99'"),
    "a list": ("[1, 2]", "key: value", ""),
    "a long text": ("x" * 200_000, "key: value", ""),
    "an unknown key of any length": (f"? {'k' * 5000}\n: {'v' * 5000}", "unknown", "kkk"),
    "a key that moves the cursor": ('"\\e[2J\\n": 1', "unknown", r"\x1b[2J\n"),
    "a value of any length": (f"run: {{microscope: {'v' * 5000}}}", "run.microscope", "vvv"),
    "many values": ("seed: [" + "1," * 100_000 + "1]", "line 1", "values"),
}
attack = pytest.mark.parametrize("name", ATTACKS)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def one_line(error: pytest.ExceptionInfo[BaseException], *words: str) -> None:
    text = str(error.value)
    assert text.isprintable(), repr(text)
    assert len(text) < 1200
    for word in words:
        assert word in text


@attack
def test_a_file_of_settings_gets_one_line(name: str) -> None:
    text, *words = ATTACKS[name]
    Path("mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(Path("mine.yaml"))
    one_line(error, *words)


@attack
@pytest.mark.parametrize(
    "read",
    [
        load_faults,
        ProbeDynamics,
    ],
)
def test_so_do_faults_and_transitions(name: str, read: Callable[[Path], object]) -> None:
    Path("mine.yaml").write_text(ATTACKS[name][0])
    with pytest.raises(ConfigError) as error:
        read(Path("mine.yaml"))
    one_line(error, "mine.yaml")


@attack
def test_so_does_a_value_on_the_command_line(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(None, [f"env={ATTACKS[name][0]}"])
    one_line(error, "env")


@attack
def test_so_do_the_commands(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(ATTACKS[name][0])
    for command in (
        ["run", "--faults", "mine.yaml"],
        ["run", "--config", "mine.yaml"],
        ["virtual-nanonis", "--faults", "mine.yaml", "--ports", "0"],
    ):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.removesuffix("\n").isprintable()
    assert not Path("runs").exists()


def test_a_limit_cannot_be_hidden_by_a_second_section() -> None:
    Path("mine.yaml").write_text(
        "real:\n  limits: {bias_V: [0.1, 3]}\n  host: a\nseed: 1\nreal:\n  host: b\n"
    )
    with pytest.raises(ConfigError) as error:
        load_config(Path("mine.yaml"))
    assert str(error.value) == (
        "mine.yaml, line 5: the key 'real' stands there a second time, first in line 1: "
        "keep one of them"
    )


@pytest.mark.parametrize("keys", ["2.5: {}, 2.50: {}", '2.5: {}, "2.50": {}', "1: {}, 1.0: {}"])
def test_keys_that_are_one_number_are_one_key(keys: str) -> None:
    with pytest.raises(ConfigError, match="a second time"):
        parse_yaml(f"{{{keys}}}", "x")


@pytest.mark.parametrize("name", ["/dev/zero", ".", "none.yaml", "large.yaml", "latin.yaml", "\0"])
def test_what_is_no_file_of_settings_is_not_read_to_its_end(name: str) -> None:
    Path("large.yaml").write_text("# " + "x" * 2**18)
    Path("latin.yaml").write_bytes("höhe: 1".encode("latin-1"))
    with pytest.raises(ConfigError) as error:
        load_config(Path(name))
    assert "\n" not in str(error.value)


def test_honest_files_are_read_as_before() -> None:
    for file in (ROOT / "configs").glob("*.yaml"):
        assert parse_yaml(file.read_text(), file.name) == yaml.safe_load(file.read_text())
    shipped = ROOT / "spm_gym/instrument/sim/transitions.yaml"
    assert parse_yaml(shipped.read_text(), "x") == yaml.safe_load(shipped.read_text())
    assert parse_yaml("a: &x [1, 2]\nb: *x", "x") == {"a": [1, 2], "b": [1, 2]}
    assert parse_yaml("\ufeffa: 2024-01-31", "x") == {"a": "2024-01-31"}
    assert load_config(None, ["operation.agent=2024-01-31"]).operation.agent == Path("2024-01-31")
    Path("bom.yaml").write_bytes(b"\xef\xbb\xbfseed: 7")
    assert load_config(Path("bom.yaml")).seed == 7


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False)
    | st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.from_regex("key[a-z]{1,8}", fullmatch=True), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(plain)
def test_whatever_is_written_is_read_again(value: object) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    assert parse_yaml(text, "x") == yaml.safe_load(text)


@given(st.text(max_size=200))
def test_no_text_ends_in_anything_but_one_line(text: str) -> None:
    message = ""
    try:
        parse_yaml(text, "x")
    except ConfigError as error:
        message = str(error)
    assert "\n" not in message


def test_no_value_is_too_long_to_be_shown() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (10**10_000, "x" * 10**6, deep, {"a": [10**9999] * 1000}):
        assert len(excerpt(value)) < 1200
    while deep:  # a chain of this length is taken apart without the interpreter's help
        deep = deep.pop()  # type: ignore[assignment]


def test_paths_are_not_taken_for_yaml() -> None:
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    for name in ("a #1", "0123", "yes", "a: b", "[x", "'", "2024-01-31", "~", "\U0001f600",
                 "a\u2028b", "x " * 200 + "x", "\x1b", "a\nb"):  # fmt: skip
        arguments = parser.parse_args(["--notify", name])
        assert load_config(None, run._given(arguments)).operation.notify == Path(name)


JSON = {
    "deep": "[" * 50_000,
    "deep maps": '{"a":' * 50_000,
    "cut short": '{"a": 1',
    "6,000 digits": LONG,
    "twice": '{"salt": "00", "salt": "11"}',
    "half a letter in bytes": '"\xff',
    "a list": "[1]",
    "nothing": "",
    "another": '{"version": 1}',
}
damaged = pytest.mark.parametrize("text", JSON.values(), ids=JSON)


@damaged
def test_damaged_state_is_one_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    content = text.encode("latin-1")
    folder = Path("run")
    folder.mkdir()
    (folder / "control_protection.json").write_bytes(content)
    with pytest.raises(WrongToken):
        ask(folder, Asked.STOP, "token")
    (folder / "settings_before.json").write_bytes(content)
    with pytest.raises(InstrumentError, match="damaged") as error:
        Settings.load(folder / "settings_before.json", RELEASES[-1])
    assert "\n" not in str(error.value)
    Path("found.json").write_bytes(content)
    assert main(["show", "found.json"]) == 2
    checkpoint = folder / "checkpoints" / "step_0000001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "meta.json").write_bytes(content)
    (folder / "training.yaml").write_text(Config().to_yaml())
    assert train.main(["--resume", "--run-dir", "run"]) == 2
    assert evaluate.main(["--checkpoint", str(checkpoint), "--config", "run/training.yaml"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


@pytest.mark.parametrize("value", ["5", '{"bias": "x"}', '{"bias": NaN}', "{}", '{"bias": 1e999}'])
def test_the_operators_settings_are_checked_before_the_tip_moves(value: str) -> None:
    names = ("setpoint", "frame", "buffer", "speed", "properties", "shaper", "safe_tip")
    whole = {name: {} for name in (*names, "safe_tip_on")}
    Path("before.json").write_text(json.dumps(whole)[:-1] + f', "bias": {value}}}')
    with pytest.raises(InstrumentError, match="damaged"):
        Settings.load(Path("before.json"), RELEASES[-1])


def test_json_has_one_kind_of_error(tmp_path: Path) -> None:
    for text in JSON.values():
        if text in ("[1]", JSON["another"]):
            continue
        with pytest.raises(JsonError) as error:
            parse_json(text.encode("latin-1"))
        assert "\n" not in str(error.value)
    started = time.monotonic()
    with pytest.raises(JsonError):
        read_json(Path("/dev/zero"))
    assert time.monotonic() - started < 600, "it is not read to its end"
