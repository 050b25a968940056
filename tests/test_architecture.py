"""The shape of the package, held by reading its source: who imports whom, who starts what, how long things are.

CONTRIBUTING.md says the same in words.
"""

import ast
import functools
import graphlib
import inspect
import json
import pickle
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import pytest

import bridge
import bridge.mounts
from bridge import errors
from support.paths import ROOT, SOURCE, TESTS
from support.source import MODULES, path_of

# From low to high, by package. A module imports from lower layers and from its own package, and from nothing beside it.
LAYERS: tuple[tuple[str, ...], ...] = (
    # The ground: what both directions stand on.
    ("bridge._types", "bridge.errors", "bridge._stats", "bridge._arguments", "bridge._log_once", "bridge._tables"),
    ("bridge._translate", "bridge._concurrency"),
    ("bridge._servers", "bridge._lifespan_client"),
    ("bridge._wsgi_to_asgi", "bridge._asgi_to_wsgi", "bridge.gunicorn"),
    ("bridge.interfaces",),
    ("bridge.mounts",),
    ("bridge",),
    ("bridge.django", "bridge._check"),
    ("bridge.cli",),
    ("bridge.__main__",),
)
DIRECTIONS = ("bridge._wsgi_to_asgi", "bridge._asgi_to_wsgi")
# What both directions may reach.
SHARED_LAYERS = LAYERS[:3]
# Each is for one framework, and the only one that imports it.
FOR_A_FRAMEWORK = ("bridge.django",)
# The engine: its classes are explained in docs/internals.md.
ENGINE = ("bridge._concurrency", "bridge._servers", "bridge._lifespan_client", *DIRECTIONS, "bridge._translate")

# Modules without an underscore, besides `bridge` and `bridge.errors`.
PUBLIC_MODULES = {"bridge.cli", "bridge.gunicorn", "bridge.interfaces", "bridge.mounts"}

# What a pure module may import: nothing with a clock, a thread, a socket, a file, an environment or dice.
PURE = {
    "collections.abc",
    "enum",
    "functools",
    "http",
    "io",
    "typing",
    "urllib.parse",
    "bridge._types",
    "bridge.errors",
}

# Words of what `_concurrency` carries, and must not know. ("scope" and "send" are anyio's and gevent's words too.)
CARRIED = {
    *("environ", "start_response", "wsgi", "asgi", "http", "https", "lifespan", "receive", "cookie", "status", "chunk"),
    *("header", "headers", "query_string", "path_info", "websocket", "disconnect", "upload", "url"),
}
# It is about other libraries, and speaks their words.
KNOWS_WORDS = {"bridge._concurrency.interop"}

WORKER_THREADS = {"Thread", "ThreadPoolExecutor", "Timer", "start_new_thread", "start_joinable_thread"}
OTHER_WAYS_TO_A_THREAD = {"to_thread", "run_in_executor", "run_sync", "BlockingPortal", "start_blocking_portal"}
LOOPS = {"new_event_loop", "Runner", "run_until_complete", "run_forever", "set_event_loop", "EventLoop"}
RUN = {("asyncio", "run"), ("anyio", "run"), ("trio", "run"), ("uvloop", "run")}
THREAD_MAKERS = {
    "bridge._concurrency.pool": {"Thread"},
    "bridge._concurrency.greenlets": {"Thread", "ThreadPool"},
    "bridge._check.progress": {"Timer"},
    "bridge.cli._end": {"Timer"},
}
# `greenlets` makes a thread for whoever calls this, which is `private_loop` alone.
NATIVE_THREAD, NATIVE_TAKERS = "start_thread", {"bridge._concurrency.greenlets", "bridge._concurrency.private_loop"}
# `bridge check` has a process, and so a loop, of its own.
LOOP_MAKERS = {"bridge._concurrency.private_loop", "bridge._check.probe"}

# Of the module `time`.
STEADY_CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time"}

IMPORT_FLOORS = 16
MODULE_LINES = 600
FUNCTION_LINES = 45
CALL_LINES = 30
CLASS_ATTRIBUTES = 24
CLASS_METHODS = 25
PACKAGE_MODULES = 14
FLAT_MODULES = 6
TYPE_IGNORES = 6
TEST_LINES = 700

# A module of fewer lines than this is a part of another one, but for a package's __init__ and these.
LEAST_LINES = 30
SHORT = {
    "bridge.__main__": "Python finds it by its name",
    "bridge._log_once": "the ground of both directions: neither may have it",
    "bridge._tables": "cli and django print tables, and neither imports from the other",
    "bridge.django.apps": "Django finds it by its name",
}

# Names that are in several modules of one package with a value each, on purpose.
MIRRORED = {
    "__all__": "each module that has one exports its own names",
    "ORDER": "the order tables of the translation mirror each other, and so do the names of their states",
    "Item": "what a response of each direction gives, beside those tables",
}

# Signals between our own threads and loops; what an application or server may catch is in bridge.errors.
SIGNALS = {"GroupClosed", "LoopClosed", "NoSuchApp", "NoTakeover", "PeerGone", "PoolClosed", "RunnerEnded"}

DOCUMENTED = (
    "ApplicationProtocolError",
    "AsgiToWsgi",
    "ClientDisconnected",
    "ClientProtocolError",
    "LifespanFailed",
    "LoopStats",
    "Mounts",
    "ProtocolError",
    "ServerProtocolError",
    "ThreadStats",
    "WsgiToAsgi",
    "as_asgi",
    "as_wsgi",
    "interface_of",
)
PUBLIC_CLASSES = (bridge.WsgiToAsgi, bridge.AsgiToWsgi, bridge.Mounts, bridge.ThreadStats, bridge.LoopStats)


def imports_of(name: str) -> Iterator[str]:
    """The modules that a module imports, wherever: in functions too, and for type checkers only."""
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            assert node.module is not None
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                yield below if below in MODULES else node.module


IMPORTS = {name: set(imports_of(name)) for name in MODULES}
OURS = {name: {other for other in imported if other in MODULES} for name, imported in IMPORTS.items()}
PURE_MODULES = [name for name in MODULES if name.startswith("bridge._translate")]
CONCURRENCY = [name for name in MODULES if name.startswith("bridge._concurrency.")]


def is_in(name: str, package: str) -> bool:
    """Whether a module is a package or in it; `bridge` itself is its face only."""
    return name == package or (package != "bridge" and name.startswith(f"{package}."))


def place_of(name: str) -> tuple[int, str] | None:
    """The number of the layer that a module is in, and the package by which it is there."""
    found = [(number, package) for number, layer in enumerate(LAYERS) for package in layer if is_in(name, package)]
    assert len(found) <= 1
    return found[0] if found else None


def reachable(package: str) -> set[str]:
    """A package, and all that it imports at any depth."""
    found: set[str] = set()
    left = {name for name in MODULES if is_in(name, package)}
    while left:
        found |= left
        left = set().union(*(OURS[one] for one in left)) - found
    return found


def for_a_framework(name: str) -> bool:
    return any(is_in(name, package) for package in FOR_A_FRAMEWORK)


def references(name: str) -> set[str]:
    """Each name and attribute that a module refers to, but for those in annotations."""
    nodes = list(_without_annotations(MODULES[name]))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    imported = {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return names | imported | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def _without_annotations(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    annotations = (getattr(node, "annotation", None), getattr(node, "returns", None))
    for child in ast.iter_child_nodes(node):
        if child not in annotations:
            yield from _without_annotations(child)


def functions_of(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(MODULES[name]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Its lines from `def` on, without the docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


class Class(NamedTuple):
    """A class of ours: where its bases are that are ours too, and what it has and uses."""

    bases: tuple[tuple[str, str], ...]
    defined: frozenset[str]
    assigned: frozenset[str]
    used: frozenset[str]
    methods: int


@functools.cache
def classes() -> dict[tuple[str, str], Class]:
    """Each class by its module and name."""
    found = {}
    for module, tree in MODULES.items():
        imported = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                names = [base.id for base in node.bases if isinstance(base, ast.Name)]
                found[module, node.name] = _class(node, tuple(imported.get(base, (module, base)) for base in names))
    return found


def _class(node: ast.ClassDef, bases: tuple[tuple[str, str], ...]) -> Class:
    functions = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    targets = [target for each in node.body if isinstance(each, ast.Assign) for target in each.targets]
    targets += [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
    named = {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    own = [
        each
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "self"
    ]
    return Class(
        bases=bases,
        defined=frozenset(named | {each.name for each in functions}),
        assigned=frozenset(each.attr for each in own if isinstance(each.ctx, ast.Store)),
        used=frozenset(each.attr for each in own),
        methods=len(functions),
    )


def above(key: tuple[str, str]) -> list[tuple[str, str]]:
    """All bases of a class that are ours, also those further up."""
    found = []
    for base in classes()[key].bases:
        if base in classes():
            found += [base, *above(base)]
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


class TestImports:
    @pytest.mark.parametrize("name", PURE_MODULES)
    def test_translation_is_pure(self, name: str) -> None:
        """Values in, values out: no clock, no thread, no socket, no file, no log, no environment."""
        others = {other for other in IMPORTS[name] if not other.startswith("bridge._translate")}
        assert set() == others - PURE
        assert set() == references(name) & {"open", "print", "input", "environb", "getenv", "globals"}

    def test_each_module_has_a_layer(self) -> None:
        """There is no layer for the rest, and none of a package that has gone."""
        assert [] == [name for name in MODULES if place_of(name) is None]
        packages = [package for layer in LAYERS for package in layer]
        assert [] == [package for package in packages if not any(is_in(name, package) for name in MODULES)]

    def test_imports_lead_to_lower_layers(self) -> None:
        """Or stay in their package: the two directions, and what else is side by side, do not know each other."""
        places = {name: place_of(name) or (-1, "") for name in MODULES}
        wrong = [
            f"{name} -> {other}"
            for name, others in OURS.items()
            for other in others
            if places[name][1] != places[other][1] and places[name][0] <= places[other][0]
        ]
        assert [] == wrong

    def test_there_is_no_circle(self) -> None:
        """Not in functions either, and not for type checkers only: a reader can start at the bottom."""
        order = graphlib.TopologicalSorter(OURS)
        assert len(MODULES) == len(list(order.static_order()))

    def test_the_tower_is_not_too_high(self) -> None:
        """No chain of imports is longer, file by file."""
        floors: dict[str, int] = {}
        for name in graphlib.TopologicalSorter(OURS).static_order():
            floors[name] = 1 + max((floors[other] for other in OURS[name]), default=0)
        assert {} == {name: floor for name, floor in floors.items() if floor > IMPORT_FLOORS}

    def test_the_two_directions_reach_nothing_of_each_other(self) -> None:
        """Each is whole without the other, however deep one looks: what both reach is below them."""
        one, other = (reachable(direction) for direction in DIRECTIONS)
        shared = [package for layer in SHARED_LAYERS for package in layer]
        assert [] == [name for name in one & other if not any(is_in(name, package) for package in shared)]
        for direction in DIRECTIONS:  # and the walk does see what is there
            assert reachable(direction) > {direction, f"{direction}.adapter", "bridge._concurrency.calls"}

    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_a_direction_is_entered_through_its_init(self, direction: str) -> None:
        """From outside nothing but the package itself is imported, so that its modules can be cut anew."""
        inner = {name for name in MODULES if name.startswith(f"{direction}.")}
        entering = {name: OURS[name] & inner for name in MODULES if not is_in(name, direction)}
        assert {} == {name: others for name, others in entering.items() if others}

    def test_concurrency_imports_only_the_counts(self) -> None:
        """`_concurrency` could be a library of its own."""
        imported = set().union(*(OURS[name] for name in CONCURRENCY))
        assert {"bridge._stats"} == {name for name in imported if not is_in(name, "bridge._concurrency")}

    def test_nothing_is_imported_from_a_test_or_an_extra(self) -> None:
        """At import there is the standard library, asgiref, anyio; sniffio comes with anyio, gevent has its own try."""
        inside = [others for name, others in IMPORTS.items() if not for_a_framework(name)]
        roots = {other.partition(".")[0] for others in inside for other in others}
        assert {"bridge", "asgiref", "anyio", "sniffio", "gevent", "wsproto"} >= roots - sys.stdlib_module_names


class TestClasses:
    def test_at_most_one_layer_is_above_a_class_in_another_file(self) -> None:
        """A base in another file has no base of ours itself: no chain has to be read over three files."""
        chains = {
            name: bases
            for (module, name) in classes()
            if len(bases := above((module, name))) > 1 and any(base[0] != module for base in bases)
        }
        assert {} == chains
        assert ("bridge._concurrency.calls", "Call") in above(("bridge._wsgi_to_asgi.responder", "WsgiResponder"))

    def test_nothing_private_of_a_base_in_another_file_is_used(self) -> None:
        """What its heirs need is the base's interface, and has no underscore."""
        used = {}
        for (module, name), each in classes().items():
            foreign = [classes()[base] for base in above((module, name)) if base[0] != module]
            inherited = frozenset().union(*(base.defined | base.assigned for base in foreign))
            names = {attribute for attribute in (each.used & inherited) - each.defined if is_private(attribute)}
            if names:
                used[name] = names
        assert {} == used

    def test_a_class_can_be_held_in_the_head(self) -> None:
        """Instance attributes of it and of its bases, and methods."""
        wide = {}
        for (module, name), each in classes().items():
            assigned = each.assigned.union(*(classes()[base].assigned for base in above((module, name))))
            if len(assigned) > CLASS_ATTRIBUTES or each.methods > CLASS_METHODS:
                wide[name] = (len(assigned), each.methods)
        assert {} == wide

    def test_no_class_name_is_there_twice(self) -> None:
        """In a traceback or a search each name is one thing."""
        names = Counter(name for _, name in classes())
        assert [] == [name for name, count in names.items() if count > 1]

    def test_each_class_says_what_it_is(self) -> None:
        """Private ones as well: docs/internals.md is printed from that."""
        silent = [
            f"{module}.{node.name}"
            for module, tree in MODULES.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and node.name != "Meta" and not ast.get_docstring(node)
        ]
        assert [] == silent

    def test_a_constant_has_one_value_in_its_package(self) -> None:
        """One name for one thing, also where each file could have its own."""
        values: dict[tuple[str, str], set[str]] = defaultdict(set)
        for module, tree in MODULES.items():
            package = module if path_of(module).name == "__init__.py" else module.rpartition(".")[0]
            for name, value in _constants(tree):
                values[package, name].add(value)
        several = {name for (_, name), found in values.items() if len(found) > 1}
        assert set(MIRRORED) == several


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What is assigned to one name each at the level of a module, with its source.

    What is unpacked to several, as the states of an order table are, has its value where it is unpacked from.
    """
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from ((target.id, ast.unparse(node.value)) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, ast.unparse(node.value)


class TestThreadsAndLoops:
    @pytest.mark.parametrize("name", list(MODULES))
    def test_threads_are_made_in_one_place_for_each_use(self, name: str) -> None:
        """Worker threads in `pool`, and the one of a private loop in `greenlets`, for `private_loop`.

        The commands, whose process is their own, have timers beside: for code that does not come back.
        """
        made = references(name) & (WORKER_THREADS | OTHER_WAYS_TO_A_THREAD)
        if "gevent" in {other.partition(".")[0] for other in IMPORTS[name]}:
            made |= references(name) & {"ThreadPool"}  # gevent's; `pool` has a class of that name
        assert made <= THREAD_MAKERS.get(name, set())
        assert name in NATIVE_TAKERS or NATIVE_THREAD not in references(name)

    @pytest.mark.parametrize("name", [name for name in MODULES if name not in LOOP_MAKERS])
    def test_loops_are_made_in_one_place(self, name: str) -> None:
        """In `private_loop`; everywhere else a loop is one that runs already."""
        runs = {
            (node.value.id, node.attr)
            for node in ast.walk(MODULES[name])
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        }
        assert set() == references(name) & LOOPS
        assert set() == runs & RUN

    def test_the_makers_make(self) -> None:
        """The two tests above look for the right words."""
        assert {"Thread"} == references("bridge._concurrency.pool") & WORKER_THREADS
        assert references("bridge._concurrency.greenlets") >= {"Thread", "ThreadPool"}
        assert references("bridge._concurrency.private_loop") >= {"new_event_loop", "run_until_complete", NATIVE_THREAD}

    def test_nothing_starts_at_import_or_in_a_constructor(self) -> None:
        """Servers fork: before the first request there is no thread, no loop, no open file."""
        program = """if True:
            import asyncio, gc, json, os, threading
            descriptors = set(os.listdir("/proc/self/fd"))
            from bridge import AsgiToWsgi, WsgiToAsgi
            async def asgi(scope, receive, send): pass
            adapters = WsgiToAsgi(lambda environ, start_response: []), AsgiToWsgi(asgi)
            print(json.dumps({
                "threads": len(os.listdir("/proc/self/task")), "known": threading.active_count(),
                "loops": sum(isinstance(thing, asyncio.AbstractEventLoop) for thing in gc.get_objects()),
                "files": sorted(set(os.listdir("/proc/self/fd")) - descriptors),
            }))
        """
        ran = subprocess.run([sys.executable, "-c", program], cwd=SOURCE, capture_output=True, text=True, check=True)
        assert {"threads": 1, "known": 1, "loops": 0, "files": []} == json.loads(ran.stdout)

    @pytest.mark.parametrize("name", list(MODULES))
    def test_no_wait_is_by_a_clock_that_can_be_set(self, name: str) -> None:
        """What is measured is measured by clocks that only go forward, whatever becomes of the time of day."""
        nodes = [node for node in ast.walk(MODULES[name]) if isinstance(node, ast.Import | ast.ImportFrom)]
        taken = {alias.name for node in nodes if getattr(node, "module", "") == "time" for alias in node.names}
        whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        assert set() == taken - STEADY_CLOCKS
        assert set() == (whole | IMPORTS[name] - {"time"}) & {"time", "datetime"}

    @pytest.mark.parametrize("name", [name for name in CONCURRENCY if name not in KNOWS_WORDS])
    def test_concurrency_knows_no_word_of_what_it_carries(self, name: str) -> None:
        """Nothing of HTTP, WSGI or ASGI: neither in names nor in strings nor in comments."""
        tokens = {token.lower() for token in re.findall(r"[A-Za-z_]+", path_of(name).read_text(encoding="utf-8"))}
        assert set() == tokens & CARRIED


class TestBudgets:
    @pytest.mark.parametrize("name", list(MODULES))
    def test_a_module_is_a_concept(self, name: str) -> None:
        """Of the length that it needs: not two in one, and not a part of one."""
        lines = path_of(name).read_text(encoding="utf-8").count("\n")
        assert lines <= MODULE_LINES
        assert lines >= LEAST_LINES or path_of(name).name == "__init__.py" or name in SHORT

    def test_each_exception_is_one(self) -> None:
        """The list of short modules has no one that is long enough, or gone."""
        assert [] == [name for name in SHORT if path_of(name).read_text(encoding="utf-8").count("\n") >= LEAST_LINES]

    def test_a_package_can_be_surveyed(self) -> None:
        """So many modules, apart from its `__init__`; and few that are in no package."""
        packages = Counter(str(path_of(name).parent.relative_to(SOURCE)) for name in MODULES if not _is_init(name))
        assert {} == {package: count for package, count in packages.items() if count > PACKAGE_MODULES}
        flat = [path.name for path in (SOURCE / "bridge").glob("_*.py") if not path.name.startswith("__")]
        assert len(flat) <= FLAT_MODULES

    @pytest.mark.parametrize("name", list(MODULES))
    def test_a_function_fits_on_a_screen(self, name: str) -> None:
        """Without its docstring."""
        longer = [(function.name, length_of(function)) for function in functions_of(name)]
        assert [] == [(function, lines) for function, lines in longer if lines > FUNCTION_LINES]

    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_an_adapter_reads_as_the_steps_of_the_trip(self, direction: str) -> None:
        """`__call__` is short, and encodes and decodes nothing: that is translation."""
        name = f"{direction}.adapter"
        calls = [length_of(function) for function in functions_of(name) if function.name == "__call__"]
        assert calls
        assert max(calls) <= CALL_LINES
        assert set() == references(name) & {"encode", "decode"}

    def test_type_checkers_are_seldom_silenced(self) -> None:
        """Each time with the code of what is ignored."""
        found = [
            (name, code)
            for name in MODULES
            for code in re.findall(r"# (?:type|pyright): ignore(\S*)", path_of(name).read_text(encoding="utf-8"))
        ]
        assert [] == [(name, code) for name, code in found if not re.fullmatch(r"\[[A-Za-z-]+(,[A-Za-z-]+)*\]", code)]
        assert len(found) <= TYPE_IGNORES


def _is_init(name: str) -> bool:
    return path_of(name).name == "__init__.py"


class TestFace:
    def test_its_names_are_the_documented_ones(self) -> None:
        """And no others, but the public modules."""
        assert sorted(DOCUMENTED) == sorted(bridge.__all__)
        public = {name for name, value in vars(bridge).items() if not name.startswith("_")}
        assert set(DOCUMENTED) == {name for name in public if not isinstance(getattr(bridge, name), ModuleType)}
        modules = {f"bridge.{name}" for name in public if isinstance(getattr(bridge, name), ModuleType)}
        assert modules <= {"bridge.errors", *PUBLIC_MODULES, *FOR_A_FRAMEWORK}

    def test_the_errors_are_on_it(self) -> None:
        """Each of them, under the same name."""
        assert {getattr(errors, name) for name in errors.__all__} <= {getattr(bridge, name) for name in bridge.__all__}

    def test_only_what_is_imported_from_says_all(self) -> None:
        """The public modules, and the two directions, which others enter through their `__init__`."""
        saying = {
            name
            for name, tree in MODULES.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and node.id == "__all__"
        }
        public = {"bridge", "bridge.errors", *PUBLIC_MODULES, *FOR_A_FRAMEWORK} - {"bridge.interfaces"}
        assert public | set(DIRECTIONS) == saying

    def test_every_other_module_is_private(self) -> None:
        """A public one has to be meant."""
        private = {name for name in MODULES if any(part.startswith("_") for part in name.split("."))}
        # Django finds these two by their names.
        known = {name for name in MODULES if name.startswith(("bridge.django.apps", "bridge.django.management"))}
        assert {"bridge", "bridge.errors", *FOR_A_FRAMEWORK, *PUBLIC_MODULES} == set(MODULES) - private - known

    @pytest.mark.parametrize("public", PUBLIC_CLASSES, ids=lambda public: public.__name__)
    def test_public_classes_look_public(self, public: type) -> None:
        """In a repr, to a pickle, and to whoever inspects them; their methods can still be read."""
        assert f"<class 'bridge.{public.__name__}'>" == repr(public)
        assert public is pickle.loads(pickle.dumps(public))
        assert bridge is inspect.getmodule(public)
        assert inspect.signature(public).parameters
        methods = [value for value in vars(public).values() if inspect.isfunction(value) and value.__name__ == "close"]
        assert all(inspect.getsource(method) for method in methods)

    def test_what_is_public_elsewhere_looks_so_too(self) -> None:
        """The sides of `Mounts` are in `bridge.mounts`, and the errors where they have always been."""
        assert {"bridge.mounts"} == {getattr(bridge.mounts, name).__module__ for name in ("AsgiMounts", "Mount")}
        assert {"bridge.errors"} == {getattr(errors, name).__module__ for name in errors.__all__}

    def test_counts_can_be_pickled(self) -> None:
        """They go from a worker process to whoever collects them."""
        stats = bridge.WsgiToAsgi(lambda environ, start_response: []).stats()
        assert isinstance(stats, bridge.ThreadStats)
        assert stats == pickle.loads(pickle.dumps(stats))

    @pytest.mark.parametrize("name", DOCUMENTED)
    def test_what_is_public_says_what_it_is_for(self, name: str) -> None:
        """Classes, methods and properties."""
        public = getattr(bridge, name)
        members = [value for key, value in vars(public).items() if not key.startswith("_") and not _is_data(value)]
        assert [] == [member for member in [public, *members] if not inspect.getdoc(member)]

    @pytest.mark.parametrize("name", DOCUMENTED)
    def test_what_is_public_says_what_it_raises(self, name: str) -> None:
        """What can be called, and does something; to make an error or counts does not."""
        public = getattr(bridge, name)
        called = {key: value for key, value in vars(public).items() if inspect.isfunction(value)}
        if isinstance(public, type) and (issubclass(public, Exception) or hasattr(public, "__dataclass_fields__")):
            called, public = {}, None
        methods = [value for key, value in called.items() if key == "__call__" or not key.startswith("_")]
        documents = {each: inspect.getdoc(each) or "" for each in [*methods, public] if each is not None}
        assert [] == [each for each, text in documents.items() if not re.search(r"\b[Rr]aises\b", text)]

    @pytest.mark.parametrize(
        ("public", "attributes"),
        [(bridge.WsgiToAsgi, ["app"]), (bridge.AsgiToWsgi, ["app"]), (bridge.Mounts, ["mounts", "asgi", "wsgi"])],
    )
    def test_public_attributes_are_documented(self, public: type, attributes: list[str]) -> None:
        """Those without an underscore that an instance has are named in the docstring of the class."""
        module = inspect.getmodule(public.__init__)
        assert module is not None
        key = (module.__name__, public.__name__)
        assert set(attributes) >= {name for name in classes()[key].assigned if not name.startswith("_")}
        text = inspect.getdoc(public) or ""
        assert [] == [name for name in attributes if f"`{name}`" not in text]

    @pytest.mark.parametrize("adapter", [bridge.WsgiToAsgi, bridge.AsgiToWsgi])
    def test_each_option_is_documented_and_keyword_only(self, adapter: type) -> None:
        """With its name in the docstring of the class, as code; and there is no option that has gone."""
        signature = inspect.signature(adapter)
        options = [name for name in signature.parameters if name != "app"]
        documented = re.findall(r"^\* ((?:`\w+`(?:, )?)+)", inspect.getdoc(adapter) or "", re.MULTILINE)
        assert options == [name for group in documented for name in re.findall(r"\w+", group)]
        kinds = {signature.parameters[name].kind for name in options}
        assert {inspect.Parameter.KEYWORD_ONLY} == kinds

    def test_errors_are_in_one_place(self) -> None:
        """No class of exceptions is anywhere else, but for signals that stay within."""
        elsewhere = {
            node.name
            for name, tree in MODULES.items()
            if name != "bridge.errors"
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and any(_is_exception(base) for base in node.bases)
        }
        assert SIGNALS == elsewhere


# Modules that are tested as a whole with others, and where.
WHOLES = {
    "_asgi_to_wsgi.adapter": "adapters/asgi_to_wsgi",
    "_asgi_to_wsgi.websocket": "adapters/asgi_to_wsgi/test_websocket.py",
    "_asgi_to_wsgi.websocket_wire": "adapters/asgi_to_wsgi/test_websocket.py",
    "_wsgi_to_asgi.adapter": "adapters/wsgi_to_asgi",
    "cli._served": "unit/cli/test_serve.py",
}
MOST_WHOLES = 5


class TestMirror:
    @pytest.mark.parametrize("name", [name for name in MODULES if not path_of(name).name.startswith("__")])
    def test_each_module_has_its_test_module(self, name: str) -> None:
        """The same name without the underscores, in the same place below `unit`; or it is one of the wholes."""
        mirror = TESTS / (WHOLES.get(name.removeprefix("bridge.")) or _mirror(name))
        assert mirror.exists(), f"{mirror.relative_to(ROOT)} is missing"

    def test_few_are_tested_as_a_whole(self) -> None:
        """And none of them has a test module as well."""
        assert len(WHOLES) <= MOST_WHOLES
        assert [] == [name for name in WHOLES if (TESTS / _mirror(f"bridge.{name}")).exists()]

    def test_each_test_module_has_its_module(self) -> None:
        """The other way round: a test file is named after one that is there, or after one and what it asks of that."""
        mirrors = {_mirror(name).removesuffix(".py") for name in MODULES}
        files = [str(path.relative_to(TESTS).with_suffix("")) for path in (TESTS / "unit").rglob("test_*.py")]
        assert [] == [name for name in files if not any(f"{name}_".startswith(f"{mirror}_") for mirror in mirrors)]

    def test_no_file_of_the_tests_is_too_long_or_imports_from_a_test(self) -> None:
        """What tests share is in `support`."""
        texts = {str(path.relative_to(TESTS)): path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py")}
        assert [] == [name for name, text in texts.items() if text.count("\n") > TEST_LINES]
        pattern = re.compile(r"^\s*(?:from|import) (?:\S+\.)?test_(?!sqlite )", re.MULTILINE)  # that one is Django's
        assert [] == [name for name, text in texts.items() if pattern.search(text)]


def _mirror(name: str) -> str:
    *packages, module = (part.lstrip("_") for part in name.removeprefix("bridge.").split("."))
    return "/".join(["unit", *packages, f"test_{module}.py"])


class TestDocuments:
    def test_each_class_of_the_engine_has_a_line(self) -> None:
        """In docs/internals.md, below its module."""
        listed, module = set(), ""
        for line in (ROOT / "docs" / "internals.md").read_text(encoding="utf-8").splitlines():
            if found := re.match(r"### `(\S+)\.py`$", line):
                module = "bridge." + found[1].replace("/", ".")
            elif found := re.match(r"- `(\w+)`: \S", line):
                listed.add((module, found[1]))
        engine = {key for key in classes() if any(is_in(key[0], package) for package in ENGINE)}
        assert set() == engine - listed
        assert set() == listed - set(classes())

    def test_each_word_of_the_glossary_is_used(self) -> None:
        """In the source, in the spelling of the glossary, or as part of a name."""
        words = re.findall(r"^\*\*(.+?)\*\*", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
        text = "\n".join(path_of(name).read_text(encoding="utf-8") for name in MODULES)
        plain = re.sub(r"[\s_-]+", "", text).lower()
        assert len(words) > 20
        assert [] == [word for word in words if re.sub(r"[\s_-]+", "", word).lower() not in plain]
        assert words == sorted(words, key=str.lower)


def _is_data(value: object) -> bool:
    """Whether a member of a class is no method or property (a slot's descriptor, a constant)."""
    return not (inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod))


def _is_exception(base: ast.expr) -> bool:
    name = base.id if isinstance(base, ast.Name) else base.attr if isinstance(base, ast.Attribute) else ""
    return name.endswith(("Error", "Exception", "Failed", "Gone", "Disconnected", "Warning"))
