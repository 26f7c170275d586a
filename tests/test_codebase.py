"""The codebase checks itself: who may import whom, what the documents promise, what the extension exports."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path

import pytest
from cases import SANITIZED
from limits import HANGS, slowness

import fastsr
from fastsr.program import CODES, KINDS, OVER_PICTURE

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "fastsr").rglob("*.py"))
CSRC = sorted(p for p in (ROOT / "csrc").rglob("*") if p.suffix in (".h", ".hpp", ".cpp", ".inc"))
HEADERS = [p for p in CSRC if p.suffix in (".h", ".hpp")]
TESTED_PACKAGE = Path(fastsr.__file__).parent
MAX_LINES = 500
EVERYWHERE = {"errors", "knobs", "_version"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def table_rows(document: str, heading: str) -> list[list[str]]:
    """The cells of the first table below `heading`, without its head."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8").split(f"\n{heading}\n", 1)[1]
    rows = []
    for line in text.splitlines():
        if line.startswith("|"):
            rows.append([c.strip() for c in line.strip("|").split("|")])
        elif rows:
            break
    return rows[2:]


@lru_cache
def rooms() -> list[tuple[set[str], set[str]]]:
    """Of every row of docs/architecture.md: the units that live there, the units they may import."""
    found = []
    for place, _, imports in table_rows("architecture.md", "## Rooms"):
        paths = re.findall(r"`([^`]+)`", place)
        units = {p if p.startswith("csrc/") else Path(p).stem for p in (p.rstrip("/") for p in paths)}
        found.append((units, set(re.findall(r"`([^`]+)`", imports))))
    return found


def allowed(unit: str) -> set[str]:
    for units, imports in rooms():
        if unit in units:
            return units | imports
    pytest.fail(f"'{unit}' has no row in the table of docs/architecture.md")


# ---- Python: imports ---------------------------------------------------------------------------------------------------------------------------


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(p): p for p in SOURCES}


def imports_of(path: Path, *, running_only: bool) -> set[str]:
    """Names of the fastsr modules that `path` imports; `running_only` leaves out imports inside functions and under TYPE_CHECKING."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if running_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(a.name for a in node.names if a.name.split(".")[0] == "fastsr")
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *(node.module or "").split(".")] if node.module else base)
            if name.split(".")[0] == "fastsr":
                for alias in node.names:
                    whole = f"{name}.{alias.name}"
                    found.add(whole if whole in MODULES or (name == "fastsr" and alias.name == "_core") else name)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def unit_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "fastsr"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_follow_the_architecture(path: Path) -> None:
    unit = unit_of(module_name(path))
    if unit in ("fastsr", "__main__"):
        pytest.skip("the package's front door may import everything")
    foreign = {unit_of(m) for m in imports_of(path, running_only=False)} - {unit}
    assert foreign <= allowed(unit) | EVERYWHERE, f"docs/architecture.md does not let '{unit}' import these"


def test_no_import_cycles() -> None:
    edges = {name: imports_of(path, running_only=True) & set(MODULES) for name, path in MODULES.items()}
    for name in edges:
        edges[name].discard(name)
        if "fastsr" in edges[name]:
            edges[name].discard("fastsr")  # names of the package itself: any import of a submodule runs it first
    state: dict[str, int] = {}

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert state.get(name) != 1, f"import cycle: {' -> '.join([*trail[trail.index(name) :], name])}"
        if name in state:
            return
        state[name] = 1
        for other in sorted(edges[name]):
            walk(other, (*trail, name))
        state[name] = 2

    for name in sorted(edges):
        walk(name, ())


def python(code: str) -> str:
    """What a fresh interpreter prints that imports the fastsr under test."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=TESTED_PACKAGE.parent, timeout=HANGS).stdout


def test_import_is_light() -> None:
    heavy = ("cv2", "numba", "cupy", "torch", "google.protobuf", "onnxruntime", "PIL", "fastsr._core")
    code = f"import sys, fastsr; print([m for m in {heavy!r} if m in sys.modules])"
    assert python(code).strip() == "[]"


def test_import_is_quick() -> None:
    code = "import time, numpy; t = time.process_time(); import fastsr; fastsr.load; print(time.process_time() - t)"
    seconds = min(float(python(code)) for _ in range(5))
    assert seconds < 0.1 * slowness()


# ---- Python: form ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_public_names_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
    assert ast.get_docstring(tree), "the module says nowhere what it is"
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    bare = [n.name for n in tree.body if isinstance(n, kinds) and not n.name.startswith("_") and not ast.get_docstring(n)]
    assert not bare


@pytest.mark.parametrize("folder", ["fastsr", "csrc", "tests", "benchmarks", "docs"])
def test_files_are_short(folder: str) -> None:
    files = [p for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".pyi", ".cpp", ".h", ".inc", ".sh")]
    assert files or folder == "benchmarks"
    long = {relative(p): n for p in files if (n := len(p.read_text(encoding="utf-8").splitlines())) > MAX_LINES}
    assert not long


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [p for n in names.split("\0") if n and (p := ROOT / n).is_file()]


def test_no_machine_paths() -> None:
    path = re.compile(rb"(?<![\w.:/-])/(?:work|root|home|Users)/[\w.]")
    found = [relative(p) for p in tracked() if p != Path(__file__).resolve() and b"\0" not in (data := p.read_bytes()) and path.search(data)]
    assert not found


def test_nothing_built_is_tracked() -> None:
    built = {".so", ".pyd", ".o", ".pyc", ".whl", ".pb", ".onnx", ".fsr"}
    ours = ROOT / "fastsr" / "weights"
    assert not [relative(p) for p in tracked() if p.parent != ours and (p.suffix in built or p.stat().st_size > 1_000_000)]


def test_environment_variables_are_declared() -> None:
    from fastsr.knobs import KNOBS

    declared = {k.name for k in KNOBS}
    pattern = re.compile(r"""["'](FASTSR_[A-Z_]+)["']""")
    read = {name for p in [*SOURCES, *CSRC] for name in pattern.findall(p.read_text(encoding="utf-8"))}
    assert read
    assert read <= declared


# ---- one truth, written in several places ------------------------------------------------------------------------------------------------------


def test_versions_agree() -> None:
    version = fastsr.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab]\d+|rc\d+)?", version)
    assert re.search(rf"^## \[?{re.escape(version)}\]?", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M), "CHANGELOG.md lacks this version"
    header = (ROOT / "csrc" / "include" / "fastsr.h").read_text(encoding="utf-8")
    found = re.search(r'#define\s+FASTSR_VERSION(?:_STRING)?\s+"([^"]+)"', header)
    assert found, "csrc/include/fastsr.h defines no version"
    assert found.group(1) == version


def test_readme_table_comes_from_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    report = importlib.import_module("report")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    results = [json.loads(p.read_text(encoding="utf-8")) for p in (ROOT / "benchmarks" / "results").glob("upsample-*.json")]
    table = report.markdown(max(results, key=lambda r: r["date"])) if results else "No measurements yet: `fastsr bench` makes them."
    assert report.with_table(text, table) == text, "run: python benchmarks/report.py benchmarks/results/upsample-*.json --readme README.md"


def documented(heading: str) -> dict[str, int]:
    return {row[1]: int(row[0]) for row in table_rows("fsr.md", heading)}


def test_program_agrees_with_its_document() -> None:
    assert documented("## Step kinds") == KINDS
    assert documented("## Epilogue codes") == CODES


def enumerations() -> dict[str, dict[str, int]]:
    """Every C++ enum class in csrc: its name to {enumerator: value}."""
    found: dict[str, dict[str, int]] = {}
    for path in HEADERS:
        for name, body in re.findall(r"enum class (\w+)[^{;]*\{([^}]*)\}", path.read_text(encoding="utf-8")):
            value, members = -1, {}
            for part in re.sub(r"//.*", "", body).split(","):
                if match := re.fullmatch(r"\s*k(\w+)\s*(?:=\s*(\d+))?\s*", part):
                    value = int(match.group(2)) if match.group(2) else value + 1
                    members[match.group(1)] = value
            found[name] = members
    return found


def test_core_agrees_with_program() -> None:
    enums = enumerations()
    elementwise = {k: v for k, v in CODES.items() if k != "DepthToSpace"}
    assert enums["Pointwise"] == elementwise
    kinds = next(members for members in enums.values() if "Conv" in members and "SpaceToDepth" in members)
    assert kinds == {k: v for k, v in KINDS.items() if k not in OVER_PICTURE and k != "ResizeTo"}


# ---- the C++ core ------------------------------------------------------------------------------------------------------------------------------


def csrc_unit(path: Path) -> str:
    return "/".join(path.relative_to(ROOT).parts[:2])


@pytest.mark.parametrize("path", CSRC, ids=relative)
def test_includes_follow_the_architecture(path: Path) -> None:
    unit = csrc_unit(path)
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.M):
        target = next((p for p in ((path.parent / name).resolve(), ROOT / "csrc" / name, ROOT / "csrc" / "include" / name) if p.is_file()), None)
        assert target, f'#include "{name}" names no file of csrc'
        assert csrc_unit(target) in allowed(unit), f'docs/architecture.md does not let {unit} include "{name}"'
    if unit != "csrc/python":
        assert not re.search(r"#\s*include\s+[<\"](pybind11|Python\.h|numpy)", text), "only csrc/python may know Python"


def compiler(*names: str) -> str:
    for name in names:
        if found := shutil.which(name):
            return found
    pytest.skip(f"no compiler here ({', '.join(names)})")


def check_syntax(source: str, *command: str) -> None:
    command = (*command, "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-")
    done = subprocess.run(command, input=source, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", HEADERS, ids=relative)
def test_headers_compile_alone(path: Path) -> None:
    cxx = compiler("g++", "clang++")
    if "neon" in path.stem and "arm" not in sysconfig.get_platform() and "aarch64" not in sysconfig.get_platform():
        pytest.skip("an Arm header on another processor")
    flags = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc' / 'include'}"]
    flags += [f for word, f in (("avx2", "-mavx2"), ("avx2", "-mfma"), ("avx512", "-mavx512f")) if word in path.stem]
    if path.parent.name == "python":
        pybind11 = pytest.importorskip("pybind11")
        flags += [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}", "-fvisibility=hidden"]
    check_syntax(
        f'#include "{path}"\n', cxx, "-std=c++17", f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc' / 'include'}", *flags, "-Wno-unused-function", "-x", "c++"
    )


def test_public_header_and_its_example_are_c() -> None:
    example = (ROOT / "docs" / "c-api.md").read_text(encoding="utf-8").split("```c\n")[1].split("```")[0]
    check_syntax(example, compiler("gcc", "clang"), "-std=c99", "-pedantic", f"-I{ROOT / 'csrc' / 'include'}", "-x", "c")


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF symbols with nm")
@pytest.mark.skipif(SANITIZED, reason="a build with sanitizers exports more")
def test_exported_symbols() -> None:
    core = pytest.importorskip("fastsr._core", reason="the C++ core is not built")
    listing = subprocess.run([compiler("nm"), "-D", "--defined-only", core.__file__], capture_output=True, text=True, check=True).stdout
    names = [line.split()[-1] for line in listing.splitlines()]
    assert "PyInit__core" in names
    assert [n for n in names if not n.startswith(("PyInit_", "fastsr_"))] == []
