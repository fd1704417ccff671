#!/usr/bin/env bash
# Removes what install.sh installed. Keeps configuration, credentials, drop-ins of the units, logs and cache, and the user
# they belong to; --purge removes them too. Keys in /etc/credstore belong to the operator and are always kept.
# shellcheck disable=SC2128 # Other shells than bash have no first element.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set -euo pipefail

name=alibabacloud-kms-agent
prefix=/usr/local/$name
unit=/etc/systemd/system/$name.service
socket=/etc/systemd/system/$name.socket

refuse() {
    printf 'uninstall.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

purge=no
case $#:${1:-} in
0:) ;;
1:--purge) purge=yes ;;
*) refuse "usage: sudo bash uninstall.sh [--purge]" 2 ;;
esac
[ "$EUID" -eq 0 ] || refuse "must be run as root: sudo bash uninstall.sh"

for installed in "$socket" "$unit"; do
    if [ -e "$installed" ]; then
        systemctl disable --quiet --now "${installed##*/}"
    fi
done
rm --recursive --force "$unit" "$socket" "$prefix" /run/kmstoken
# Only files of install.sh; other drop-ins belong to the operator.
rm --force "$unit.d/user.conf" "$socket.d/port.conf"
for folder in "$unit.d" "$socket.d"; do
    rmdir --ignore-fail-on-non-empty "$folder" 2>/dev/null || true # it does not exist
done
if [ "$(readlink "/usr/local/bin/$name")" = "$prefix/$name" ]; then
    rm "/usr/local/bin/$name"
fi
systemctl daemon-reload
systemctl reset-failed "$name.service" "$name.socket" 2>/dev/null || true # they have not failed

if [ "$purge" = yes ]; then
    rm --recursive --force "$unit.d" "$socket.d" "/etc/${name:?}" "/var/lib/${name:?}" "/var/log/${name:?}"
    ! getent passwd kmsagent >/dev/null || userdel kmsagent
    ! getent group kmsagent >/dev/null || groupdel kmsagent
    ! getent group kmstoken >/dev/null || groupdel kmstoken
fi
