#!/bin/busybox sh
# PID 1 of the guest, or what becomes systemd and is then run by a unit of its, with the argument "command". Sets the
# system up, runs /pollux/command and reports over virtio-serial, or in user-mode Linux over serial lines:
# port 1 its stdout, 2 its stderr, 3 "ready" or "failed REASON", "alive" every 5 s and "exit CODE", 4 /out
# as a tar.
# Each port's data ends with $TOKEN; then the host has all of it and ends the guest.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
export HOME=/root TERM=dumb LANG=C.UTF-8 RUST_BACKTRACE=1

mount_at() { # TYPE FOLDER [OPTIONS]
    mkdir -p "$2"
    busybox mount -t "$1" ${3:+-o "$3"} "$1" "$2" || echo "pollux: no $1 at $2"
}

set_up() {
    mount_at devtmpfs /dev
    mount_at proc /proc
    mount_at sysfs /sys
    mount_at tmpfs /run mode=755
    mount_at tmpfs /tmp mode=1777
    mount_at tmpfs /dev/shm mode=1777
    mount_at devpts /dev/pts
    mount_at debugfs /sys/kernel/debug
    mount_at hugetlbfs /dev/hugepages
    ln -s /proc/self/fd /dev/fd
    ln -s /proc/self/fd/0 /dev/stdin
    ln -s /proc/self/fd/1 /dev/stdout
    ln -s /proc/self/fd/2 /dev/stderr
    ln -s /proc/mounts /etc/mtab
    hostname pollux-vm
    ip link set lo up
    ulimit -n 65536
    echo 30 >/proc/sys/kernel/hung_task_timeout_secs
    echo 1 >/proc/sys/kernel/sysrq

    . /pollux/settings
    trouble=$(modprobe -a $MODULES 2>&1) || trouble="modprobe $MODULES: $trouble"
    mount_at configfs /sys/kernel/config
}

if [ "$1" = command ]; then
    . /pollux/settings
else
    set_up
    if [ -n "$SYSTEMD" ] && [ -z "$trouble" ]; then
        # The environment is the command's, and no service's.
        exec env -i PATH="$PATH" LANG="$LANG" /usr/lib/systemd/systemd --unit=pollux-vm.target
    fi
fi

# Shortly before the host's time limit: what everything is waiting for.
if [ "$LIMIT" -gt 0 ]; then
    {
        sleep "$LIMIT"
        echo "pollux: the time limit is near"
        ps -o pid,stat,args
        echo w >/proc/sysrq-trigger
        echo l >/proc/sysrq-trigger
    } >/dev/console 2>&1 &
fi

while [ ! -e "${PORT}4" ]; do usleep 10000; done
case $PORT in
# A line is a terminal until it is told to pass on bytes as they are.
/dev/tty*) for number in 1 2 3 4; do stty -F "$PORT$number" raw -echo; done ;;
esac
exec 6>"${PORT}3"
if [ -n "$trouble" ]; then
    echo "failed" $trouble >&6
    while :; do sleep 3600; done
fi

# Through pipes: a port can be opened only once, /dev/stderr as often as the command likes.
mkfifo /run/stdout /run/stderr
cat /run/stdout >"${PORT}1" 6>&- &
cat /run/stderr >"${PORT}2" 6>&- &
exec 4>/run/stdout 5>/run/stderr
cd "$HOME"
echo ready >&6
while sleep 5; do echo alive; done >&6 4>&- 5>&- &
sh /pollux/command </dev/null >&4 2>&5 4>&- 5>&- 6>&-
code=$?
cd /
printf %s "$TOKEN" >&4
printf %s "$TOKEN" >&5
if [ -n "$OUT" ]; then
    { tar -C /out -cf - .; printf %s "$TOKEN"; } >"${PORT}4"
fi
printf 'exit %s\n%s' "$code" "$TOKEN" >&6
while :; do sleep 3600; done
