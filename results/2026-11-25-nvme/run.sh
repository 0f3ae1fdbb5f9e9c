#!/usr/bin/env bash
# Takes the figures of this folder anew: `run.sh FOLDER [KERNEL [OPTIONS of pollux bench compare]]`. Needs a release build.
set -euo pipefail
out=$(realpath --canonicalize-missing "${1:?usage: run.sh FOLDER [KERNEL [OPTIONS]]}")
kernel=${2-6.12}
more=("${@:3}")
if ((${#more[@]} == 0)); then
    more=(--ramp-time 0.5 --runtime 2)
fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
mkdir -p "$out"

# In the guest: $1 and $2 are the controllers for the kernel's driver and for VFIO, the rest is for the comparison.
# Servers are written with $node, $ng and $vfio.
guest='
    devices=/sys/bus/pci/devices kernel=$1 vfio=$2
    shift 2
    modprobe -a vfio-pci vfio_iommu_type1
    until nvme=$(ls $devices/$kernel/nvme 2>/dev/null) && [ -b /dev/${nvme}n1 ]; do sleep 0.1; done
    sleep 2
    for node in /dev/${nvme}n*; do
        [ "$(cat /sys/block/${node#/dev/}/queue/logical_block_size)" = 512 ] && break
    done
    ng=/dev/ng${node#/dev/nvme}
    echo $vfio >$devices/$vfio/driver/unbind
    echo vfio-pci >$devices/$vfio/driver_override
    echo $vfio >/sys/bus/pci/drivers_probe
    eval "servers=\"$SERVERS\""
    exec pollux bench compare --json --servers "$servers" "$@"'

raw='raw:label=block:node=$node,raw:label=poll:node=$node:hipri,raw:label=ng:node=$ng:engine=io_uring_cmd:hipri'
vfio='pollux:label=vfio:backend=nvme-vfio,pci=$vfio:umem=anon'
pollux='pollux:label=block:backend=block,path=$node:umem=anon,pollux:label=nvme:backend=nvme,path=$node:umem=anon'
pollux+=',pollux:label=ng:backend=nvme,path=$ng:umem=anon,'$vfio
delay='pollux,pollux:label=delay60:backend=delay,latency=60us:null,size=8G,fill=off'
qemu='qemu:label=host:blockdev=driver=host_device,filename=$node,aio=io_uring,cache.direct=on'
qemu_vfio='qemu:label=vfio:blockdev=driver=nvme,device=$vfio,namespace=1'

# compare FILE SERVERS CONTROLLER CONTROLLER [OPTIONS of pollux vm run] -- OPTIONS of pollux bench compare
compare() {
    local file=$1 servers=$2 controllers=("$3" "$4") machine=()
    shift 4
    while [[ $1 != -- ]]; do
        machine+=("$1")
        shift
    done
    shift
    "${CARGO_TARGET_DIR:-target}/release/pollux" vm run --kernel "$kernel" --nvme 2 --module nvme=poll_queues=2 \
        --timeout 1500 --env "SERVERS=$servers" "${machine[@]}" -- \
        sh -ec "$guest" sh "${controllers[@]}" "$@" "${more[@]}" >"$out/$file"
}

# Controllers that do 15,000 requests a second and no more.
limited=()
for slot in 12 13; do
    for argument in -object "throttle-group,id=limit$slot,x-iops-total=15000" \
        -blockdev "driver=null-co,node-name=null$slot,size=8589934592,read-zeroes=on" \
        -blockdev "driver=throttle,node-name=disk$slot,throttle-group=limit$slot,file=null$slot" \
        -device "nvme,id=limited$slot,serial=limited$slot,addr=0x$slot" \
        -device "nvme-ns,bus=limited$slot,drive=disk$slot,nsid=1,logical_block_size=512"; do
        limited+=(--qemu-arg "$argument")
    done
done

first=0000:00:10.0 second=0000:00:11.0
compare "main-$kernel.json" "$delay,$raw,$pollux,$qemu" $first $second -- --iodepth 1,32
compare qemu-vfio.json "$vfio,$qemu_vfio" $first $second -- --iodepth 1,32
compare limited.json "$raw,$pollux" 0000:00:12.0 0000:00:13.0 "${limited[@]}" -- --iodepth 32
compare awake.json "$delay,$raw,$pollux" $first $second --append idle=poll -- --iodepth 1
