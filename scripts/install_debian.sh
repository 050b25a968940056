#!/bin/sh
# Installs Debian packages: as root it does so, and says what; for anybody else it prints the line to type and fails.
#
#   scripts/install_debian.sh PACKAGE...
set -eu

if ! command -v apt-get >/dev/null; then
    echo "This needs what Debian packages as: $*. There is no apt-get here, so please install it your system's way." >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "This needs Debian packages that only root can install. Please type:" >&2
    echo "    sudo apt-get install --no-install-recommends $*" >&2
    exit 1
fi
echo "== installing from Debian: $*"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@"
