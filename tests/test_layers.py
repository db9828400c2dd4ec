"""The architecture as tests: one direction of imports, thin pages, a light dashboard."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIB = ROOT / "lib"
MODULES = sorted(LIB.rglob("*.py"))
PAGES = sorted((ROOT / "pages").glob("*.py"))
VIEWS = [ROOT / "app.py", *PAGES]

ORDER = (
    "config",
    "paths",
    "corpora",
    "models",
    "sampling",
    "finetune",
    "activations",
    "sparse",
    "metrics",
    "geometry",
    "lens",
    "ablation",
    "store",
    "llm",
    "figures",
    "evidence",
    "pipeline",
    "ui",
    "__main__",
)
HEAVY = {"torch", "nnsight", "transformers", "peft", "duckdb"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def stage_of(dotted: str) -> str | None:
    """Stage of `lib.STAGE...`; `corpora_public` belongs to `corpora`; None for lib itself."""
    parts = dotted.split(".")
    if parts[0] != "lib" or len(parts) == 1:
        return None
    first = parts[1]
    owner = first.split("_")[0]
    return owner if first not in ORDER and owner in ORDER else first


def imported(source: str, package: str) -> set[str]:
    """Dotted names of every import, inside functions too; `from lib import x` gives `lib.x`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def imports_of(path: Path) -> set[str]:
    package = ".".join(path.relative_to(ROOT).parent.parts)
    return imported(path.read_text(encoding="utf-8"), package)


def backward(stage: str, names: set[str]) -> list[str]:
    """Imports of a later stage, or of one that ORDER does not know."""
    place = ORDER.index(stage)
    stages = {name: stage_of(name) for name in names}
    return sorted(
        name
        for name, other in stages.items()
        if other is not None and (other not in ORDER or ORDER.index(other) > place)
    )


def forbidden(names: set[str], packages: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in packages}


def test_the_rule_sees_every_form_of_import():
    source = (
        "import lib.pipeline.run\n"
        "def f():\n"
        "    from lib import ablation\n"
        "    from . import near\n"
        "    from ..ui import cache\n"
        "from lib.corpora_read import rows\n"
        "from lib.metrics import cka\n"
    )
    names = imported(source, "lib.metrics")
    assert "lib.metrics.near" in names
    assert backward("metrics", names) == ["lib.ablation", "lib.pipeline.run", "lib.ui.cache"]
    assert backward("corpora", {"lib.corpora_public", "lib.paths", "lib"}) == []
    assert backward("ui", {"lib.utils"}) == ["lib.utils"], "a stage missing from ORDER is refused"
    assert forbidden({"torch.nn", "torchvision"}, {"torch"}) == {"torch.nn"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_stage_imports_only_earlier_stages(path):
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    stage = stage_of(dotted)
    if stage is None:  # lib/__init__.py
        assert not imports_of(path)
        return
    assert stage in ORDER, f"{name_of(path)}: add `{stage}` to ORDER where it belongs"
    assert backward(stage, imports_of(path)) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_streamlit_stays_in_the_user_interface(path):
    if path.relative_to(LIB).parts[0] != "ui":
        assert not forbidden(imports_of(path), {"streamlit"})


@pytest.mark.parametrize("path", VIEWS, ids=name_of)
def test_views_compute_and_query_nothing(path):
    assert not forbidden(imports_of(path), HEAVY)


@pytest.mark.parametrize("path", VIEWS, ids=name_of)
def test_views_are_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 120, f"{name_of(path)} has {lines} lines; move what is not view code to lib/"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_importing_does_nothing_at_module_level(path):
    """No bare call at module level: no printing, logging, device choice or file on import."""
    if path.name == "__main__.py":
        return
    body = ast.parse(path.read_text(encoding="utf-8")).body
    calls = [n.lineno for n in body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)]
    assert not calls, f"{name_of(path)}: call at module level in lines {calls}"


def light_modules() -> list[str]:
    """Whatever app.py and the pages import at module level from this project."""
    names: set[str] = set()
    for path in VIEWS:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lib":
                names.add(node.module)
                names |= {f"{node.module}.{a.name}" for a in node.names}
            elif isinstance(node, ast.Import):
                names |= {a.name for a in node.names if a.name.split(".")[0] == "lib"}
    figures = {f"lib.figures.{p.stem}" for p in (LIB / "figures").glob("[!_]*.py")}
    fixed = {"lib.store.read", "lib.metrics.statistics", "lib.corpora"}
    wanted = {n for n in names if (ROOT / (n.replace(".", "/") + ".py")).exists()}
    return sorted(wanted | figures | fixed)


def test_opening_the_dashboard_imports_no_torch():
    code = (
        "import importlib, sys\n"
        f"for name in {light_modules()!r}:\n    importlib.import_module(name)\n"
        "heavy = {'torch', 'nnsight', 'transformers', 'peft'} & set(sys.modules)\n"
        "sys.exit(f'imported: {sorted(heavy)}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
