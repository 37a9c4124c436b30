#!/usr/bin/env bash
# Starts a real Slurm of one node, to try sweeps on: munged, slurmctld and slurmd of this machine, with
# all their files in a folder of their own. Run it as root.
#   scripts/slurm_one_node.sh start DIR && export SLURM_CONF=DIR/slurm.conf
#   scripts/slurm_one_node.sh stop DIR
# Debian: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
set -euo pipefail
action=${1:?usage: slurm_one_node.sh start|stop DIR}
dir=${2:?usage: slurm_one_node.sh start|stop DIR}

stop() {
  for name in slurmd slurmctld munged; do
    [ -s "$dir/$name.pid" ] || continue
    pid=$(cat "$dir/$name.pid")
    kill "$pid" 2>/dev/null || continue
    for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true  # slurmd waits for steps that hang
  done
}

start() {
  for program in munged slurmctld slurmd sbatch srun; do
    command -v "$program" >/dev/null || PATH=$PATH:/usr/sbin command -v "$program" >/dev/null ||
      { echo "$program: not installed, wanted Debian's slurmctld slurmd slurm-client munge" >&2; exit 2; }
  done
  export PATH=$PATH:/usr/sbin
  mkdir -p "$dir/state" "$dir/spool"
  dir=$(cd "$dir" && pwd)
  chmod 755 "$dir"
  (umask 077 && head -c 128 /dev/urandom >"$dir/munge.key")
  munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" \
    --pid-file="$dir/munged.pid" --log-file="$dir/munged.log" --seed-file="$dir/munge.seed"
  # no cgroups and no accounts: it has to work in a container
  cat >"$dir/slurm.conf" <<CONF
ClusterName=one_node
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=60
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo) State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  export SLURM_CONF=$dir/slurm.conf
  slurmctld
  slurmd
  for _ in $(seq 60); do
    [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && { sinfo; return; }
    sleep 0.5
  done
  tail -n 20 "$dir/slurmctld.log" "$dir/slurmd.log" >&2
  stop
  exit 1
}

case $action in
start) start ;;
stop) stop ;;
*) echo "found $action, wanted start or stop" >&2; exit 2 ;;
esac
