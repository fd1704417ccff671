#!/usr/bin/env bash
# Removes what install.sh installed. Config, credentials, logs and cache stay, and the user they belong to;
# with --purge they go too.
set -euo pipefail

name=alibabacloud-kms-agent
prefix=/usr/local/$name
unit=/etc/systemd/system/$name.service

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

if [ -e "$unit" ]; then
    systemctl disable --quiet --now "$name"
fi
rm --recursive --force "$unit" "$unit.d" "$prefix" /run/kmstoken
if [ "$(readlink "/usr/local/bin/$name")" = "$prefix/$name" ]; then
    rm "/usr/local/bin/$name"
fi
systemctl daemon-reload
systemctl reset-failed "$name" 2>/dev/null || true # it has not failed

if [ "$purge" = yes ]; then
    rm --recursive --force "/etc/${name:?}" "/var/lib/${name:?}" "/var/log/${name:?}"
    ! getent passwd kmsagent >/dev/null || userdel kmsagent
    ! getent group kmsagent >/dev/null || groupdel kmsagent
    ! getent group kmstoken >/dev/null || groupdel kmstoken
fi
