"""The deployment files in configs/cluster: what Ray and KubeRay accept, what our commands accept, and each other."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml

from kuberay import RAYJOB
from sto_engine.cli import cli
from sto_engine.config import load_config

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "configs" / "cluster"
INSTALLED = "/opt/sto-engine/"
CLUSTER = yaml.safe_load((FOLDER / "ray-cluster.yaml").read_text())
JOB = yaml.safe_load((FOLDER / "rayjob.yaml").read_text())
POLICY = yaml.safe_load((FOLDER / "network-policy.yaml").read_text())
NIGHT = (FOLDER / "nightly.sh").read_text()
IMAGE = (FOLDER / "Dockerfile").read_text()


def pods() -> list[dict[str, Any]]:
    """The templates of all pods of the job."""
    spec = JOB["spec"]["rayClusterSpec"]
    return [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]


def commands(text: str) -> Iterator[list[str]]:
    """The words of every sto-engine command of a script, its variables filled in."""
    text = re.sub(r"\\\n\s*", " ", text)
    common = re.search(r"(?m)^common=\((.*)\)$", text)
    text = text.replace('"${common[@]}"', common[1] if common else "")
    for line in re.findall(r"(?m)^ *(?:\$ )?(sto-engine .*?)(?: \|\| \{)?$", text):
        yield shlex.split(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", line).replace("$root", "/mnt/sto"), comments=True)


def parse(words: list[str]) -> None:
    """A command line is read to its end, and not run."""
    command: click.Command = cli
    at = 1
    while isinstance(command, click.Group):
        command, at = command.commands[words[at]], at + 1
    command.make_context(words[at - 1], words[at:])


def test_ray_accepts_the_cluster_file() -> None:
    found = importlib.util.find_spec("ray")
    assert found is not None
    (folder,) = found.submodule_search_locations or ()
    schema = json.loads((Path(folder) / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(CLUSTER, schema)
    (own,) = re.findall(r"(?s)```yaml\n(.*?)```", (FOLDER / "README.md").read_text())
    rest = {key: value for key, value in CLUSTER.items() if key not in ("available_node_types", "head_node_type")}
    jsonschema.validate({**rest, **yaml.safe_load(own)}, schema)
    with pytest.raises(jsonschema.ValidationError, match="head_node_typ"):
        jsonschema.validate({**CLUSTER, "head_node_typ": "head"}, schema)
    assert CLUSTER["head_node_type"] in CLUSTER["available_node_types"]


def test_kuberay_accepts_the_job() -> None:
    jsonschema.validate(JOB, RAYJOB)


def _rename(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    "mistake",
    [
        _rename("backoffLimit", "backofLimit"),
        _rename("minReplicas: 0", "minReplicas: some"),
        _rename("mode: token", "mode: tokens"),
        _rename('num-cpus: "0"', "num-cpus: 0"),
        _rename("  claimName", "  claimname"),
        _rename("memory: 8Gi", "memory: 8GiB"),
        _rename("image:", "imag:"),
    ],
)
def test_a_typing_error_in_the_job_is_seen(mistake: Callable[[str], str]) -> None:
    text = (FOLDER / "rayjob.yaml").read_text()
    assert mistake(text) != text
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(mistake(text)), RAYJOB)


def test_the_policy_covers_every_pod_and_opens_the_job_server_alone() -> None:
    assert POLICY["kind"] == "NetworkPolicy"
    wanted = POLICY["spec"]["podSelector"]["matchLabels"]
    assert all(pod["metadata"]["labels"].items() >= wanted.items() for pod in pods())
    own, others = POLICY["spec"]["ingress"]
    assert own["from"] == [{"podSelector": {"matchLabels": wanted}}]
    assert [port["port"] for port in others["ports"]] == [8265]


def test_every_command_of_the_night_is_one_of_ours() -> None:
    words = list(commands(NIGHT))
    assert [line[1] for line in words] == ["ingest", "compact", "train", "score"]
    for line in words:
        parse(line)
        config = line[line.index("--config") + 1]
        assert (ROOT / config.removeprefix(INSTALLED)).exists(), config


def test_every_command_of_the_readme_is_one_of_ours() -> None:
    found = list(commands((FOLDER / "README.md").read_text()))
    assert found
    for line in found:
        parse(line)


def test_every_value_of_the_settings_is_the_one_that_is_loaded() -> None:
    loaded = load_config(FOLDER / "engine.toml").model_dump(mode="json")
    for section, body in tomllib.loads((FOLDER / "engine.toml").read_text()).items():
        assert {key: loaded[section][key] for key in body} == body
    assert loaded["cluster"]["address"] == "auto"


def run_night(folder: Path, **codes: int) -> tuple[int, list[str]]:
    """The exit code of a night whose commands end with `codes`, and which of them ran."""
    fake = folder / "bin" / "sto-engine"
    fake.parent.mkdir(exist_ok=True)
    cases = "".join(f"{name}) exit {code};; " for name, code in codes.items())
    fake.write_text(f'#!/bin/sh\necho "$1" >> "{folder}/ran"\ncase "$1" in {cases}*) exit 0;; esac\n')
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}", "STO_ROOT": str(folder)}
    done = subprocess.run(["bash", str(FOLDER / "nightly.sh")], env=environment, check=False)
    ran = (folder / "ran").read_text().split()
    return done.returncode, [name for name in ran if name != "compact"]


def test_a_night_runs_to_its_end_and_stops_where_something_fails(tmp_path: Path) -> None:
    assert run_night(tmp_path) == (0, ["ingest", "train", "score"])
    (tmp_path / "ran").unlink()
    assert run_night(tmp_path, ingest=75) == (75, ["ingest"])


def test_a_model_that_is_no_better_stops_the_night_only_where_there_is_none_before(tmp_path: Path) -> None:
    assert run_night(tmp_path, train=65) == (65, ["ingest", "train"])
    (tmp_path / "ran").unlink()
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").touch()
    assert run_night(tmp_path, train=65) == (0, ["ingest", "train", "score"])
    (tmp_path / "ran").unlink()
    assert run_night(tmp_path, train=75) == (75, ["ingest", "train"])


def test_all_files_speak_of_the_same_paths_images_and_versions() -> None:
    script = JOB["spec"]["entrypoint"].removeprefix("bash ")
    assert (ROOT / script.removeprefix(INSTALLED)).exists()
    assert f"COPY --chown=ray:users . {INSTALLED.rstrip('/')}\n" in IMAGE
    containers = [container for pod in pods() for container in pod["spec"]["containers"]]
    mounts = {mount["mountPath"] for container in containers for mount in container["volumeMounts"]}
    roots = {item["value"] for container in containers for item in container["env"] if item["name"] == "STO_ROOT"}
    assert mounts == roots == {"/mnt/sto"}
    options = CLUSTER["docker"]["run_options"]
    assert {"--volume /mnt/sto:/mnt/sto", "--env STO_ROOT=/mnt/sto", "--env RAY_AUTH_MODE=token"} <= set(options)
    image = CLUSTER["docker"]["image"]
    assert {container["image"].removesuffix("-gpu") for container in containers} == {image}
    pinned = re.search(r"(?m)^ray==(\S+)$", (ROOT / "constraints.txt").read_text())
    assert pinned is not None
    assert JOB["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]
    assert set(re.findall(r"rayproject/ray:([\d.]+)", IMAGE)) == {pinned[1]}


def test_tokens_are_on_and_none_is_written_down() -> None:
    assert JOB["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert all("--dashboard-host=127.0.0.1" in c for c in CLUSTER["head_start_ray_commands"] if "--head" in c)
    for path in FOLDER.iterdir():
        text = path.read_text()
        assert not re.search(r"\b[0-9a-f]{32,}\b|AKIA\w{16}|RAY_AUTH_TOKEN=|BEGIN [A-Z ]*PRIVATE KEY", text), path.name
