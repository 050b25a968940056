#!/bin/sh
# Makes .venv, if it is not there, and installs what one verb of the Makefile needs; says what it does, and does nothing
# when that was done before. What "django6" needs has a virtual environment of its own, .venv-django6, with the newest
# Django 6, or with what DJANGO says, as in DJANGO="==6.0.*"; and "agents" has .venv-agents, since agents change what
# they find installed.
#
# "docs" also puts Mermaid, which draws the diagrams of the site, into .cache/site.
#
#   scripts/setup.sh PYTHON example|example-async|mixed|test|hosts|servers|check|bench|dist|docs|fuzz|pythons|django6|agents
set -eu

python=$1
what=$2
django=
cd "$(dirname "$0")/.."
venv=.venv

case $what in
example) set -- -r examples/django_sync/requirements.txt ;;
example-async) set -- -r examples/django_async/requirements.txt ;;
mixed) set -- -r examples/mixed/requirements.txt ;;
test | hosts | check | bench | dist | docs | fuzz | pythons) set -- --group "$what" ;;
django6)
    venv=.venv-django6
    django=django${DJANGO:->=6.0,<7.0}
    set -- --group test
    ;;
agents)
    venv=.venv-agents
    set -- --group "$what"
    ;;
servers)
    set -- --group "$what"
    missing=
    [ -x /usr/sbin/nginx ] || missing="$missing nginx-core"
    [ -x /usr/bin/uwsgi-core ] || missing="$missing uwsgi-core"
    [ -e /usr/lib/uwsgi/plugins/python3_plugin.so ] || missing="$missing uwsgi-plugin-python3"
    [ -e /usr/include/ev.h ] || missing="$missing libev-dev"
    command -v openssl >/dev/null || missing="$missing openssl"
    command -v gcc >/dev/null || missing="$missing gcc"
    # shellcheck disable=SC2086  # words
    [ -z "$missing" ] || scripts/install_debian.sh $missing
    scripts/apache.sh >/dev/null
    ;;
*)
    echo "setup.sh: $what is none of example, example-async, mixed, test, hosts, servers, check, bench, dist, docs, fuzz, pythons, django6, agents" >&2
    exit 2
    ;;
esac

venv_python=$venv/bin/python

# Version and home of an interpreter; the same for an interpreter and for a virtual environment made of it.
identity() {
    "$1" -c 'import sys; print("%d.%d.%d %s" % (sys.version_info[:3] + (getattr(sys, "base_prefix", sys.prefix),)))' 2>/dev/null
}

if ! wanted=$(identity "$python"); then
    echo "There is no Python at \"$python\": name one of version 3.11 or newer, as in PYTHON=python3.12." >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "bridge needs Python 3.11 or newer, and \"$python\" is ${wanted%% *}: name another, as in PYTHON=python3.12." >&2
    exit 1
fi

if [ -d $venv ] && [ "$(identity $venv_python || true)" != "$wanted" ]; then
    echo "== $venv is not of Python ${wanted%% *}: making it anew"
    rm -rf $venv
fi
if [ ! -d $venv ]; then
    echo "== making $venv with Python ${wanted%% *}"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=${wanted%% *}
        scripts/install_debian.sh "python${version%.*}-venv"
    fi
    "$python" -m venv $venv || {
        rm -rf $venv
        exit 1
    }
fi

# Of its package the site needs one file; npm would install all that this file is made from.
mermaid=11.17.2
if [ "$what" = docs ] && [ "$(cat .cache/site/version 2>/dev/null || true)" != "$mermaid" ]; then
    echo "== fetching Mermaid $mermaid into .cache/site"
    command -v npm >/dev/null || scripts/install_debian.sh npm
    rm -rf .cache/site
    mkdir -p .cache/site
    (
        cd .cache/site
        npm pack --silent "mermaid@$mermaid" >/dev/null
        tar -xzOf "mermaid-$mermaid.tgz" package/dist/mermaid.min.js >mermaid.min.js
        rm "mermaid-$mermaid.tgz"
    )
    printf '%s\n' "$mermaid" >.cache/site/version
fi

# What was installed, and where: an editable install does not survive a moved directory.
stamp=$venv/.installed-$what
state=$(cksum pyproject.toml examples/*/requirements.txt; pwd; echo "$django")
if [ "$(cat "$stamp" 2>/dev/null || true)" = "$state" ]; then
    exit 0
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1
# Dependency groups came with pip 25.1.
if ! $venv_python -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (25, 1))'; then
    echo "== upgrading pip in $venv"
    $venv_python -m pip install --quiet --upgrade "pip>=25.1"
fi
echo "== installing bridge and what \"$what\" needs into $venv (pip install -e . $*)"
$venv_python -m pip install --quiet --editable . "$@"
if [ -n "$django" ]; then
    # In a second go: the group names the version that all other tests are run with.
    echo "== installing the newest $django into $venv"
    $venv_python -m pip install --quiet --upgrade "$django"
fi
printf '%s\n' "$state" >"$stamp"
