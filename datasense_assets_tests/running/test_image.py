"""The image, as far as it can be made without an engine: its steps run in a clean folder, and as an ordinary user."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

# one process builds it, and not each that gets one of these tests
pytestmark = pytest.mark.xdist_group("image")

ROOT = Path(__file__).resolve().parents[2]


def instructions() -> list[tuple[str, str]]:
    """Instruction and its words, with continued lines joined and comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for instruction, words in instructions():
        if instruction == "FROM":
            found.append([])
        if found:
            found[-1].append((instruction, words))
    return found


def ignored(path: str) -> bool:
    """Whether .dockerignore leaves the path out of what an engine is sent: the last pattern that fits says."""
    verdict = False
    for pattern in (ROOT / ".dockerignore").read_text("utf-8").split("\n"):
        rule, kept = pattern.lstrip("!"), pattern.startswith("!")
        if not rule or rule.startswith("#"):
            continue
        parts = path.split("/")
        above = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
        names = parts if rule.startswith("**/") else above
        if any(fnmatch(name, rule.removeprefix("**/")) for name in names):
            verdict = not kept
    return verdict


def test_the_linter_has_nothing_to_say() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_copied_is_sent_to_the_engine_and_nothing_else_of_the_checkout() -> None:
    copied = [
        words.split()[:-1] for instruction, words in instructions() if instruction == "COPY" and "--from=" not in words
    ]
    names = [name for each in copied for name in each if not name.startswith("--")]
    assert all((ROOT / name).exists() and not ignored(name) for name in names), names
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    sent = {path for path in tracked if not ignored(path)}
    assert all(any(path == name or path.startswith(f"{name}/") for name in names) for path in sent)
    for secret in (".env", "deploy/compose/datasense.env", ".git/config", ".datasense/secret.key", ".venv/bin/python"):
        assert ignored(secret)
    assert ignored("datasense_assets/__pycache__/settings.cpython-311.pyc")


def test_the_image_is_of_no_floating_base_and_runs_as_an_ordinary_user() -> None:
    bases = dict(words.split("=", 1) for instruction, words in instructions() if instruction == "ARG")
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases["PYTHON_IMAGE"])
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    assert bases["POSTGRES_IMAGE"] == services["postgres"]["image"], "client programs are of the server's version"
    assert {stage[0][1].split()[0] for stage in stages()} == {f"${{{name}}}" for name in bases}
    last = stages()[-1]
    user = next(words for instruction, words in last if instruction == "USER")
    assert re.fullmatch(r"[1-9]\d{4}:[1-9]\d{4}", user)
    order = [instruction for instruction, _ in last]
    assert "RUN" not in order[order.index("USER") :]
    assert {"HEALTHCHECK", "CMD", "EXPOSE"} <= set(order)
    command = json.loads(next(words for instruction, words in last if instruction == "CMD"))
    assert command[:3] == ["datasense", "doctor", "--"]
    assert version("datasense-assets") in (ROOT / "Dockerfile").read_text("utf-8")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The virtual environment that the first stage makes, its steps run one after the other.

    Two things are not as there: dependencies are not fetched again but seen in this environment, and what compiles all
    of them compiles the project alone.
    """
    folder = tmp_path_factory.mktemp("image")
    source, target = folder / "src", folder / "opt"
    source.mkdir()
    packages = next(p for p in map(Path, sys.path) if p.name == "site-packages")
    # what builds the wheel, and nothing else of this environment: pip would take our own install for its own
    tools = folder / "tools"
    tools.mkdir()
    for name in ("setuptools", "_distutils_hack"):
        (tools / name).symlink_to(packages / name)
    environment = {**os.environ, "PYTHONPATH": str(tools), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for instruction, words in stages()[0]:
        if instruction == "COPY":
            *names, place = words.split()
            for name in names:
                _copy(ROOT / name, source / (Path(place) if place != "./" else Path(name)))
        if instruction != "RUN":
            continue
        for step in words.split(" && "):
            command = shlex.split(step.replace("/opt/datasense", str(target)))
            if "uninstall" in command:
                continue
            if "install" in command:
                command += ["--no-deps", "--no-build-isolation", "--quiet"]
            if "compileall" in command:
                command[-1] = str(_packages_of(target) / "datasense_assets")
            command[0] = sys.executable if command[0] == "python" else command[0]
            done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, timeout=200)
            assert done.returncode == 0, (step, done.stdout[-2000:], done.stderr[-2000:])
    (_packages_of(target) / "seen.pth").write_text(f"{packages}\n", encoding="utf-8")
    return target


def _packages_of(environment: Path) -> Path:
    return next((environment / "lib").glob("python3*")) / "site-packages"


def _copy(what: Path, to: Path) -> None:
    if what.is_dir():
        shutil.copytree(what, to, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(what, to)


def test_everything_the_package_needs_is_in_it_and_compiled(built: Path) -> None:
    installed = _packages_of(built) / "datasense_assets"
    here = {
        path.relative_to(ROOT / "datasense_assets")
        for path in (ROOT / "datasense_assets").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    there = {path.relative_to(installed) for path in installed.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert here == there
    sources = list(installed.rglob("*.py"))
    compiled = {path.name.partition(".")[0] for path in installed.rglob("*.pyc")}
    assert {path.stem for path in sources} == compiled
    scripts = {path.name for path in (built / "bin").iterdir()}
    assert "datasense" in scripts


def test_an_ordinary_user_can_run_it_and_nothing_is_written_beside_it(built: Path, tmp_path: Path) -> None:
    closed = [path for path in built.rglob("*") if not path.is_symlink() and not path.stat().st_mode & stat.S_IROTH]
    assert closed == []
    environment = {
        "PATH": f"{built / 'bin'}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "DATASENSE_HOME": str(tmp_path / "state"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    before = set(built.rglob("*"))
    words = [str(built / "bin" / "python"), str(built / "bin" / "datasense"), "--version"]
    done = subprocess.run(words, env=environment, cwd="/", capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, version("datasense-assets")), done.stderr[-2000:]
    assert set(built.rglob("*")) == before


def test_the_client_programs_run_with_what_is_taken_of_the_servers_image_and_nothing_else(tmp_path: Path) -> None:
    here = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"))
    if not here:
        assert os.environ.get("CI") != "true", "PostgreSQL of the system is missing, which .ci/run installs"
        pytest.skip("the system has no PostgreSQL")
    (client,) = (stage for stage in stages() if stage[0][1].endswith(" AS client"))
    shell = json.loads(next(words for instruction, words in client if instruction == "SHELL"))
    work = next(words for instruction, words in client if instruction == "WORKDIR")
    (tmp_path / work.lstrip("/")).mkdir(parents=True)
    (copied,) = (words.split() for instruction, words in stages()[-1] if words.startswith("--from=client"))
    (script,) = (words for instruction, words in client if instruction == "RUN")
    script = script.replace("/usr/lib/postgresql/18/bin", str(here[-1].parent))
    script = script.replace(copied[2], "@there@").replace("/client/", f"{tmp_path}/client/")
    script = script.replace("@there@", f"{tmp_path}{copied[1]}")
    done = subprocess.run([*shell, script], cwd=tmp_path / work.lstrip("/"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("pg_dump", "pg_restore"):
        program = tmp_path / "client" / "bin" / name
        said = subprocess.run([program, "--version"], env={}, capture_output=True, text=True, check=True).stdout
        assert said.startswith(f"{name} (PostgreSQL)")
        seen = subprocess.run(
            ["ldd", tmp_path / "client" / "lib" / name],
            env={"LD_LIBRARY_PATH": str(tmp_path / "client" / "lib"), "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        found = dict(re.findall(r"^\s*(\S+) => (\S+)", seen, re.MULTILINE))
        assert found["libpq.so.5"].startswith(str(tmp_path))
        # what every image of that Debian has
        outside = {lib for lib, place in found.items() if not place.startswith(str(tmp_path))}
        assert outside <= {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2"}
    size = sum(path.stat().st_size for path in (tmp_path / "client").rglob("*"))
    assert size < 30 * 2**20
