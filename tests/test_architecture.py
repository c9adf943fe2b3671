"""Who may import whom, how large things may grow, and how fast the front door opens."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ("dcgen", "scenarios", "bridges", "cli")
SOURCES = sorted(path for top in PROJECT for path in [*ROOT.glob(f"{top}/**/*.py"), *ROOT.glob(f"{top}.py")])
FILE_LINES, FUNCTION_LINES = 320, 45
# What numba compiles: one loop, its state in local variables.
LOOP_NESTS = {f"scenarios.world.{name}" for name in ("cut.kernels", "sensor.kernels", "sensor.sight_kernels")}
LOOP_NESTS |= {"dcgen.export.surface_kernels"}
MODEL_SIDE = {"torch", "numpy", "einops", "safetensors", "h5py", "jaxtyping", "numba"}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


@cache
def imports(module: str, lazily: bool = True) -> frozenset[str]:
    """Modules that a file imports, by their full names; with lazily, inside functions too. Type checks do not count."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and not lazily:
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module}: imports are absolute here"
                full = {f"{child.module}.{alias.name}" for alias in child.names}
                found.update(full & MODULES.keys() or {child.module or ""})
            visit(child)

    visit(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    return frozenset(found)


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def offenders(rule: str, sources: list[str], *forbidden: str, allowed: tuple[str, ...] = ()) -> None:
    wrong = [
        f"{module} imports {name}"
        for module in sources
        for name in sorted(imports(module))
        if within(name, *forbidden) and name not in allowed
    ]
    assert not wrong, f"{rule}: {wrong}"


def modules_in(*packages: str) -> list[str]:
    return [module for module in MODULES if within(module, *packages)]


def test_there_is_something_to_check() -> None:
    assert {"dcgen.types", "dcgen.vae.model", "scenarios.schema", "bridges.scenes", "cli"} <= MODULES.keys()
    assert "dcgen.errors" in imports("dcgen.scene_file") and "dcgen.types" in imports("scenarios.roadmap")


def test_nouns_and_errors_import_nothing_of_the_project() -> None:
    offenders("shared nouns", ["dcgen.types", "dcgen.errors"], *PROJECT)


def test_scenarios_know_nouns_and_errors_alone() -> None:
    offenders("scenarios", modules_in("scenarios"), "dcgen", allowed=("dcgen.types", "dcgen.errors"))
    offenders("scenarios", modules_in("scenarios"), "bridges", "cli", "torch")


def test_dcgen_knows_nothing_of_where_its_conditions_come_from() -> None:
    offenders("dcgen", modules_in("dcgen"), "scenarios", "bridges", "cli")


def test_only_the_command_line_imports_bridges() -> None:
    offenders("bridges", list(modules_in("dcgen", "scenarios")), "bridges")
    offenders("bridges", modules_in("bridges"), "cli")


def test_the_autoencoder_and_the_transformer_do_not_know_each_other() -> None:
    offenders("vae", modules_in("dcgen.vae"), "dcgen.dit")
    offenders("dit", modules_in("dcgen.dit"), "dcgen.vae")


def test_eval_and_export_read_nouns_and_scene_files() -> None:
    allowed = ("dcgen", "dcgen.types", "dcgen.errors", "dcgen.compiled", "dcgen.scene_file", "dcgen.scene_fields")
    for room in ("dcgen.eval", "dcgen.export"):
        inside = tuple(modules_in(room))
        offenders(room, list(inside), "dcgen", allowed=(*allowed, *inside))


def test_shapes_in_signatures_are_checked(pytestconfig: pytest.Config) -> None:
    *checked, _ = pytestconfig.getoption("jaxtyping_packages").split(",")
    shaped = {module for module in MODULES if "jaxtyping" in imports(module)}
    assert shaped and not {module for module in shaped if not within(module, *checked)}, "name them in pyproject.toml"
    torch = pytest.importorskip("torch")
    from dcgen.hexplane import patchify

    with pytest.raises(TypeError, match=r"image"):
        patchify(torch.zeros(2, 3, 4), 2)


def closure(*starts: str) -> set[str]:
    """Project modules that are loaded, at import time, by those."""
    seen, todo = set(), list(starts)
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo += [name for name in imports(module, lazily=False) if name in MODULES]
            todo += [name for name in [module.rpartition(".")[0]] if name in MODULES]
    return seen


@pytest.mark.parametrize("start", ["dcgen.recipes", "dcgen.train", "dcgen.generate", "dcgen.checkpoint"])
def test_a_bare_gpu_image_can_train_and_sample(start: str) -> None:
    for module in closure(start):
        third_party = {name.partition(".")[0] for name in imports(module, lazily=False)} - set(PROJECT)
        assert third_party - set(sys.stdlib_module_names) <= MODEL_SIDE, module


def test_no_drawer_for_everything() -> None:
    names = {part for path in SOURCES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not names & {"utils", "util", "common", "helpers", "misc"}


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_can_be_read_at_a_glance(module: str) -> None:
    text = MODULES[module].read_text(encoding="utf-8")
    assert text.count("\n") < FILE_LINES, f"{module} has {text.count(chr(10))} lines; split it"
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            size = (node.end_lineno or 0) - first.lineno + 1
            assert size <= FUNCTION_LINES or module in LOOP_NESTS, (
                f"{module}.{node.name} has {size} lines of body; split it"
            )
    assert ast.get_docstring(tree) or not tree.body, f"{module} says nothing about itself"


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=120, check=True
    )


def test_help_comes_at_once() -> None:
    """Counted in CPU seconds, which are the wall's where nothing else runs: a busy machine is no fault of ours."""
    run_python("cli.py", "--help")  # compiled now
    spent = []
    for _ in range(4):
        before = os.times()
        result = run_python("cli.py", "--help")
        after = os.times()
        spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert "scenario" in result.stdout
    assert min(spent) < 0.5, spent


@pytest.mark.parametrize("statement", ["import dcgen", "import cli", "import dcgen.types, scenarios, bridges"])
def test_the_front_imports_nothing_heavy(statement: str) -> None:
    heavy = ["torch", "h5py", "open3d", "carla", "scipy", "shapely", "pydantic", "numba", "rich"]
    result = run_python("-c", f"import sys\n{statement}\nprint([name for name in {heavy} if name in sys.modules])")
    assert result.stdout.strip() == "[]"


def test_the_lazy_names_are_the_functions() -> None:
    code = (
        "import dcgen; print(callable(dcgen.generate), callable(dcgen.load_scene))\n"
        "from dcgen.generate import generate, Sampling; import dcgen.generate\n"
        "print(callable(dcgen.generate), dcgen.generate.Sampling is Sampling, dcgen.generate.generate is generate)"
    )
    assert run_python("-c", code).stdout.split() == ["True"] * 5
