"""Client libraries, fetched once into a cache outside the clone (`OTTLA_CACHE`, default ~/.cache/ottla).

Invariants: a cache entry is named by a digest of the files that define it and is complete once its marker exists; two
runs at once do not disturb each other.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

FETCH_LIMIT_S = 1200


class Missing(Exception):
    """A program that a suite needs is not installed; carries which one and what it is for."""


def cache():
    """The cache folder, created."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("OTTLA_CACHE") or home / "ottla")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def need(*programs):
    """Raises `Missing` for the first program that is not on the path."""
    for program in programs:
        if shutil.which(program) is None:
            raise Missing(f"{program} is not installed (scripts/test installs it on Debian)")


def run(command, folder, env=None):
    """Runs a build step; its output is shown only when it fails."""
    result = subprocess.run([str(part) for part in command], cwd=folder, env={**os.environ, **(env or {})},
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=FETCH_LIMIT_S)
    if result.returncode != 0:
        output = result.stdout.decode(errors="replace")[-4000:]
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{output}")


@contextmanager
def entry(name, *sources, extra=""):
    """The cache entry for these source files. Yields (folder, fresh); a fresh one is to be filled by the caller."""
    digest = hashlib.sha256(extra.encode())
    for source in sources:
        digest.update(Path(source).read_bytes())
    folder = cache() / "compat" / f"{name}-{digest.hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        marker = folder / ".complete"
        yield folder, not marker.exists()
        marker.touch()


def python_with(name, requirements):
    """A Python interpreter that has the packages of a requirements file."""
    with entry(f"python-{name}", requirements, extra=sys.version) as (folder, fresh):
        python = folder / "venv" / "bin" / "python"
        if fresh:
            try:
                run([sys.executable, "-m", "venv", "--clear", folder / "venv"], folder)
            except RuntimeError as error:
                raise Missing(f"python3-venv is not installed: {error}")
            run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements], folder)
    return python


def node_modules(source):
    """The installed packages of a package.json with its lock file."""
    need("node", "npm")
    files = [source / "package.json", source / ".npmrc"]
    lock = source / "package-lock.json"
    if lock.exists():
        files.append(lock)
    with entry("node", *files) as (folder, fresh):
        if fresh:
            for file in files:
                shutil.copy(file, folder / file.name)
            run(["npm", "ci" if lock.exists() else "install", "--no-audit", "--no-fund", "--loglevel=error"], folder,
                _node_headers())
    return folder / "node_modules"


def _node_headers():
    """Where a package with C++ in it finds Node's headers: beside Node, if they are there, and not on the web."""
    prefix = Path(shutil.which("node")).resolve().parent.parent
    return {"npm_config_nodedir": str(prefix)} if (prefix / "include" / "node" / "node.h").exists() else {}


def go_program(source, *shared):
    """The program built from a Go module, which may use the modules in the folders `shared`.

    Go fetches the newer Go that a module asks for by itself since 1.21.
    """
    need("go")
    version = subprocess.run(["go", "env", "GOVERSION"], stdout=subprocess.PIPE, check=True).stdout.decode()
    found = re.match(r"go1\.(\d+)", version)
    if found and int(found[1]) < 21:
        raise Missing(f"Go 1.21 or newer is needed, this is {version.strip()}")
    files = [file for folder in (source, *shared) for file in [*sorted(folder.glob("*.go")), folder / "go.mod"]]
    with entry("go", *files, source / "go.sum") as (folder, fresh):
        if fresh:
            run(["go", "build", "-o", folder / "client", "."], source)
    return folder / "client"


def cargo_program(source, name):
    """The program built from a Cargo project, always in release mode. Cargo itself knows what has to be built again."""
    need("cargo", "make", "cc")
    target = cache() / "compat" / f"cargo-{source.name}"
    run(["cargo", "build", "--quiet", "--release", "--locked", "--target-dir", target], source)
    return target / "release" / name


def java_classes(source, version, *shared):
    """The class path of a Java program compiled against one version of Kafka, together with the files `shared`."""
    need("mvn", "javac")
    sources = [*sorted((source / "src").rglob("*.java")), *shared]
    with entry(f"{source.name}-{version}", *sources, source / "pom.xml", extra=version) as (folder, fresh):
        if fresh:
            _copy_jars(source, version, folder)
            run(["javac", "-nowarn", "--release", "17", "-cp", f"{libs(folder)}/*", "-d", folder / "classes", *sources],
                folder)
    return f"{folder / 'classes'}:{libs(folder)}/*"


def java_jars(source, version):
    """The class path of the jars that a pom.xml names, at one version of Kafka."""
    need("java", "mvn")
    with entry(f"{source.name}-{version}", source / "pom.xml", extra=version) as (folder, fresh):
        if fresh:
            _copy_jars(source, version, folder)
    return f"{libs(folder)}/*"


def _copy_jars(source, version, folder):
    run(["mvn", "-q", "-B", "-f", source / "pom.xml", f"-Dkafka.version={version}", "dependency:copy-dependencies",
         f"-DoutputDirectory={libs(folder)}", "-DincludeScope=runtime"], folder)


def libs(folder):
    """Where a Java cache entry keeps its jars."""
    return folder / "libs"
