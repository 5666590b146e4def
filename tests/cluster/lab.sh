#!/usr/bin/env bash
# lab.sh VENV SHARED: three hosts and an operator on this machine, as long as standard input stays open. Needs root.
#
# Everything lives in mount, PID and network namespaces of its own: nothing outside can see it, and all of it ends with this
# process. A host is an address of 10.77.0.0/24 with its own processes, home, shared memory, /tmp/ray and an sshd that takes keys
# only; VENV is its ~/fkp/.venv, read only, and SHARED its /mnt/shared, as an NFS share would be. The operator is this process's own
# network namespace, 10.77.0.254. Lines read: "stop N" cuts host N's power, "start N" gives it back. Lines written: "ready",
# "stopped N", "started N".
set -euo pipefail
venv=$1 shared=$2 here=$(realpath "$0")
hosts=(1 2 3)

move_home() {  # ssh and sshd ask /etc/passwd and not HOME.
    sed "s#^root:.*#root:x:0:0:root:$1:/bin/bash#" /etc/passwd > "$1/passwd"
    mount --bind "$1/passwd" /etc/passwd
}

# --- a host, already in its namespaces -------------------------------------------------------------------------------------
if [ "${3:-}" = host ]; then
    n=$4 home=/mnt/home$4
    hostname "host$n"
    mkdir -p /mnt/tmp"$n" /tmp/ray
    mount --bind /mnt/tmp"$n" /tmp/ray
    mount -t tmpfs -o size=1g tmpfs /dev/shm
    for other in /mnt/operator "${hosts[@]/#//mnt/home}"; do  # Another machine's disk cannot be seen.
        [ "$other" = "$home" ] || mount -t tmpfs tmpfs "$other"
    done
    move_home "$home"
    exec /usr/sbin/sshd -D -e -f /mnt/sshd_config -h /mnt/host_key -o PidFile=none 2>> "/mnt/sshd$n.log"
fi

# --- the lab, in its namespaces ---------------------------------------------------------------------------------------------
if [ "${3:-}" = lab ]; then
    mount --make-rprivate /
    mkdir -p /mnt
    mount -t tmpfs tmpfs /mnt
    mount -t tmpfs tmpfs /run
    mkdir -p /run/sshd /run/netns /mnt/shared /mnt/operator/.ssh /mnt/operator/tmp "${hosts[@]/#//mnt/home}"
    mount --bind "$shared" /mnt/shared
    move_home /mnt/operator
    ip link set lo up
    ip link add br0 type bridge
    ip addr add 10.77.0.254/24 dev br0
    ip link set br0 up
    ssh-keygen -q -t ed25519 -N '' -f /mnt/host_key
    ssh-keygen -q -t ed25519 -N '' -f /mnt/operator/.ssh/id_ed25519
    cat > /mnt/sshd_config <<END
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
MaxStartups 100
Subsystem sftp internal-sftp
END
    wanted=$(cd "$(dirname "$here")/../.." && cat requirements.txt constraints.txt | sha256sum | cut -d' ' -f1)
    declare -A running
    start() {
        ip netns exec "h$1" env -i PATH="$PATH" HOME="/mnt/home$1" USER=root \
            unshare --mount --pid --ipc --uts --fork --kill-child --mount-proc "$here" "$venv" "$shared" host "$1" < /dev/null &
        running[$1]=$!
        until (exec 3<>"/dev/tcp/10.77.0.$1/22") 2>/dev/null; do sleep 0.1; done
    }
    for n in "${hosts[@]}"; do
        ip netns add "h$n"
        ip link add "v$n" type veth peer name eth0 netns "h$n"
        ip link set "v$n" master br0 up
        ip -n "h$n" link set lo up
        ip -n "h$n" addr add "10.77.0.$n/24" dev eth0
        ip -n "h$n" link set eth0 up
        ip -n "h$n" route add default via 10.77.0.254
        mkdir -p "/mnt/home$n/.ssh" "/mnt/home$n/fkp/.venv"
        cp /mnt/operator/.ssh/id_ed25519.pub "/mnt/home$n/.ssh/authorized_keys"
        echo "$wanted" > "/mnt/home$n/fkp/.installed"
        echo export FKP_RAY_START=--num-cpus=1 > "/mnt/home$n/.bashrc"  # One worker to a host, whatever this machine has.
        mount --bind "$venv" "/mnt/home$n/fkp/.venv"
        mount -o remount,bind,ro "/mnt/home$n/fkp/.venv"
        start "$n"
    done
    echo "ready"
    while read -r what n; do
        case $what in
        stop) kill -KILL "${running[$n]}"; wait "${running[$n]}" || true; echo "stopped $n" ;;
        start) start "$n"; echo "started $n" ;;
        esac
    done
    exit 0
fi

# --- outside -----------------------------------------------------------------------------------------------------------------
[ "$(id -u)" = 0 ] || { echo "lab.sh needs root" >&2; exit 1; }
exec unshare --mount --pid --ipc --uts --net --fork --kill-child --mount-proc "$here" "$venv" "$shared" lab
