#!/usr/bin/env bash
# Installs alibabacloud-kms-agent as a systemd service, or upgrades it in place. Nothing here reads a secret, so that
# `sudo bash -x install.sh` shows none.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=alibabacloud-kms-agent
prefix=/usr/local/$name
etc=/etc/$name
unit=/etc/systemd/system/$name.service

usage() {
    cat <<USAGE
Usage: sudo bash install.sh [--binary FILE] [--config FILE] [--user USER] [--no-start]

  --binary FILE  the program; default: $name beside this script
  --config FILE  the config to begin with; default: config.toml beside this script.
                 An installed $etc/config.toml is never overwritten
  --user USER    run the agent as USER, the application's own user. Default: the user kmsagent, and the
                 application's user joins the group kmstoken
  --no-start     install only
USAGE
}

refuse() {
    printf 'install.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

binary=$here/$name config=$here/config.toml user='' start=yes
while [ $# -gt 0 ]; do
    case $1 in
    --binary | --config | --user)
        [ -n "${2:-}" ] || refuse "$1 needs a value" 2
        case $1 in
        --binary) binary=$2 ;;
        --config) config=$2 ;;
        --user) user=$2 ;;
        esac
        shift 2
        ;;
    --no-start)
        start=no
        shift
        ;;
    --help | -h)
        usage
        exit
        ;;
    *)
        usage >&2
        refuse "unknown argument: $1" 2
        ;;
    esac
done

# Everything that can be refused is refused before anything is changed.
[ "$EUID" -eq 0 ] || refuse "must be run as root: sudo bash install.sh"
[ -d /run/systemd/system ] || refuse "systemd does not run here"
[ -f "$binary" ] || refuse "no program at $binary: copy it there, or name it with --binary"
"$binary" --version >/dev/null || refuse "$binary does not run on this machine"
[ ! -e "$etc/config.toml" ] || config=$etc/config.toml
[ -f "$config" ] || refuse "no config at $config: name one with --config"
"$binary" check --offline "$config" || refuse "$config must be mended first"
if [ -n "$user" ] && [ "$user" != kmsagent ]; then
    uid=$(id -u "$user") || refuse "there is no user $user"
    [ "$uid" -ne 0 ] || refuse "the agent does not run as root; root may read its token anyway"
fi

getent group kmstoken >/dev/null || groupadd --system kmstoken
getent passwd kmsagent >/dev/null || useradd --system --user-group --no-create-home --home-dir /nonexistent \
    --shell /usr/sbin/nologin --comment "Alibaba Cloud KMS agent" kmsagent

# put FILE MODE GROUP TARGET: whoever has TARGET open keeps the old one, and nobody sees half of the new one.
put() {
    install --owner root --group "$3" --mode "$2" "$1" "$4.new"
    mv --force "$4.new" "$4"
}
install --directory --mode 0755 "$prefix" "$etc"
put "$binary" 0755 root "$prefix/$name"
ln --symbolic --force --no-dereference "$prefix/$name" "/usr/local/bin/$name"
[ -e "$etc/config.toml" ] || put "$config" 0640 kmsagent "$etc/config.toml"
[ -e "$etc/environment" ] || put /dev/null 0600 root "$etc/environment"
put "$here/$name.service" 0644 root "$unit"

case $user in
'') ;; # as it was
kmsagent) rm --force "$unit.d/user.conf" ;;
*)
    install --directory --mode 0755 "$unit.d"
    printf '[Service]\nUser=%s\n' "$user" >"$unit.d/user.conf"
    ;;
esac

systemctl daemon-reload
systemctl enable --quiet "$name"
if [ "$start" = yes ]; then
    systemctl restart "$name" || refuse "the agent does not start: journalctl --unit $name tells why"
fi

cat <<DONE
Installed: $("$prefix/$name" --version)
  config       $etc/config.toml
  credentials  $etc/environment (not needed with a RAM role)
  token        /var/run/kmstoken; let an application's user read it: usermod --append --groups kmstoken USER
DONE
