"""The import graph of our packages, read from their source: layers, homes of heavy libraries, no circles."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "sto_engine": ROOT / "engine" / "sto_engine",
    "sto_kernels": ROOT / "kernels" / "sto_kernels",
    "sto_bench": ROOT / "benchmarks" / "sto_bench",
    "sto_decisions": ROOT / "benchmarks" / "sto_decisions",
    "sto_pipeline": ROOT / "benchmarks" / "sto_pipeline",
    "sto_assign": ROOT / "benchmarks" / "sto_assign",
    "sto_scale": ROOT / "benchmarks" / "sto_scale",
    "sto_draws": ROOT / "benchmarks" / "sto_draws",
}
LAYERS = (
    ("errors", "progress", "files", "memory", "rates", "slots", "zones", "executor", "engine_code"),
    ("config", "config_base", "config_file", "config_policies", "tables"),
    ("ingest",),
    ("history", "simulate"),
    ("models",),
    ("assign", "suppress"),
    ("plan", "previous"),
    ("train", "view", "entry", "bucket_counts", "contest", "choose", "settle", "score"),
    ("output", "evaluate"),
    ("worker", "ray_settings"),
    ("tries",),
    ("gpu_workers",),
    ("cluster",),
    (
        "open_previous",
        "prepare",
        "records",
        "in_order",
        "bucket_work",
        "phases",
        "final_slots",
        "staged_book",
        "rounds",
        "capacity_report",
        "job",
        "bandit_job",
        "bandit_runs",
        "what_if",
        "train_job",
        "explain",
        "audit",
        "demo",
    ),
    (
        "options",
        "exits",
        "console",
        "histogram",
        "common",
        "audit_cli",
        "bandit_cli",
        "bench_cli",
        "evaluate_cli",
        "explain_text",
        "explain_cli",
        "privacy_cli",
        "plan_cli",
        "train_cli",
        "cli",
    ),
)
ROW = {name: row for row, names in enumerate(LAYERS) for name in names}
HOMES = {
    "ray": {"sto_engine.cluster"},
    "xgboost": {"sto_engine.models.forest", "sto_engine.explain.child"},
    "numba": {"sto_kernels.numba_cache"},
    "scipy": {"sto_engine.train.fit", "sto_engine.assign.preflight"},
    "safetensors": {"sto_engine.models.bundle"},
    "click": {
        "sto_engine.cli",
        "sto_engine.common",
        "sto_engine.audit_cli",
        "sto_engine.bandit_cli",
        "sto_engine.bench_cli",
        "sto_engine.evaluate_cli",
        "sto_engine.explain_cli",
        "sto_engine.privacy_cli",
        "sto_engine.plan_cli",
        "sto_engine.train_cli",
        "sto_engine.options",
    },
    "rich": {"sto_engine.console"},
    "maxminddb": {"sto_engine.ingest.geo"},
    "holidays": {"sto_engine.history.public_holidays"},
    "pydantic": {"sto_engine.config", "sto_engine.config_file", "sto_engine.config_base", "sto_engine.config_policies"},
    "triton": {"sto_kernels.bitslice_gpu_kernels"},
    "sto_bench": {"sto_engine.bench_cli", "sto_decisions.records"},
    "sto_decisions": set(),
    "sto_pipeline": {"sto_engine.bench_cli"},
    "sto_assign": {"sto_engine.bench_cli"},
    "sto_scale": {"sto_engine.bench_cli"},
    "sto_draws": {"sto_engine.bench_cli"},
}
# sto_bench imports the peers it measures, XGBoost among them, each in its adaptor
NOT_IN_BENCH = {
    *("sto_engine", "sto_assign", "sto_decisions", "sto_draws", "sto_pipeline", "sto_scale"),
    *("polars", "ray", "click", "rich", "pydantic", "pyarrow"),
}
NOT_IN_KERNELS = {
    "sto_engine",
    "sto_assign",
    "sto_bench",
    "sto_decisions",
    "sto_draws",
    "sto_pipeline",
    "sto_scale",
    "polars",
    "ray",
    "xgboost",
    "click",
    "rich",
    "pydantic",
    "pyarrow",
}


def module_name(path: Path, package: str) -> str:
    parts = (package, *path.relative_to(PACKAGES[package]).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(p, name): p for name, root in PACKAGES.items() for p in sorted(root.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """Full names of what a file imports anywhere, inside functions too; `from a import b` is a.b for our files."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            module = node.module or ""
            found |= {name if (name := f"{module}.{a.name}") in SOURCES else module for a in node.names}
    return found


GRAPH = {module: imports(path) for module, path in SOURCES.items()}


def part(module: str) -> str | None:
    """The name in the table that a module of sto_engine falls under; None for the package itself."""
    return module.split(".")[1] if "." in module else None


def test_the_graph_is_not_empty() -> None:
    assert "sto_engine.config" in GRAPH["sto_engine.common"]
    assert len(SOURCES) > 20


def test_every_file_of_the_engine_has_its_row() -> None:
    assert {part(m) for m in SOURCES if m.startswith("sto_engine.")} <= set(ROW)


@pytest.mark.parametrize("module", sorted(m for m in SOURCES if m.startswith("sto_engine.")))
def test_no_file_imports_from_a_row_below_its_own(module: str) -> None:
    own = ROW[part(module) or ""]
    ours = {other for other in GRAPH[module] if other.startswith("sto_engine.")}
    assert {other for other in ours if ROW[part(other) or ""] > own} == set()


def test_the_graph_has_no_circle() -> None:
    order = list(TopologicalSorter({m: GRAPH[m] & set(SOURCES) - {m} for m in SOURCES}).static_order())
    assert sorted(order) == sorted(SOURCES)


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_heavy_library_has_one_home(library: str) -> None:
    benches = ("sto_assign", "sto_bench", "sto_draws", "sto_pipeline", "sto_scale")
    ours = {m: names for m, names in GRAPH.items() if not m.startswith(benches)}
    users = {m for m, names in ours.items() if any(name.split(".")[0] == library for name in names)}
    users = {m for m in users if m.split(".")[0] != library}
    assert users <= HOMES[library]


@pytest.mark.parametrize(("package", "barred"), [("sto_kernels", NOT_IN_KERNELS), ("sto_bench", NOT_IN_BENCH)])
def test_a_package_below_knows_nothing_of_the_engine_and_its_libraries(package: str, barred: set[str]) -> None:
    tops = {n.split(".")[0] for m, names in GRAPH.items() if m.split(".")[0] == package for n in names}
    assert tops & barred == set()


def test_the_judge_knows_nothing_of_the_models_that_it_judges() -> None:
    judge = {m: names for m, names in GRAPH.items() if m.startswith("sto_engine.evaluate.")}
    assert judge
    used = {part(name) for names in judge.values() for name in names if name in SOURCES}
    assert used & {"models", "history"} == set()
