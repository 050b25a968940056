#!/bin/sh
# Installs Debian packages: as root it does so, and says what; for anybody else it prints the line to type and fails.
#
#   scripts/install_debian.sh PACKAGE...
#
# What comes with a service (apache2, nginx, postgresql) is neither started nor enabled by that: the tests and examples run
# their own, each on a port and in a directory of its own. A service that was there before stays as it was.
#
#   BRIDGE_DEBIAN_ROOT     where the system is, in place of / (for tests)
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
system=${BRIDGE_DEBIAN_ROOT:-}
policy=$system/usr/sbin/policy-rc.d

# Services that start at boot, one a line, as their links say: a unit's name, or that of an init script.
enabled() {
    for directory in "$system"/etc/systemd/system/*.wants "$system"/etc/rc[2-5].d; do
        [ -d "$directory" ] && find "$directory" -name '*.service' -o -name 'S[0-9][0-9]*'
    done | sed -e 's|.*/||' -e 's|^S[0-9][0-9]||' | sort -u
}

before=$(mktemp)
trap 'rm -f "$before"' EXIT
enabled >"$before"
if [ ! -e "$policy" ]; then
    # Packages ask it before they start anything; 101 says that they may not.
    trap 'rm -f "$before" "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@"
enabled | grep -vxFf "$before" | while read -r service; do
    echo "== $service is not to start at boot"
    case $service in
    # It refuses to work unless dpkg calls it, as this variable says.
    *.service) DPKG_MAINTSCRIPT_PACKAGE=$1 deb-systemd-helper disable "$service" >/dev/null ;;
    *) update-rc.d "$service" disable >/dev/null ;;
    esac
done
