"""What can be known of `Dockerfile` and `docker-compose.yml` without a container engine.

Nothing is built or started here: that the image builds and the system comes up is not shown.
"""

import asyncio
import base64
import fnmatch
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.routing import Route

from api.auth.token_file import TokenFile
from api.routes import health as api_health
from cli import health
from cli.local.properties import Layout, Node, server_settings
from cli.main import VERBS
from cli.root import _load
from events.kafka.membership import SESSION_MS

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCUMENT: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
OURS = {name for name, service in SERVICES.items() if service["image"].startswith("teo:")}
ROLES = OURS - {"init"}
INIT_SCRIPT: str = SERVICES["init"]["command"][0]


def instructions() -> Iterator[tuple[str, str]]:
    """Yield each instruction of the Dockerfile with its arguments on one line."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(str.strip, text.splitlines()):
        word, rest = line.split(maxsplit=1)
        yield word, " ".join(rest.split())


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Return target by name of the volumes of a service."""
    return dict(volume.split(":", 1) for volume in service.get("volumes", ()))


def command_of(verb: str, *words: str) -> tuple[Any, list[str]]:
    """Return the click command that `teo verb words…` runs, and its arguments."""
    command, rest = _load(verb, VERBS[verb]), list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    return command, rest


def env_names(command: Any) -> set[str]:
    """Return the environment variables that give options of a command."""
    return {str(option.envvar) for option in command.params if isinstance(option.envvar, str)}


# --- docker-compose.yml


def test_the_services_of_the_system_are_there():
    assert set(SERVICES) == {"kafka", "init", "scheduler", "watcher", "worker", "api"}
    assert set(SERVICES) - {"kafka"} == OURS


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_can_come_true(name):
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        assert other != name
        if wait["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other], f"{other} never gets healthy"
        else:
            assert wait["condition"] == "service_completed_successfully"
            assert SERVICES[other]["restart"] == "no", f"{other} would be started again"


def test_every_volume_is_declared_and_used():
    used = {volume for service in SERVICES.values() for volume in mounts(service)}
    assert used == set(DOCUMENT["volumes"])


@pytest.mark.parametrize("name", sorted(OURS))
def test_volumes_are_mounted_where_the_image_lets_its_user_write(name):
    made = next(rest for word, rest in instructions() if word == "RUN" and "useradd" in rest)
    assert "install -d -o teo -g teo" in made
    for target in mounts(SERVICES[name]).values():
        assert target in shlex.split(made), f"{target} would belong to root"


def test_workers_can_be_scaled_each_under_an_id_of_its_own():
    """The id is the container's name, which `--scale worker=2` makes two of."""
    worker = SERVICES["worker"]
    assert not {"TEO_WORKER", "HOSTNAME"} & set(worker["environment"])
    assert not {"hostname", "container_name", "ports"} & set(worker)
    assert "--id" not in worker["command"]
    (given,) = [p for p in command_of("serve", "worker")[0].params if p.name == "worker_id"]
    assert given.default == socket.gethostname()


def test_worker_and_api_share_the_artifacts():
    target = "/var/lib/teo/artifacts"
    assert mounts(SERVICES["worker"])["artifacts"] == mounts(SERVICES["api"])["artifacts"] == target
    assert "api" not in mounts(SERVICES["worker"]), "a worker must not see tokens"


@pytest.mark.parametrize("name", sorted(ROLES))
def test_roles_are_started_by_verbs_and_flags_that_exist(name):
    service = SERVICES[name]
    assert service["command"][:2] == ["serve", name]
    command, rest = command_of(*service["command"])
    assert command.name == name
    command.make_context(name, rest)


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_setting_is_one_that_teo_reads(name):
    known = env_names(command_of("init")[0])
    for role in ROLES:
        known |= env_names(command_of("serve", role)[0])
    given = {key for key in SERVICES[name]["environment"] if key.startswith("TEO_")}
    assert given <= known, f"teo knows only {sorted(known)}"


@pytest.mark.parametrize("name", sorted(OURS))
def test_roles_find_kafka_where_it_listens(name):
    kafka = SERVICES["kafka"]["environment"]
    host, _, port = SERVICES[name]["environment"]["TEO_KAFKA"].partition(":")
    assert host == "kafka"
    assert f"BROKER://:{port}" in kafka["KAFKA_LISTENERS"].split(",")
    assert f"BROKER://{host}:{port}" in kafka["KAFKA_ADVERTISED_LISTENERS"].split(",")


@pytest.mark.parametrize("name", sorted(ROLES))
def test_health_is_asked_where_the_role_answers(name):
    code = SERVICES[name]["healthcheck"]["test"][-1]
    compile(code, name, "exec")
    port, path = re.search(r"127\.0\.0\.1:(\d+)(/\w+)", code).groups()
    environment = SERVICES[name]["environment"]
    assert port == environment["TEO_PORT" if name == "api" else "TEO_HEALTH_PORT"]
    routes = health.health_app(lambda: True).routes
    paths = {route.path for route in routes if isinstance(route, Route)}
    if name == "api":
        paths = {operation.path for operation in api_health.OPERATIONS}
    assert path in paths


def test_nothing_is_reachable_from_other_machines():
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_compose_fills_in_nothing_but_what_is_meant():
    names = set(re.findall(r"\$\{?(\w*)", COMPOSE.read_text()))
    assert names == {"OTEL_EXPORTER_OTLP_ENDPOINT"}


def test_kafka_is_the_version_and_has_the_settings_of_the_embedded_one():
    kafka = SERVICES["kafka"]
    jars = json.loads((ROOT / "cli/local/kafka-jars.json").read_text())
    assert kafka["image"] == f"apache/kafka:{jars['kafka']}"
    given = {
        key.removeprefix("KAFKA_").lower().replace("_", "."): value
        for key, value in kafka["environment"].items()
        if key.startswith("KAFKA_")
    }
    one = Node(number=1, port=1, controller_port=2)
    layout = Layout(cluster_id="", kafka="", nodes=(one,))
    embedded = server_settings(layout, one)
    own = {"listeners", "advertised.listeners", "controller.quorum.voters", "log.dirs"}
    own.add("listener.security.protocol.map")
    for key in set(given) - own:
        value = embedded[key]
        assert given[key] == (str(value).lower() if isinstance(value, bool) else str(value)), key
    assert int(given["group.min.session.timeout.ms"]) <= SESSION_MS
    assert len(base64.urlsafe_b64decode(kafka["environment"]["CLUSTER_ID"] + "==")) == 16


# --- the init service


def test_init_is_a_shell_script_that_parses_and_creates_topics():
    assert SERVICES["init"]["entrypoint"] == ["sh", "-euc"]
    subprocess.run(["sh", "-n", "-c", INIT_SCRIPT], check=True)
    verb, *rest = shlex.split(INIT_SCRIPT.splitlines()[0])[1:]
    command, flags = command_of(verb, *rest)
    command.make_context(verb, flags)


def test_init_makes_the_first_token_once(tmp_path):
    python = INIT_SCRIPT.split("<<'END'\n")[1].split("END\n")[0]
    environ = {**os.environ, "TEO_TOKENS": str(tmp_path / "tokens.json")}
    tokens = []
    for _ in range(2):
        subprocess.run([sys.executable, "-"], input=python.encode(), env=environ, check=True)
        tokens.append((tmp_path / "token").read_text().strip())
    assert tokens[0] == tokens[1]
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    who = asyncio.run(TokenFile(tmp_path / "tokens.json").authenticate(tokens[0]))
    assert who is not None
    assert who.roles == ("admin",)


# --- Dockerfile


def copied() -> list[str]:
    """Return the sources that the build copies from the checkout."""
    return [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from=")
        for source in rest.split()[:-1]
    ]


def test_every_copied_source_is_there_and_sent_to_the_builder():
    first, *rest = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line[:1] not in ("", "#")
    ]
    assert first == "*", "everything is left out but what is named"
    named = {line.removeprefix("!") for line in rest if line.startswith("!")}
    assert set(copied()) == named
    for source in copied():
        assert (ROOT / source).exists(), source
        assert not any(fnmatch.fnmatch(source, line) for line in rest if line[0] != "!")


def test_all_packages_are_in_the_image():
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(packages) <= set(copied())


def test_dependencies_come_from_the_lock_with_hashes():
    runs = [rest for word, rest in instructions() if word == "RUN" and "--requirements" in rest]
    assert len(runs) == 1
    words = shlex.split(runs[0])
    assert "--require-hashes" in words
    assert words[words.index("--constraints") + 1] == "requirements.lock"
    extras = [words[at + 1] for at, word in enumerate(words) if word == "--extra"]
    assert set(extras) <= set(PROJECT["project"]["optional-dependencies"])


def test_the_image_is_built_in_stages_and_does_not_run_as_root():
    stages = [at for at, (word, _) in enumerate(instructions()) if word == "FROM"]
    last = list(instructions())[stages[-1] :]
    assert len(stages) == 2
    assert [rest for word, rest in last if word == "COPY"] == ["--from=build /opt/teo /opt/teo"]
    (user,) = [rest for word, rest in last if word == "USER"]
    assert user == "10001:10001"
    assert ("ENTRYPOINT", '["teo"]') in last


def test_the_image_has_a_python_that_the_project_takes():
    image = re.search(r"ARG PYTHON=python:3\.(\d+)-slim", DOCKERFILE)
    assert image is not None
    least = PROJECT["project"]["requires-python"].removeprefix(">=3.")
    assert int(image.group(1)) >= int(least)


def test_settings_in_the_image_are_ones_that_teo_reads():
    known = {name for role in ROLES for name in env_names(command_of("serve", role)[0])}
    given = set(re.findall(r"\b(TEO_\w+)=", DOCKERFILE))
    assert given
    assert given <= known
