"""What the compiler made of the kernel, and how its code is kept: right registers, a cache that is safe to share."""

import os
import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sto_kernels import codegen
from sto_kernels.bitslice_cpu import ISAS, target_of
from sto_kernels.bitslice_ir import FUNCTION, build_module
from sto_kernels.bitslice_masks import LEVELS
from sto_kernels.bitslice_trees import Shape
from sto_kernels.codegen import Target, assembly, compile_function, host_target

ON_X86 = host_target().triple.startswith("x86_64")
FORCED = {
    "avx512": Target("x86_64-unknown-linux-gnu", "x86-64-v4", "+avx512vbmi,+gfni"),
    "avx512 on Intel": Target("x86_64-unknown-linux-gnu", "sapphirerapids", ""),
    "avx512 on AMD": Target("x86_64-unknown-linux-gnu", "znver4", ""),
    "avx2": Target("x86_64-unknown-linux-gnu", "x86-64-v3", ""),
    "generic": Target("x86_64-unknown-linux-gnu", "x86-64", ""),
    "arm": Target("aarch64-unknown-linux-gnu", "cortex-a72", ""),
}


def code_of(path: str, depth: int = 6) -> str:
    isa = ISAS["generic" if path == "arm" else path.split()[0]]
    return assembly(str(build_module(Shape(isa, depth, 7, 3))), FORCED[path])


def count(pattern: str, text: str) -> int:
    return len(re.findall(pattern, text))


@pytest.mark.parametrize(("path", "depth"), [("avx512", 4), ("avx512 on Intel", 6), ("avx512 on AMD", 6)])
def test_the_avx512_path_fills_its_registers(path: str, depth: int) -> None:
    text = code_of(path, depth)
    selects = sum((1 << d) - 1 for d in range(depth))
    assert count(r"vpternlogq.*zmm", text) >= selects
    row_makers = len(LEVELS) * (1 + 8)  # one of user rows and eight of cross rows, for each depth of search
    assert count(r"vgf2p8affineqb.*zmm", text) >= 8 + row_makers
    assert count(r"vpermb.*zmm", text) >= 8 * 3 * 2 + 2 * row_makers
    assert count(r"vpshufb|vpblendvb|vpgather", text) == 0


def test_the_avx2_path_is_256_bits_wide_throughout() -> None:
    text = code_of("avx2")
    assert count(r"zmm|%k[0-7]", text) == 0
    assert count(r"vpshufb.*ymm", text) >= 8 * 3 * 4
    assert count(r"vpandn?.*ymm", text) > 2 * 57
    assert count(r"vpand.*xmm|vpor.*xmm", text) == 0


def test_the_generic_path_needs_no_more_than_the_oldest_x86() -> None:
    text = code_of("generic")
    assert count(r"ymm|zmm|pshufb|\tv[a-z]", text) == 0
    assert count(r"pand.*xmm|andps.*xmm|andn?pd.*xmm", text) > 57


def test_the_generic_path_compiles_for_arm_and_selects_in_one_instruction() -> None:
    text = code_of("arm")
    assert count(r"\tb(sl|it|if)\t", text) >= 57


def test_a_lesser_path_is_compiled_for_a_lesser_processor() -> None:
    if not ON_X86:
        pytest.skip("the three paths differ on x86 alone")
    assert target_of(ISAS["generic"]).cpu == "x86-64"


@pytest.mark.parametrize("path", FORCED)
def test_no_path_calls_a_library_or_fuses_arithmetic_that_others_round_twice(path: str) -> None:
    text = code_of(path)
    assert count(r"\tcallq?\t|\tbl\t", text) == 0
    assert count(r"\tvfn?m(add|sub)|\tfn?m(add|sub)\t|\tfml[as]\t", text) == 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache"
    monkeypatch.setenv("STO_ENGINE_CACHE", str(path))
    return path


TEXT = str(build_module(Shape(ISAS["generic"], 1, 7, 3)))


def test_code_is_compiled_once(folder: Path) -> None:
    assert not compile_function(TEXT, FUNCTION, host_target()).cached
    assert compile_function(TEXT, FUNCTION, host_target()).cached
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert file.name.startswith("kernel-")


def test_other_code_and_other_processors_do_not_share_a_file(folder: Path) -> None:
    compile_function(TEXT, FUNCTION, host_target())
    compile_function(TEXT + "\n; another", FUNCTION, host_target())
    if ON_X86:
        compile_function(TEXT, FUNCTION, FORCED["generic"])
    assert len(list(folder.iterdir())) == 2 + ON_X86


@pytest.mark.parametrize(
    "damage", ["flip", *(pytest.param(how, marks=pytest.mark.long) for how in ("truncate", "empty", "text"))]
)
def test_damaged_code_is_never_run(folder: Path, damage: str) -> None:
    compile_function(TEXT, FUNCTION, host_target())
    (file,) = folder.iterdir()
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    file.write_bytes({"truncate": data[:-10], "flip": data, "empty": b"", "text": b"no newline here"}[damage])
    assert not compile_function(TEXT, FUNCTION, host_target()).cached
    assert compile_function(TEXT, FUNCTION, host_target()).cached


def test_code_that_others_can_write_is_not_trusted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    compile_function(TEXT, FUNCTION, host_target())
    folder.chmod(0o777)
    assert not compile_function(TEXT, FUNCTION, host_target()).cached
    assert "can be written by others" in caplog.text
    folder.chmod(0o700)
    assert compile_function(TEXT, FUNCTION, host_target()).cached


def test_a_cache_that_cannot_be_made_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STO_ENGINE_CACHE", str(tmp_path / "file" / "cache"))
    assert not compile_function(TEXT, FUNCTION, host_target()).cached
    assert "cannot be written" in caplog.text


def test_the_first_call_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "sto_kernels")
    compile_function(TEXT, FUNCTION, host_target())
    compile_function(TEXT, FUNCTION, host_target())
    texts = [record.getMessage() for record in caplog.records]
    assert "compiling the scoring kernel" in texts[0]
    assert re.search(r"ready after \d+\.\d\d s \(compiled\)", texts[1])
    assert re.search(r"ready after \d+\.\d\d s \(cached\)", texts[2])


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STO_ENGINE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert codegen.cache_dir() == tmp_path / "sto-engine"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/somewhere")
    assert codegen.cache_dir() == Path("/somewhere/.cache/sto-engine")


CHILD = """
import hashlib, os, shutil, sys
sys.path.insert(0, os.environ["TESTS"])
from forests import random_forest, random_inputs
from sto_kernels import bitslice_cpu
from sto_kernels.margins import slot_margins
forest, warm = random_forest(1, trees=20, depth=3), random_forest(1, trees=1, depth=1)
inputs = random_inputs(forest, 100, 1)
if len(sys.argv) > 1:  # Python itself may lie where only root can read it: import all that a call needs
    folder = os.environ.pop("STO_ENGINE_CACHE")
    os.environ["STO_ENGINE_CACHE"] = folder + "/another"
    slot_margins(warm, *random_inputs(warm, 1, 1), impl="bitslice")
    shutil.rmtree(folder + "/another")
    os.environ["STO_ENGINE_CACHE"] = folder
    os.setgid(65534), os.setuid(65534)
margins = slot_margins(forest, *inputs, impl="bitslice")
cached = [bitslice_cpu.compiled(bitslice_cpu.Shape(bitslice_cpu.find_isa(), 3, *s)).cached for s in ((7, 3),)]
print(hashlib.sha256(margins.numpy().tobytes()).hexdigest(), cached[0])
"""


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    tests = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "STO_ENGINE_CACHE": str(folder), "TESTS": tests}
    command = [sys.executable, "-c", CHILD, *arguments]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def result(child: "subprocess.Popen[str]") -> list[str]:
    out, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    return out.split()


@pytest.mark.slow
def test_many_processes_may_compile_at_once_and_later_ones_find_the_code(tmp_path: Path) -> None:
    first = [result(child) for child in [start(tmp_path / "cache") for _ in range(4)]]
    assert len({digest for digest, _ in first}) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert result(start(tmp_path / "cache")) == [first[0][0], "True"]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user who may only read")
def test_code_that_root_compiled_serves_users_who_cannot_write() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        digest, _ = result(start(folder))
        folder.chmod(0o755)
        (file,) = folder.iterdir()
        file.chmod(0o644)
        assert result(start(folder, "as nobody")) == [digest, "True"]
        assert [path.name for path in folder.iterdir()] == [file.name]
