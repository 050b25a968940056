#!/bin/sh
# Makes ready what Apache httpd needs to serve with mod_wsgi, and prints the directory of a virtual environment for it.
#
#   scripts/apache.sh [PIP-ARGUMENT...]
#   venv=$(scripts/apache.sh -r examples/django_sync/requirements.txt)
#   "$venv/bin/mod_wsgi-express" module-config        # LoadModule and WSGIPythonHome, for a configuration of your own
#   "$venv/bin/mod_wsgi-express" start-server app.wsgi --host 127.0.0.1 --port 8000   # or all of it in one command
#
# 1. The Debian packages apache2, apache2-dev, python3-venv, python3-dev and gcc, where one is missing: as root they are
#    installed, for anybody else the line to type is printed and this fails.
# 2. A virtual environment with mod_wsgi, this checkout's library (a copy: run this again after a change) and whatever
#    the arguments, which are pip's, name. Says so on stderr; does nothing when that was done before.
# 3. A check that the user whom Apache serves as can import all of that.
#
# Apache that root starts serves as www-data, which can read neither the home directory of root nor what a Python there
# was installed into; its processes then do not start, and requests hang. So the virtual environment is made with the
# system's own Python in /var/tmp, one for each checkout, and no home directory is opened for anybody. To choose:
#
# Everything is in that directory, and beside it a lock; `scripts/apache.sh --remove` takes both away (so does make clean).
#
#   BRIDGE_APACHE_VENV     the directory of the virtual environment; it and all above it must be readable for that user
#   BRIDGE_APACHE_PYTHON   the interpreter, 3.11 or newer (/usr/bin/python3)
#   BRIDGE_APACHE_USER     whom Apache serves as (www-data where root runs this, else who runs it)
set -eu
umask 022

cd "$(dirname "$0")/.."
root=$(pwd -P)
python=${BRIDGE_APACHE_PYTHON:-/usr/bin/python3}
venv=${BRIDGE_APACHE_VENV:-/var/tmp/bridge-apache-$(printf %s "$root" | cksum | cut -d ' ' -f 1)}

say() {
    echo "$*" >&2
}

fail() {
    say "apache.sh: $*"
    exit 1
}

if [ "${1:-}" = --remove ]; then
    rm -rf "$venv" "$venv.lock"
    exit
fi

# One at a time: two at once would spoil the environment for each other.
if [ "${BRIDGE_APACHE_LOCKED:-}" != "$venv" ]; then
    exec env BRIDGE_APACHE_LOCKED="$venv" flock "$venv.lock" "$0" "$@"
fi

missing=
[ -x /usr/sbin/apache2 ] || missing="$missing apache2"
[ -x /usr/bin/apxs ] || missing="$missing apache2-dev"
command -v gcc >/dev/null || missing="$missing gcc"
if [ "$python" = /usr/bin/python3 ]; then
    [ -x "$python" ] && "$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
    [ -x /usr/bin/python3-config ] || missing="$missing python3-dev"
fi
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086  # words
    scripts/install_debian.sh $missing >&2
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "\"$python\" is not Python 3.11 or newer; name one with BRIDGE_APACHE_PYTHON."

if [ -e "$venv" ] && [ ! -O "$venv" ]; then
    fail "$venv belongs to somebody else; name another directory with BRIDGE_APACHE_VENV."
fi
if [ "$("$venv/bin/python" -c 'import sys; print(sys.version)' 2>/dev/null || true)" != \
    "$("$python" -c 'import sys; print(sys.version)')" ]; then
    say "== making $venv with $python, for Apache"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

# The library anew for each change of its files, and before what may require it; mod_wsgi and the arguments' once.
export PIP_DISABLE_PIP_VERSION_CHECK=1
library=$(find src pyproject.toml -type f ! -name '*.pyc' -exec cksum {} + | sort -k 3)
if [ "$(cat "$venv/.library" 2>/dev/null || true)" != "$library" ]; then
    say "== installing into $venv: a copy of the library in $root"
    "$venv/bin/python" -m pip install --quiet . >&2
    printf '%s\n' "$library" >"$venv/.library"
fi
needed=$(printf '%s\n' "mod_wsgi" "$@"; for argument; do if [ -f "$argument" ]; then cksum "$argument"; fi; done)
if ! grep -qxF -- "$(printf %s "$needed" | cksum)" "$venv/.needed" 2>/dev/null; then
    say "== installing into $venv: mod_wsgi $*"
    "$venv/bin/python" -m pip install --quiet --use-pep517 "mod_wsgi>=5" "$@" >&2
    printf '%s\n' "$(printf %s "$needed" | cksum)" >>"$venv/.needed"
fi

probe='import bridge, mod_wsgi'
if [ "$(id -u)" -eq 0 ]; then
    user=${BRIDGE_APACHE_USER:-www-data}
    (cd / && setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups "$venv/bin/python" -c "$probe") >&2 ||
        fail "$user, whom Apache serves as, cannot read $venv or the Python it is made of. Name a directory (BRIDGE_APACHE_VENV) or a Python (BRIDGE_APACHE_PYTHON) that $user can read."
else
    "$venv/bin/python" -c "$probe" >&2 || fail "$venv cannot be used; remove it and run this again."
fi
echo "$venv"
