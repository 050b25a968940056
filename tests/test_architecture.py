"""The shape of the package, held by reading its source: who imports whom, who starts what, how long things are."""

import ast
import graphlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

import bridge
from bridge import errors
from support.markdown import rows, section
from support.paths import ROOT, SOURCE, TESTS
from support.source import MODULES, path_of

# From top to bottom. A module imports from the floors below its own; modules of one floor may import each other where
# the floor says so, but never in a circle. What no floor names is an engine room.
FLOORS: dict[str, tuple[str, ...]] = {
    "the doors": (),
    "the command line": (
        "bridge.__main__",
        "bridge.cli",
        "bridge.cli._check",
        "bridge.cli._load",
        "bridge.cli._mounts",
        "bridge.cli._serve",
        "bridge.cli._served",
        "bridge.cli._servers",
        "bridge._check.asgi_validator",
        "bridge._check.client",
        "bridge._check.findings",
        "bridge._check.lifespan",
        "bridge._check.probe",
        "bridge._check.requests",
        "bridge._check.wsgi_validator",
    ),
    "the face": ("bridge",),
    "both styles": ("bridge.mounts", "bridge.interfaces"),
    "hooks for servers": ("bridge.gunicorn",),
    "the adapters": ("bridge._wsgi_to_asgi.adapter", "bridge._asgi_to_wsgi.adapter"),
    "the engine rooms": (),
    "the arrows": (
        "bridge._translate.scope_to_environ",
        "bridge._translate.environ_to_scope",
        "bridge._translate.events_to_input",
        "bridge._translate.input_to_events",
        "bridge._translate.response_to_events",
        "bridge._translate.events_to_response",
        "bridge._translate.lifespan",
        "bridge._translate.websocket",
    ),
    "what arrows share": ("bridge._translate.headers", "bridge._translate.tls", "bridge._translate.urls"),
    "the ground": ("bridge._types", "bridge.errors"),
}
NEIGHBOURS_ALLOWED = ("the doors", "the command line", "both styles", "the engine rooms")
# Each is for one framework, and the only one that imports it.
DOORS = ("bridge.django",)
# Modules without an underscore, besides `bridge` and `bridge.errors`.
PUBLIC_MODULES = {"bridge.cli", "bridge.gunicorn", "bridge.interfaces", "bridge.mounts"}

# What a pure module may import: nothing with a clock, a thread, a socket, a file, an environment or dice.
PURE = {"collections.abc", "http", "io", "typing", "urllib.parse", "bridge._types", "bridge.errors"}

WORKER_THREADS = {"Thread", "ThreadPoolExecutor", "ThreadPool", "Timer", "start_new_thread", "start_joinable_thread"}
OTHER_WAYS_TO_A_THREAD = {"to_thread", "run_in_executor", "run_sync", "BlockingPortal", "start_blocking_portal"}
LOOPS = {"new_event_loop", "Runner", "run_until_complete", "run_forever", "set_event_loop", "EventLoop"}
RUN = {("asyncio", "run"), ("anyio", "run"), ("trio", "run"), ("uvloop", "run")}
THREAD_MAKERS = {"bridge._concurrency.pool": {"Thread"}, "bridge._concurrency.greenlets": {"Thread", "ThreadPool"}}
# `_native` makes a thread for whoever calls this, which is `_loop` alone.
NATIVE_THREAD, NATIVE_TAKERS = "start_thread", {"bridge._concurrency.greenlets", "bridge._concurrency.private_loop"}
# `bridge check` has a process, and so a loop, of its own.
LOOP_MAKERS = {"bridge._concurrency.private_loop", "bridge._check.probe"}

# Of the module `time`.
STEADY_CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time"}

MODULE_LINES = 250
FUNCTION_LINES = 45
CALL_LINES = 30
TYPE_IGNORES = 5
TEST_LINES = 700

# Signals between our own threads and loops; what an application or server may catch is in bridge.errors.
SIGNALS = {"Gone", "LoopClosed", "NoSuchApp", "PoolClosed"}

DOCUMENTED = (
    "ApplicationProtocolError",
    "AsgiToWsgi",
    "ClientDisconnected",
    "ClientProtocolError",
    "LifespanFailed",
    "Mounts",
    "ProtocolError",
    "ServerProtocolError",
    "WsgiToAsgi",
    "as_asgi",
    "as_wsgi",
    "interface_of",
)


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
ARROWS = {name: {other for other in imported if other in MODULES} for name, imported in IMPORTS.items()}
PURE_MODULES = [name for name in MODULES if name.startswith("bridge._translate")]


def is_door(name: str) -> bool:
    return any(name == door or name.startswith(f"{door}.") for door in DOORS)


def floor_of(name: str) -> str:
    if is_door(name):
        return "the doors"
    return next((floor for floor, names in FLOORS.items() if name in names), "the engine rooms")


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


class TestImports:
    @pytest.mark.parametrize("name", PURE_MODULES)
    def test_translation_is_pure(self, name: str) -> None:
        """Values in, values out: no clock, no thread, no socket, no file, no log, no environment."""
        others = {other for other in IMPORTS[name] if not other.startswith("bridge._translate")}
        assert set() == others - PURE
        assert set() == references(name) & {"open", "print", "input", "environb", "getenv", "globals"}

    def test_the_adapters_never_import_each_other(self) -> None:
        """Each of the two stories is whole without the other, however it gets at what it needs."""
        one, other = FLOORS["the adapters"]
        assert other not in _reachable(one)
        assert one not in _reachable(other)

    def test_there_is_no_circle(self) -> None:
        """Not in functions either, and not for type checkers only: a reader can start at the bottom."""
        order = graphlib.TopologicalSorter(ARROWS)
        assert len(MODULES) == len(list(order.static_order()))

    def test_arrows_point_down(self) -> None:
        """From each floor to those below it, and on a floor only where it says so."""
        height = {floor: number for number, floor in enumerate(FLOORS)}
        up = [
            f"{name} ({floor_of(name)}) -> {other} ({floor_of(other)})"
            for name, others in ARROWS.items()
            for other in others
            if height[floor_of(name)] > height[floor_of(other)]
            or (floor_of(name) == floor_of(other) and floor_of(name) not in NEIGHBOURS_ALLOWED)
        ]
        assert [] == up

    def test_each_floor_is_there(self) -> None:
        """No name in the table is a module that has gone, and all translation is on its two floors."""
        named = {name for names in FLOORS.values() for name in names}
        assert named <= set(MODULES)
        assert {"bridge._translate"} == set(PURE_MODULES) - named

    def test_nothing_is_imported_from_a_test_or_an_extra(self) -> None:
        """At import there is the standard library, asgiref, anyio; sniffio comes with anyio, gevent and wsproto have
        their own try.
        """
        inside = [others for name, others in IMPORTS.items() if not is_door(name)]
        roots = {other.partition(".")[0] for others in inside for other in others}
        assert {"bridge", "asgiref", "anyio", "sniffio", "gevent", "wsproto"} >= roots - sys.stdlib_module_names


class TestThreadsAndLoops:
    @pytest.mark.parametrize("name", list(MODULES))
    def test_threads_are_made_in_one_place_for_each_use(self, name: str) -> None:
        """Worker threads in `_threads`, and the one of the private loop in `_native`, for `_loop`."""
        allowed = THREAD_MAKERS.get(name, set())
        assert set() == references(name) & (WORKER_THREADS | OTHER_WAYS_TO_A_THREAD) - allowed
        assert name in NATIVE_TAKERS or NATIVE_THREAD not in references(name)

    @pytest.mark.parametrize("name", [name for name in MODULES if name not in LOOP_MAKERS])
    def test_loops_are_made_in_one_place(self, name: str) -> None:
        """In `_loop`; everywhere else a loop is one that runs already."""
        runs = {
            (node.value.id, node.attr)
            for node in ast.walk(MODULES[name])
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        }
        assert set() == references(name) & LOOPS
        assert set() == runs & RUN

    def test_the_makers_make(self) -> None:
        """The two tests above look for the right words."""
        assert THREAD_MAKERS == {name: references(name) & WORKER_THREADS for name in THREAD_MAKERS}
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

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("bridge._concurrency.pool", ("environ", "start_response", "wsgi", "http", "chunk", "scope")),
            ("bridge._concurrency.private_loop", ("scope", "receive", "send", "asgi", "http", "lifespan")),
        ],
    )
    def test_the_engines_know_no_word_of_what_they_run(self, name: str, words: tuple[str, ...]) -> None:
        """Threads know nothing of WSGI, the loop nothing of ASGI: neither in names nor in strings."""
        tokens = {token.lower() for token in re.findall(r"[A-Za-z_]+", path_of(name).read_text(encoding="utf-8"))}
        assert set() == tokens & set(words)


class TestBudgets:
    @pytest.mark.parametrize("name", list(MODULES))
    def test_a_module_has_one_job(self, name: str) -> None:
        """One that is longer has two."""
        lines = path_of(name).read_text(encoding="utf-8").count("\n")
        assert lines <= MODULE_LINES

    @pytest.mark.parametrize("name", list(MODULES))
    def test_a_function_fits_on_a_screen(self, name: str) -> None:
        """Without its docstring."""
        longer = [(function.name, length_of(function)) for function in functions_of(name)]
        assert [] == [(function, lines) for function, lines in longer if lines > FUNCTION_LINES]

    @pytest.mark.parametrize("name", FLOORS["the adapters"])
    def test_an_adapter_reads_as_the_steps_of_the_trip(self, name: str) -> None:
        """`__call__` is short, and encodes and decodes nothing: that is translation."""
        calls = [length_of(function) for function in functions_of(name) if function.name == "__call__"]
        assert calls
        assert max(calls) <= CALL_LINES
        assert set() == references(name) & {"encode", "decode"}

    def test_type_checkers_are_seldom_silenced(self) -> None:
        """Each time with the code of what is ignored."""
        found = [
            (name, code)
            for name in MODULES
            for code in re.findall(r"# type: ignore(\S*)", path_of(name).read_text(encoding="utf-8"))
        ]
        assert [] == [(name, code) for name, code in found if not re.fullmatch(r"\[[a-z-]+(,[a-z-]+)*\]", code)]
        assert len(found) <= TYPE_IGNORES


class TestFace:
    def test_its_names_are_the_documented_ones(self) -> None:
        """And no others, but the public modules."""
        assert sorted(DOCUMENTED) == sorted(bridge.__all__)
        public = {name for name, value in vars(bridge).items() if not name.startswith("_")}
        assert set(DOCUMENTED) == {name for name in public if not isinstance(getattr(bridge, name), ModuleType)}
        modules = {f"bridge.{name}" for name in public if isinstance(getattr(bridge, name), ModuleType)}
        assert modules <= {"bridge.errors", *PUBLIC_MODULES, *DOORS}

    def test_the_errors_are_on_it(self) -> None:
        """Each of them, under the same name."""
        assert {getattr(errors, name) for name in errors.__all__} <= {getattr(bridge, name) for name in bridge.__all__}

    def test_only_the_face_and_the_errors_say_all(self) -> None:
        """Everything else is private by its underscore."""
        saying = {
            name
            for name, tree in MODULES.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and node.id == "__all__"
        }
        assert {"bridge", "bridge.errors", "bridge.gunicorn", *DOORS} == saying

    def test_every_other_module_is_private(self) -> None:
        """A public one has to be meant."""
        private = {name for name in MODULES if any(part.startswith("_") for part in name.split("."))}
        # Django finds these two by their names.
        known = {name for name in MODULES if name.startswith(("bridge.django.apps", "bridge.django.management"))}
        assert {"bridge", "bridge.errors", *DOORS, *PUBLIC_MODULES} == set(MODULES) - private - known

    @pytest.mark.parametrize("name", DOCUMENTED)
    def test_what_is_public_says_what_it_is_for(self, name: str) -> None:
        """Classes, methods and properties."""
        public = getattr(bridge, name)
        members = [value for key, value in vars(public).items() if not key.startswith("_") and not _is_data(value)]
        assert [] == [member for member in [public, *members] if not inspect.getdoc(member)]

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
        assert set() == elsewhere - SIGNALS


# Modules that are a part of something, and where that is tested.
WHOLES = {
    "_asgi_to_wsgi.adapter": "adapters/asgi_to_wsgi",
    "_asgi_to_wsgi.responder": "adapters/asgi_to_wsgi",
    "_asgi_to_wsgi.websocket": "adapters/asgi_to_wsgi/test_websocket.py",
    "_asgi_to_wsgi.app_runner": "unit/asgi_to_wsgi/test_app_runner.py",
    "_asgi_to_wsgi.task": "unit/asgi_to_wsgi/test_task.py",
    "_check.client": "unit/check/test_probe.py",
    "_check.findings": "unit/check/test_probe.py",
    "_check.requests": "unit/check/test_probe.py",
    "_concurrency.calls": "unit/concurrency/test_calls.py",
    "_concurrency.calls": "unit/concurrency/test_calls.py",
    "_concurrency.jobs": "unit/concurrency/test_pool.py",
    "_concurrency.server_thread": "adapters/test_nested_wsgi_apps.py",
    "_wsgi_to_asgi.adapter": "adapters/wsgi_to_asgi",
    "_wsgi_to_asgi.cycle": "adapters/wsgi_to_asgi",
    "_wsgi_to_asgi.responder": "unit/wsgi_to_asgi/test_responder.py",
    "_wsgi_to_asgi.loop_response": "unit/wsgi_to_asgi/test_loop_response.py",
    "_wsgi_to_asgi.refusals": "adapters/wsgi_to_asgi/test_refusals.py",
    "cli._served": "unit/cli/test_serve.py",
    "cli._servers": "unit/cli/test_serve.py",
    "django._bridge": "unit/django/test_middleware.py",
    "django._hops": "unit/django/test_middleware.py",
    "django._streams": "unit/django/test_middleware.py",
}


class TestMirror:
    @pytest.mark.parametrize("name", [name for name in MODULES if not path_of(name).name.startswith("__")])
    def test_each_module_has_its_test_module(self, name: str) -> None:
        """The same name without the underscores, in the same place below `unit`; a part has that of its whole."""
        name = name.removeprefix("bridge.")
        *packages, module = (part.lstrip("_") for part in name.split("."))
        mirror = TESTS / (WHOLES.get(name) or "/".join(["unit", *packages, f"test_{module}.py"]))
        assert mirror.exists(), f"{mirror.relative_to(ROOT)} is missing"

    def test_no_test_module_of_translation_has_lost_its_module(self) -> None:
        """The other way round: a test file is named after something that is there."""
        arrows = {f"test_{path.stem}" for path in (SOURCE / "bridge" / "_translate").glob("[a-z]*.py")}
        assert set() == {path.stem for path in (TESTS / "unit" / "translate").glob("test_*.py")} - arrows

    def test_no_file_of_the_tests_is_too_long_or_imports_from_a_test(self) -> None:
        """What tests share is in `support`."""
        texts = {str(path.relative_to(TESTS)): path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py")}
        assert [] == [name for name, text in texts.items() if text.count("\n") > TEST_LINES]
        pattern = re.compile(r"^\s*(?:from|import) (?:\S+\.)?test_(?!sqlite )", re.MULTILINE)  # that one is Django's
        assert [] == [name for name, text in texts.items() if pattern.search(text)]


def test_each_module_is_listed_on_its_floor() -> None:
    """The last table of the page about the inside has every module, on its floor."""
    listed, floor = {}, ""
    for row in rows(section((ROOT / "docs" / "how_it_works.md").read_text(encoding="utf-8"), "## Module by module")):
        floor = row[0].strip("| ") or floor
        name = row[1].strip("`").removesuffix(".py").replace("/", ".")
        listed[f"bridge.{name}".removesuffix(".__init__")] = floor

    modules = set(MODULES) - {"bridge._translate", "bridge._cli", "bridge._check"}
    assert {name: floor_of(name) for name in modules} == listed


def _reachable(name: str) -> set[str]:
    found: set[str] = set()
    left = {name}
    while left:
        found |= left
        left = set().union(*(ARROWS[one] for one in left)) - found
    return found


def _is_data(value: object) -> bool:
    """Whether a member of a class is no method or property (a slot's descriptor, a constant)."""
    return not (inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod))


def _is_exception(base: ast.expr) -> bool:
    name = base.id if isinstance(base, ast.Name) else base.attr if isinstance(base, ast.Attribute) else ""
    return name.endswith(("Error", "Exception", "Failed", "Gone", "Disconnected", "Warning"))
