"""requirements/ pins the packages of the container image: every dependency in pyproject.toml, and nothing else."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from itertools import product
from pathlib import Path

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
SERVER = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["server"]]
NODE = re.search(r'^NODE = "(.+)"$', (ROOT / "build_backend" / "with_dashboard.py").read_text(), re.MULTILINE)[1]
BUILD = [*PYPROJECT["build-system"]["requires"], NODE]

SYSTEMS = ({"sys_platform": "linux"}, {"sys_platform": "darwin"}, {"sys_platform": "win32"})
PYTHONS = tuple(
    {"python_version": version, "python_full_version": f"{version}.1"} for version in ("3.11", "3.12", "3.13", "3.14")
)
ENVIRONMENTS = [default_environment() | system | python for system, python in product(SYSTEMS, PYTHONS)]

PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[^ ;]+)( ; (?P<marker>[^\\]+))? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
VIA = re.compile(r"    #( via)? *(?P<name>.*)")
ASKED_FOR = {"onsembl (pyproject.toml)", "-r requirements/build.in"}
CONSTRAINT = "-c requirements/server.txt"


@dataclass
class Pin:
    name: str
    version: str
    marker: Marker | None
    hashes: int = 0
    via: set[str] = field(default_factory=set)
    """The packages that need the pin, and the file that requires it."""

    def is_for(self, environment: dict[str, str]) -> bool:
        return self.marker is None or self.marker.evaluate(environment)


def read(text: str) -> tuple[list[Pin], list[str]]:
    """The pins, and every line that is neither part of a pin nor of the header."""
    pins: list[Pin] = []
    others = []
    for line in text.splitlines():
        if match := PIN.fullmatch(line):
            marker = match["marker"] and Marker(match["marker"])
            pins.append(Pin(match["name"], match["version"], marker))
        elif pins and HASH.fullmatch(line):
            pins[-1].hashes += 1
        elif pins and (match := VIA.fullmatch(line)):
            pins[-1].via |= {match["name"]} - {"", CONSTRAINT}
        elif pins or not line.startswith("#"):
            others.append(line)
    return pins, others


def faults(requirements: list[str], text: str) -> Iterator[str]:
    """Every difference between a file of pins and the pins that these requirements need."""
    pins, others = read(text)
    yield from (f"not a pin: {line}" for line in others)
    if "://" in text:
        yield "has an address"
    for pin in pins:
        if not pin.hashes:
            yield f"{pin.name} has no hash"
    for environment in ENVIRONMENTS:
        for requirement in map(Requirement, requirements):
            yield from unfit(requirement, pins, environment)
    asked = {canonicalize_name(Requirement(requirement).name) for requirement in requirements}
    yield from (f"{name} is not needed" for name in {pin.name for pin in pins} - reached(asked, pins))
    for pin in pins:
        if pin.via & ASKED_FOR and pin.name not in asked:
            yield f"{pin.name} is not asked for"
        yield from (f"{pin.name}: no pin is named {via}" for via in pin.via - ASKED_FOR - {pin.name for pin in pins})


def unfit(requirement: Requirement, pins: list[Pin], environment: dict[str, str], extra: str = "") -> Iterator[str]:
    """An error unless the environment has exactly one pin for the requirement, in its range."""
    if requirement.marker is not None and not requirement.marker.evaluate(environment | {"extra": extra}):
        return
    name = canonicalize_name(requirement.name)
    versions = [pin.version for pin in pins if pin.name == name and pin.is_for(environment)]
    where = f"on {environment['sys_platform']} with Python {environment['python_version']}"
    if len(versions) != 1:
        yield f"{name} has {len(versions)} pins {where}"
    elif not requirement.specifier.contains(versions[0], prereleases=True):
        yield f"{name} {versions[0]} is not {requirement.specifier} {where}"


def reached(asked: set[str], pins: list[Pin]) -> set[str]:
    """The names that are required directly, and the pins that these need in turn."""
    found = set(asked)
    while more := {pin.name for pin in pins if pin.via & found} - found:
        found |= more
    return found


def unfit_needs(requirements: list[str], pins: list[Pin]) -> Iterator[str]:
    """Every unmet requirement of the pins themselves, as far as their exact versions are installed here."""
    here = default_environment()
    waiting = [Requirement(requirement) for requirement in requirements]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate(here | {"extra": ""}):
            continue
        name = canonicalize_name(requirement.name)
        pinned = {pin.version for pin in pins if pin.name == name}
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue
        if installed.version not in pinned:
            continue
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            for need in map(Requirement, installed.requires or ()):
                yield from unfit(need, pins, here, extra)
                if need.marker is None or need.marker.evaluate(here | {"extra": extra}):
                    need.marker = None
                    waiting.append(need)


def text_of(name: str) -> str:
    return (ROOT / "requirements" / name).read_text()


@pytest.mark.parametrize(("name", "requirements"), [("server.txt", SERVER), ("build.txt", BUILD)])
def test_a_file_pins_what_is_asked_for_and_nothing_else(name: str, requirements: list[str]):
    """A file pins all requirements and their own, and nothing else; after a change of the dependencies, run
    requirements/compile."""
    assert sorted(set(faults(requirements, text_of(name)))) == []


@pytest.mark.parametrize(("name", "requirements"), [("server.txt", SERVER), ("build.txt", BUILD)])
def test_what_the_pins_need_is_pinned_too(name: str, requirements: list[str]):
    """Each requirement of an installed package of a pinned version has a pin in its range."""
    assert list(unfit_needs(requirements, read(text_of(name))[0])) == []


def without(name: str, text: str) -> str:
    """The file with one pin less."""
    return re.sub(rf"^{name}==.*\n(?:    .*\n)+", "", text, flags=re.MULTILINE)


EXTRA = f"left-pad==1.0.0 \\\n    --hash=sha256:{'0' * 64}\n    # via {{}}\n"


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        (lambda text: without("click", text), "click has 0 pins on linux with Python 3.11"),
        (lambda text: without("uvloop", text), "uvloop has 0 pins on darwin with Python 3.14"),
        (lambda text: without("keyring", text), "keyring has 0 pins on win32 with Python 3.12"),
        (lambda text: text.replace("sys_platform == 'darwin' or ", ""), "keyring has 0 pins on darwin"),
        (lambda text: re.sub("click==[0-9.]+", "click==9.0", text), "click 9.0 is not <9,>=8.1 on linux"),
        (lambda text: text.replace("click==", "click>="), "not a pin: click>="),
        (lambda text: re.sub(r"(click==\S+ \\\n)(    --hash.*\n)+", r"\1", text), "click has no hash"),
        (lambda text: text + EXTRA.format("right-pad"), "left-pad is not needed"),
        (lambda text: text + EXTRA.format("right-pad"), "left-pad: no pin is named right-pad"),
        (lambda text: text + EXTRA.format("onsembl (pyproject.toml)"), "left-pad is not asked for"),
        (lambda text: text + "    # from https://example.org/simple\n", "has an address"),
        (lambda text: "--index-url example.org\n" + text, "not a pin: --index-url example.org"),
    ],
)
def test_each_fault_is_named(changed, found: str):
    """Each fault is named: a pin that is missing, out of range, without a hash or needless."""
    text = changed(text_of("server.txt"))
    assert text != text_of("server.txt")
    assert [fault for fault in faults(SERVER, text) if fault.startswith(found)]


def test_a_need_without_a_pin_is_named():
    """The test of the pins' own requirements finds a missing pin, shown on an installed package."""
    version = distribution("pytest").version
    pins = [Pin("pytest", version, None), Pin("pluggy", "0.1", None)]
    named = list(unfit_needs(["pytest"], pins))
    assert [fault for fault in named if fault.startswith("iniconfig has 0 pins")]
    assert [fault for fault in named if fault.startswith("pluggy 0.1 is not")]


def test_the_build_is_pinned_from_what_pyproject_asks_for():
    """build.in repeats the build requirements, and both files pin the same Node."""
    lines = text_of("build.in").splitlines()
    assert [line for line in lines if not line.startswith("#")] == BUILD
    node = {pin.version for name in ("server.txt", "build.txt") for pin in read(text_of(name))[0] if "node" in pin.name}
    assert len(node) == 1


def test_the_image_installs_nothing_that_is_not_pinned():
    """Every `pip` in the Dockerfile requires hashes or installs no dependencies, and the base image has a patch
    version."""
    dockerfile = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    commands = re.findall(r"\bpip (?:install|wheel) [^&\n]+", dockerfile)
    assert [command for command in commands if "--require-hashes" not in command and "--no-deps" not in command] == []
    pinned = {file for command in commands for file in re.findall(r"-r /requirements/(\S+)", command)}
    assert pinned == {"server.txt", "build.txt"}
    assert len(commands) == 4
    images = set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) - {"base"}
    assert [image for image in images if not re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", image)] == []
