"""A wheel and an editable install, each used from another folder, with no network."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
# What a wheel is made of; a copy, for setuptools writes its own folders beside them.
SOURCES = ["pyproject.toml", "README.md", "LICENSE", "seqc", "grammar", "templates"]

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("setuptools", "pip")),
        reason="needs setuptools and pip",
    ),
]


def folder_of(package: str) -> Path:
    """Where a package's files lie in the repository, by package-dir."""
    mapping, rest = SETUPTOOLS["package-dir"], []
    while package not in mapping:
        package, _, last = package.rpartition(".")
        rest.insert(0, last)
    return Path(mapping[package], *rest)


def data_files() -> dict[str, Path]:
    """Each data file as seen from outside, "seqc.grammar/seq.lark", with its place here."""
    files = {}
    for package, patterns in SETUPTOOLS["package-data"].items():
        folder = ROOT / folder_of(package)
        for pattern in patterns:
            for path in folder.glob(pattern):
                files[f"{package}/{path.relative_to(folder).as_posix()}"] = path
    return files


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy") / "a checkout"
    folder.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def pip(*arguments: object) -> None:
    options = ["--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    command = [sys.executable, "-m", "pip", *map(str, arguments[:1]), *options]
    result = subprocess.run(
        [*command, *map(str, arguments[1:])],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


# Runs with -S: no .pth file of this environment is read, so a seqc that is installed in it can't
# stand in for the one under test. Its other packages come last on the path.
LOOK = """
import importlib.resources, importlib.util, json, site, sys
folder, others, packages, data = json.loads(sys.argv[1])
site.addsitedir(folder)
sys.path.append(others)
for name in packages:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None, name
    print(spec.origin)
for name in data:
    package, _, path = name.partition("/")
    importlib.resources.files(package).joinpath(*path.split("/")).read_bytes()
"""


def look(site: Path, elsewhere: Path, packages: list[str]) -> list[Path]:
    """The origins of the packages, found from another folder; every data file was read there."""
    others = sysconfig.get_path("purelib")
    question = json.dumps([str(site), others, packages, sorted(data_files())])
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LOOK, question],
        cwd=elsewhere,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return [Path(line) for line in result.stdout.splitlines()]


def test_every_package_is_listed():
    found = {"seqc"}
    for path in (ROOT / "seqc").rglob("__init__.py"):
        found.add(".".join(path.parent.relative_to(ROOT).parts))
    for top in ("grammar", "templates"):
        for path in (ROOT / top).rglob("__init__.py"):
            found.add(".".join(("seqc", *path.parent.relative_to(ROOT).parts)))
    assert set(SETUPTOOLS["packages"]) == found


def test_every_data_file_is_packaged():
    kept = set(data_files().values())
    for folder in ("grammar", "templates", "seqc"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".lark", ".seq", ".jinja", ".h"):
                assert path in kept, f"no glob under package-data takes {path.relative_to(ROOT)}"


def test_wheel(copy: Path, tmp_path: Path):
    pip("wheel", "--wheel-dir", tmp_path, copy)
    (wheel,) = tmp_path.glob("seqc-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        names = archive.namelist()
    (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    assert not [name for name in names if not name.startswith(("seqc/", info))]
    metadata = Parser().parsestr((site / info / "METADATA").read_text(encoding="utf-8"))
    assert metadata["Version"] == PROJECT["project"]["version"]
    assert {"cuda12", "cuda13", "test", "dev"} <= set(metadata.get_all("Provides-Extra"))
    entry_points = (site / info / "entry_points.txt").read_text(encoding="utf-8")
    assert "seqc = seqc.cli:main" in entry_points
    origins = look(site, tmp_path, SETUPTOOLS["packages"])
    assert all(site in origin.parents for origin in origins)
    assert "seqc/py.typed" in names


def test_editable(copy: Path, tmp_path: Path):
    prefix = tmp_path / "prefix"
    pip("install", "--ignore-installed", "--prefix", prefix, "--editable", copy)
    (site,) = {path.parent for path in prefix.rglob("seqc-*.dist-info")}
    packages = SETUPTOOLS["packages"]
    for package, origin in zip(packages, look(site, tmp_path, packages), strict=True):
        # The files in the checkout themselves: an edit counts at once.
        assert os.path.samefile(origin, copy / folder_of(package) / "__init__.py")
