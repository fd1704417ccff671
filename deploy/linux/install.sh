#!/usr/bin/env bash
# Installs alibabacloud-kms-agent as a systemd service, or upgrades it in place. The script reads no secret, so
# `sudo bash -x install.sh` shows none.
# shellcheck disable=SC2128 # Other shells than bash have no first element.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=alibabacloud-kms-agent
prefix=/usr/local/$name
etc=/etc/$name
units=/etc/systemd/system
unit=$units/$name.service
socket=$units/$name.socket

usage() {
    cat <<USAGE
Usage: sudo bash install.sh [--binary FILE] [--config FILE] [--user USER] [--no-start]

  --binary FILE  the program; default: $name beside this script
  --config FILE  the initial configuration; default: config.toml beside this script.
                 An installed $etc/config.toml is never overwritten
  --user USER    run the agent as USER, the application's own user. Default: the user kmsagent, and the
                 application's user joins the group kmstoken
  --no-start     install only

ALIBABA_CLOUD_… variables and KMS_TOKEN that are exported here reach the service: they are added to
$etc/environment, unless it has them already.
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

# All checks run before anything is changed.
[ "$EUID" -eq 0 ] || refuse "must be run as root: sudo bash install.sh"
[ -d /run/systemd/system ] || refuse "systemd does not run on this machine"
case $(dpkg-query --show --showformat '${db:Status-Abbrev}' "$name" 2>/dev/null || true) in
ii*) refuse "the Debian package $name is installed: upgrade it with apt-get, or remove it first" ;;
esac
[ -f "$binary" ] || refuse "no program at $binary: copy it there, or name it with --binary"
"$binary" --version >/dev/null || refuse "$binary does not run on this machine"
[ ! -e "$etc/config.toml" ] || config=$etc/config.toml
[ -f "$config" ] || refuse "no config at $config: name one with --config"
"$binary" check --offline "$config" || refuse "fix $config first"
# Keeps a User= that was edited in the installed unit, as the official guide does it.
if [ -z "$user" ] && [ -f "$unit" ] && [ ! -e "$unit.d/user.conf" ]; then
    user=$(sed --quiet 's/^User=//p' "$unit" | tail --lines 1)
    if [ "$user" = kmsagent ]; then user=''; fi
fi
if [ -n "$user" ] && [ "$user" != kmsagent ]; then
    uid=$(id -u "$user") || refuse "there is no user $user"
    [ "$uid" -ne 0 ] || refuse "--user cannot be root; root can read the token of any user"
fi

port=$(sed --quiet 's/^[[:space:]]*HttpPort[[:space:]]*=[[:space:]]*\([0-9]*\).*/\1/p' "$config" | tail --lines 1)
port=${port:-2025}

getent group kmstoken >/dev/null || groupadd --system kmstoken
getent passwd kmsagent >/dev/null || useradd --system --user-group --no-create-home --home-dir /nonexistent \
    --shell /usr/sbin/nologin --comment "Alibaba Cloud KMS agent" kmsagent

# put FILE MODE GROUP TARGET: replaces TARGET by a rename, so that no process sees an incomplete file.
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
put "$here/$name.socket" 0644 root "$socket"

# add_exported: adds exported variables of the official guide to the service's environment file, unless it has them. awk
# reads them from the environment, so that no value is on a command line or in a trace.
# shellcheck disable=SC2016 # The $ are awk's.
add_exported() {
    awk -v file="$etc/environment" '
        BEGIN {
            while ((getline line < file) > 0) {
                sub(/=.*/, "", line)
                known[line] = 1
            }
            for (variable in ENVIRON) {
                if (variable !~ /^(ALIBABA_CLOUD_[A-Z0-9_]+|KMS_TOKEN)$/ || variable in known) continue
                value = ENVIRON[variable]
                if (value == "" || value ~ /\n/) continue
                if (variable == "KMS_TOKEN" && value ~ /^["\047]?file:\/\/(\/var)?\/run\/kmstoken["\047]?$/) continue
                gsub(/[\\"$`]/, "\\\\&", value)
                printf "\n%s=\"%s\"\n", variable, value >> file
                print "  " variable
            }
        }'
}
added=$(add_exported)

case $user in
'') ;; # unchanged
kmsagent) rm --force "$unit.d/user.conf" ;;
*)
    # Each upgrade replaces the unit itself.
    install --directory --mode 0755 "$unit.d"
    printf '[Service]\nUser=%s\n' "$user" >"$unit.d/user.conf"
    ;;
esac

# systemd holds the configured port. The unit itself has port 2025.
if [ "$port" -eq 2025 ] || [ "$port" -eq 0 ]; then
    rm --force "$socket.d/port.conf"
else
    install --directory --mode 0755 "$socket.d"
    printf '[Socket]\nListenStream=\nListenStream=127.0.0.1:%s\nListenStream=[::1]:%s\n' "$port" "$port" \
        >"$socket.d/port.conf"
fi

systemctl daemon-reload
systemctl enable --quiet "$name.service" "$name.socket"
# holds_port: tells whether systemd holds the port already, and so keeps it while the agent restarts.
holds_port() {
    systemctl is-active --quiet "$name.socket" &&
        systemctl show --value --property Listen "$name.socket" | grep --quiet --fixed-strings "127.0.0.1:$port "
}
if [ "$start" = yes ]; then
    if ! holds_port; then
        systemctl stop "$name.socket" "$name.service"
        # If another program holds the port, the agent reports it.
        systemctl start "$name.socket" || true
    fi
    systemctl restart "$name.service" || refuse "the agent does not start; for the reason run: journalctl --unit $name"
fi

cat <<DONE
Installed: $("$prefix/$name" --version)
  config       $etc/config.toml
  credentials  $etc/environment (not needed with a RAM role)
  port         $port
  token        /var/run/kmstoken; let an application's user read it: usermod --append --groups kmstoken USER
DONE
if [ -n "$added" ]; then
    printf 'Added to %s/environment, from the variables exported here:\n%s\n' "$etc" "$added"
fi
if [ -n "$user" ]; then
    printf 'The agent runs as %s (%s.d/user.conf).\n' "$user" "$unit"
fi
