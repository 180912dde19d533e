"""The builder and its store: what can go wrong with compilers and folders never shows."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import pytest

import seqc.runtime.build as build
import seqc.runtime.environment as environment
import seqc.runtime.store as store
from seqc.runtime.build import (
    BuildError,
    NoCompilerError,
    build_library,
    find_compiler,
)
from seqc.runtime.store import STORE_NAME, clear_cache, text_cache_read, text_cache_write

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")
FAST = ("-O0", "-fPIC", "-shared")


def source_of(number: int) -> str:
    return f'extern "C" int answer() {{ return {number}; }}\n'


def answer(number: int, **options: object) -> int:
    return build_library(source_of(number), name="answer", flags=FAST, **options).answer()


def forget() -> None:
    """What a new process would know: nothing is loaded."""
    build._loaded_libraries.clear()


def libraries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.so"))


@pytest.fixture(autouse=True)
def _own_cache(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for memo in ("_loaded_libraries", "_refused_flags"):
        monkeypatch.setattr(build, memo, {})
    monkeypatch.setattr(store, "_private_folders", {})
    monkeypatch.setattr(build, "_misfits", set())


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The flags of every call of the compiler."""
    calls = []
    real = build._call_compiler

    def counted(source, compiler, flags, work):
        calls.append(flags)
        return real(source, compiler, flags, work)

    monkeypatch.setattr(build, "_call_compiler", counted)
    return calls


@pytest.fixture
def standalone(tmp_path: Path) -> Path:
    """The three modules as one file with no seqc in it, the way --standalone carries them."""
    text = ["from __future__ import annotations\n"]
    for module in (environment, store, build):
        lines = Path(module.__file__).read_text(encoding="utf-8").splitlines(keepends=True)
        text += [line for line in lines if not line.startswith(("from __future__", "from seqc."))]
    folder = tmp_path / "alone"
    folder.mkdir()
    (folder / "standalone.py").write_text("".join(text), encoding="utf-8")
    return folder


def start(standalone: Path, code: str, **env: str) -> subprocess.Popen[str]:
    """A fresh Python with nothing on its path but the standalone module."""
    body = f"import sys; sys.path.insert(0, {str(standalone)!r})\nfrom standalone import *\n"
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", body + textwrap.dedent(code)],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip()


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + textwrap.dedent(body), encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


# --- the usual day ------------------------------------------------------------------------------


@needs_compiler
def test_a_library_is_compiled_once_and_loaded_after(fresh_cache, compiles):
    library = build_library(source_of(7), name="a strange/näme", flags=FAST)
    assert library.answer() == 7
    assert build_library(source_of(7), name="other", flags=FAST) is library
    forget()
    assert answer(7) == 7
    assert len(compiles) == 1
    (kept,) = libraries(fresh_cache)
    assert re.fullmatch(r"a_strange_n_me\.[0-9a-f]{16}\.[0-9a-f]{64}\.so", kept.name)
    assert [path.name for path in (fresh_cache / STORE_NAME).iterdir()] == ["lib"]


@needs_compiler
def test_the_default_flags_give_openmp_and_defines_arrive():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a compiler without OpenMP is fine here
        library = build_library(
            'extern "C" double scaled(double x) { return SCALE * x; }',
            name="s",
            defines=("SCALE=3",),
        )
    library.scaled.restype, library.scaled.argtypes = ctypes.c_double, [ctypes.c_double]
    assert library.scaled(2.0) == 6.0


@needs_compiler
@pytest.mark.parametrize("change", ["source", "defines", "flags", "cxxflags", "cpu", "version"])
def test_everything_that_matters_is_in_the_key(change, fresh_cache, compiles, monkeypatch):
    options = {"source": source_of(1), "defines": (), "flags": FAST}
    build_library(**options, name="k")
    if change == "cxxflags":
        monkeypatch.setenv("SEQC_CXXFLAGS", "-DOTHER '-DWORDS=a b'")
    elif change == "cpu":
        monkeypatch.setattr(build, "cpu_identity", lambda: "another CPU")
    elif change == "version":
        other = build.Compiler(find_compiler().command, "another version")
        monkeypatch.setattr(build, "find_compiler", lambda: other)
    else:
        options[change] = {"source": source_of(2), "defines": ("A",), "flags": (*FAST, "-O1")}[
            change
        ]
    build_library(**options, name="k")
    assert len(compiles) == 2
    # What a library must fit is in its folder's name, who made it is in its own.
    found = libraries(fresh_cache)
    assert len({path.parent for path in found}) == (1 if change == "version" else 2)
    assert len({path.name for path in found}) == 2 or change != "version"


@needs_compiler
def test_clear_cache_removes_ours_and_nothing_else(fresh_cache):
    assert answer(3) == 3
    text_cache_write("k", "v")
    (fresh_cache / "somebody's").write_text("keep me")
    clear_cache()
    assert [path.name for path in fresh_cache.iterdir()] == ["somebody's"]
    assert text_cache_read("k") is None
    assert answer(3) == 3  # still loaded
    forget()
    assert answer(3) == 3  # and built again
    clear_cache()
    clear_cache()


# --- compilers ----------------------------------------------------------------------------------


def test_no_compiler(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    assert find_compiler() is None
    with pytest.raises(NoCompilerError, match="apt install g"):
        answer(1)


def test_a_chosen_compiler_that_does_not_run_is_not_replaced(monkeypatch):
    monkeypatch.setenv("SEQC_CXX", "/nowhere/g++")
    assert find_compiler() is None
    with pytest.raises(NoCompilerError, match="SEQC_CXX is '/nowhere/g\\+\\+'"):
        answer(1)


@needs_compiler
def test_a_broken_cxx_is_passed_over(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(script(tmp_path / "bad", "exit 3")))
    assert "bad" not in find_compiler().command[0]
    monkeypatch.setenv("CXX", "'unbalanced")
    assert find_compiler() is not None


@needs_compiler
def test_spaces_and_arguments_in_the_command(monkeypatch, tmp_path):
    real = find_compiler().command[0]
    wrapper = script(tmp_path / "my tools ü" / "g++ 12", f'exec {real} "$@"')
    monkeypatch.setenv("SEQC_CXX", str(wrapper))
    assert find_compiler().command == (str(wrapper),)
    assert answer(11) == 11
    launcher = script(tmp_path / "bin" / "launcher", 'exec "$@"')
    monkeypatch.setenv("SEQC_CXX", f"{launcher} {real} -DEXTRA=1")
    assert find_compiler().command == (str(launcher), real, "-DEXTRA=1")
    assert answer(12) == 12


@needs_compiler
def test_an_error_in_the_source_is_told_with_the_log():
    with pytest.raises(BuildError, match="nonsense") as caught:
        build_library("nonsense;", name="n", flags=FAST)
    assert "nonsense" in caught.value.log
    assert "kernel.cpp" in caught.value.command
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.log) == (str(caught.value), caught.value.log)


@pytest.mark.parametrize(
    "behaviour",
    ["echo 'out of order' >&2; exit 1", "exit 0", "echo half > kernel.so; kill -9 $$"],
    ids=["fails", "writes nothing", "is killed half way"],
)
def test_a_compiler_that_never_works(behaviour, monkeypatch, tmp_path, fresh_cache):
    body = f'[ "$1" = --version ] && echo fake 1.0 && exit 0\n{behaviour}\n'
    monkeypatch.setenv("SEQC_CXX", str(script(tmp_path / "fake", body)))
    with pytest.raises(BuildError) as caught:
        answer(1)
    if "order" in behaviour:
        assert "out of order" in caught.value.log
    assert libraries(fresh_cache) == []
    assert list((fresh_cache / STORE_NAME).iterdir()) == []


def test_a_compiler_that_writes_rubbish(monkeypatch, tmp_path):
    body = '[ "$1" = --version ] && echo fake && exit 0\nprintf rubbish > kernel.so\n'
    monkeypatch.setenv("SEQC_CXX", str(script(tmp_path / "fake", body)))
    with pytest.raises(BuildError):
        answer(1)


@needs_compiler
@pytest.mark.parametrize("refused", [("-march=native",), ("-march=native", "-fopenmp")])
def test_refused_flags_are_dropped_once_and_remembered(refused, monkeypatch, tmp_path, compiles):
    tests = "".join(
        f'for a in "$@"; do [ "$a" = {flag} ] && echo "unknown {flag}" >&2 && exit 1; done\n'
        for flag in (*refused, "-mcpu=native")
    )
    real = find_compiler().command[0]
    monkeypatch.setenv("SEQC_CXX", str(script(tmp_path / "c", f'{tests}exec {real} "$@"\n')))
    flags = (*FAST, "-march=native", "-fopenmp")
    with pytest.warns(RuntimeWarning, match="does not take") as told:
        assert build_library(source_of(5), name="a", flags=flags).answer() == 5
    assert len(told) == len(refused)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiles.clear()
        assert build_library(source_of(6), name="a", flags=flags).answer() == 6
    assert len(compiles) == 1
    assert not set(refused) & set(compiles[0])


# --- damage -------------------------------------------------------------------------------------


@needs_compiler
def test_a_truncated_library_is_rebuilt(fresh_cache, compiles):
    assert answer(21) == 21
    (kept,) = libraries(fresh_cache)
    whole = kept.read_bytes()
    lengths = [0, 1, 64, len(whole) // 2, len(whole) - 1]
    for length in lengths:
        forget()
        # A new file, not the old one cut: that one is mapped into this very process.
        kept.unlink()
        kept.write_bytes(whole[:length])
        assert answer(21) == 21
        assert libraries(fresh_cache) == [kept]
    assert len(compiles) == 1 + len(lengths)


@needs_compiler
def test_flipped_bits_and_strange_files_are_not_believed(fresh_cache, compiles):
    assert answer(22) == 22
    (kept,) = libraries(fresh_cache)
    whole = kept.read_bytes()
    places = range(0, len(whole), len(whole) // 5)
    for place in places:
        forget()
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        kept.unlink()
        kept.write_bytes(damaged)
        (kept.parent / "aaa.so").write_bytes(b"no digest")
        (kept.parent / "aab.so").mkdir(exist_ok=True)
        (kept.parent / "readme.txt").write_text("not ours")
        assert answer(22) == 22
    assert len(compiles) == 1 + len(places)


@needs_compiler
def test_a_whole_library_that_does_not_load_is_rebuilt(fresh_cache, compiles):
    assert answer(23) == 23
    (kept,) = libraries(fresh_cache)
    foreign = b"\x7fELF but of another machine"
    kept.with_name(f"answer.{kept.stem.split('.')[1]}.{store.digest_of(foreign)}.so").write_bytes(
        foreign
    )
    kept.unlink()
    forget()
    assert answer(23) == 23
    assert len(compiles) == 2


# --- folders ------------------------------------------------------------------------------------


def spoil(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "a file stands there":
        folder.write_text("in the way")
    elif kind == "below /proc":  # root may write into any read-only folder, but not there
        monkeypatch.setenv("SEQC_CACHE_DIR", "/proc/seqc/cache")
    elif kind == "no home":
        monkeypatch.delenv("SEQC_CACHE_DIR")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv("HOME", "")
    elif kind == "full at the rename":
        real = os.replace

        def replace(source, target, **options):
            if folder in Path(target).parents:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(source, target, **options)

        monkeypatch.setattr(os, "replace", replace)
    elif kind in ("full at the source", "full in the compiler"):
        real_call = build._call_compiler

        def call(source, compiler, flags, work):
            if folder not in work.parents:
                return real_call(source, compiler, flags, work)
            if kind == "full at the source":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if source == build._PROBE_SOURCE:
                return None
            return BuildError("ld failed", "ld: final link failed: No space left on device")

        monkeypatch.setattr(build, "_call_compiler", call)
    else:
        assert kind == "read-only"
        real_mkdir = Path.mkdir

        def mkdir(self, *arguments, **options):
            if folder == self or folder in self.parents:
                raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))
            real_mkdir(self, *arguments, **options)

        monkeypatch.setattr(Path, "mkdir", mkdir)


SPOILT = [
    "a file stands there",
    "below /proc",
    "no home",
    "full at the rename",
    "full at the source",
    "full in the compiler",
    "read-only",
]


@needs_compiler
@pytest.mark.parametrize("kind", SPOILT)
def test_an_unusable_folder_is_replaced_by_a_private_one(kind, fresh_cache, monkeypatch):
    spoil(kind, fresh_cache, monkeypatch)
    assert answer(31) == 31
    private = store._private_folders[os.getpid()]
    assert len(libraries(private)) == 1
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    forget()
    monkeypatch.setattr(build, "_build_anywhere", None)  # found there, not built again
    assert answer(31) == 31


@pytest.mark.parametrize("kind", SPOILT)
def test_text_in_an_unusable_folder_is_silently_not_kept(kind, fresh_cache, monkeypatch):
    spoil(kind, fresh_cache, monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text_cache_write("key", "text")
        assert text_cache_read("key") in (None, "text")
    assert list(fresh_cache.rglob("write-*")) == []


@needs_compiler
def test_no_folder_at_all_is_an_error_that_says_so(fresh_cache, monkeypatch):
    fresh_cache.write_text("in the way")

    def mkdtemp(*arguments, **options):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(store.tempfile, "mkdtemp", mkdtemp)
    with pytest.raises(BuildError, match="SEQC_CACHE_DIR and TMPDIR"):
        answer(32)


@needs_compiler
@pytest.mark.parametrize("name", ["with spaces and 'quotes'", "ünï-漢字", "-O9 $(false); `false`"])
def test_odd_characters_in_the_path(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQC_CACHE_DIR", str(tmp_path / name))
    assert answer(33) == 33
    assert len(libraries(tmp_path / name)) == 1
    forget()
    assert answer(33) == 33


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("SEQC_CACHE_DIR", "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert environment.cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("SEQC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert environment.cache_folder() == tmp_path / "x" / "seqc"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert environment.cache_folder() == tmp_path / ".cache" / "seqc"
    monkeypatch.setenv("HOME", "")
    assert environment.cache_folder() is None
    monkeypatch.delenv("HOME")
    assert environment.cache_folder() is None or environment.cache_folder().is_absolute()


# --- several at once ----------------------------------------------------------------------------


@needs_compiler
def test_threads_share_one_compile(compiles):
    got = []
    threads = [threading.Thread(target=lambda: got.append(answer(41))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [41] * 8
    assert len(compiles) == 1


@needs_compiler
def test_processes_race(standalone, fresh_cache):
    code = f"""
    for number in (51, 52):
        source = 'extern "C" int answer() {{ return %d; }}' % number
        print(build_library(source, name="r", flags={FAST!r}).answer())
        text_cache_write("k%d" % number, "text" * number)
        print(text_cache_read("k%d" % number) == "text" * number)
    """
    racers = [start(standalone, code) for _ in range(6)]
    assert [finish(racer).split() for racer in racers] == [["51", "True", "52", "True"]] * 6
    assert {path.name for path in (fresh_cache / STORE_NAME).iterdir()} == {"lib", "text"}


@needs_compiler
def test_a_compile_that_is_killed_leaves_no_entry(standalone, fresh_cache, tmp_path, monkeypatch):
    real = find_compiler().command[0]
    # Writes a good beginning of the library, says so, and then takes its time.
    body = f"""
    [ "$1" = --version ] && exec {real} --version
    {real} "$@" || exit 1
    head -c 5000 kernel.so > half && mv half kernel.so
    : > "{tmp_path}/started"
    exec sleep 60
    """
    slow = script(tmp_path / "bin" / "slow", body)
    code = f"build_library({source_of(61)!r}, name='k', flags={FAST!r})"
    process = start(standalone, code, SEQC_CXX=str(slow))
    for _ in range(600):
        if (tmp_path / "started").exists():
            break
        time.sleep(0.05)
    (work,) = (fresh_cache / STORE_NAME).iterdir()
    sleepers = [path for path in Path("/proc").glob("[0-9]*/cwd") if _links_to(path, work)]
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()
    for sleeper in sleepers:
        os.kill(int(sleeper.parent.name), signal.SIGKILL)
    assert [path.name for path in libraries(fresh_cache)] == ["kernel.so"]
    # The next process has the same compiler path, now well: it builds, and is not misled.
    shutil.copyfile(script(tmp_path / "well", f'exec {real} "$@"'), slow)
    assert finish(start(standalone, f"print({code}.answer())", SEQC_CXX=str(slow))) == "61"
    monkeypatch.setenv("SEQC_CXX", str(slow))
    clear_cache()
    assert libraries(fresh_cache) == []


def _links_to(link: Path, target: Path) -> bool:
    try:
        return os.readlink(link) == str(target)
    except OSError:
        return False


def _answer_in_child(number: int, told: Path) -> None:
    forget()
    assert answer(number) == number
    told.write_text(str(store._private_folders[os.getpid()]))


@needs_compiler
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_waits_for_no_lock_and_has_a_folder_of_its_own(fresh_cache, tmp_path):
    fresh_cache.write_text("in the way")
    assert answer(71) == 71
    private = store._private_folders[os.getpid()]
    locks = [*build._library_locks.values(), *store._private_locks.values()]
    for lock in locks:
        lock.acquire()  # as if another thread were building at this moment
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_answer_in_child, args=(71, tmp_path / "told"))
    try:
        child.start()
        child.join(30)
        assert child.exitcode == 0
    finally:
        child.kill()
        for lock in locks:
            lock.release()
    assert private.exists()
    theirs = Path((tmp_path / "told").read_text())
    assert theirs != private
    assert not theirs.exists()


@needs_compiler
def test_a_private_folder_goes_with_its_process(standalone, fresh_cache):
    fresh_cache.write_text("in the way")
    code = f"""
    import os
    import standalone
    print(build_library({source_of(72)!r}, name="p", flags={FAST!r}).answer())
    folder = standalone._private_folders[os.getpid()]
    print(folder.exists(), folder, flush=True)
    if os.fork() == 0:
        sys.exit(0)  # with its exit handlers
    os.wait()
    print(folder.exists())
    """
    number, here, folder, still = finish(start(standalone, code)).split()
    assert (number, here, still) == ("72", "True", "True")
    assert not Path(folder).exists()


# --- text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "a\r\nb\n\x00", "π ≠ 3\n" * 10_000])
def test_text_comes_back_as_it_was(text):
    key = f"layer ü {len(text)}"
    assert text_cache_read(key) is None
    text_cache_write(key, "older")
    text_cache_write(key, text)
    assert text_cache_read(key) == text


def test_damaged_text_is_not_believed(fresh_cache):
    text_cache_write("key", "x = 1\n" * 100)
    (kept,) = (fresh_cache / STORE_NAME / "text").iterdir()
    whole = kept.read_bytes()
    damaged = [whole[:length] for length in (0, 1, 63, 64, 65, len(whole) - 1)]
    for place in range(0, len(whole), 37):
        damaged.append(whole[:place] + bytes([whole[place] ^ 0x80]) + whole[place + 1 :])
    for data in damaged:
        kept.write_bytes(data)
        assert text_cache_read("key") is None
    kept.write_bytes(whole)
    assert text_cache_read("key") == "x = 1\n" * 100
    shutil.copyfile(kept, kept.with_name(store.digest_of(b"another")))
    assert text_cache_read("another") is None


def test_text_that_utf8_does_not_hold_is_not_kept():
    text_cache_write("key", "\ud800")
    assert text_cache_read("key") is None


# --- the environment ----------------------------------------------------------------------------


def test_the_switches_have_types(monkeypatch):
    monkeypatch.setenv("SEQC_DUMP", "plan, kernel")
    monkeypatch.setenv("SEQC_BACKEND", " CPP ")
    monkeypatch.setenv("SEQC_VERIFY", "1")
    now = environment.read_environment()
    assert (now.backend, now.verify, now.dump) == ("cpp", True, {"plan", "kernel"})
    assert (now.dumps("plan"), now.dumps("ir")) == (True, False)
    monkeypatch.setenv("SEQC_DUMP", "all")
    assert environment.read_environment().dumps("ir")


@pytest.mark.parametrize(
    "name, value", [("SEQC_BACKEND", "tpu"), ("SEQC_VERIFY", "2"), ("SEQC_CXXFLAGS", "'")]
)
def test_a_switch_that_means_nothing_is_refused(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=name):
        environment.read_environment()


def test_every_switch_is_listed():
    text = Path(environment.__file__).read_text(encoding="utf-8")
    read = set(re.findall(r'_read_switch\("(SEQC_\w+)"\)', text))
    assert read == {name for name, _, _ in environment.SWITCHES}


def test_the_cpu_is_known_by_its_features_and_not_by_its_clock(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags : b a\ncpu MHz : 1\n\nprocessor : 1\nflags : a b\n")
    assert environment._linux_cpu_features(str(info)) == "flags=a b"
    assert environment._linux_cpu_features(str(tmp_path / "none")) == ""
    assert environment.cpu_identity() == environment.cpu_identity()
