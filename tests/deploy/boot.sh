# Functions for tests that need a whole machine.
# shellcheck shell=bash

# boot NAME: starts a container with systemd and without a network, and waits until it is up.
boot() {
    # Not --privileged: systemd needs only mounts, control groups and other users' processes. It passes credentials to
    # services through shared mounts, which a container does not have by default.
    docker run --detach --name "$1" --network none --tmpfs /run --tmpfs /tmp \
        --cap-add SYS_ADMIN --cap-add SYS_PTRACE --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
        --security-opt systempaths=unconfined --volume /sys/fs/cgroup:/sys/fs/cgroup \
        "$("$(dirname "${BASH_SOURCE[0]}")/base-image")" sh -c 'mount --make-rshared / && exec /sbin/init' >/dev/null
    eventually docker exec "$1" systemctl is-system-running --wait
}

# files NAME: lists all files on its disk, sorted. Some container file systems skip an entry now and then, so two
# listings must agree.
files() {
    local before='' now
    until now=$(list_files "$1") && [ "$now" = "$before" ]; do before=$now; done
    printf '%s\n' "$now"
}
list_files() {
    docker exec "$1" find /etc /home /opt /root /srv /usr /var /run \
        -path /run/systemd -prune -o -path /var/log/journal -prune -o -print | sort
}
