# Runs one attempt in its own folder, which is the working directory. What it leaves there is read by whichever manager
# is there at its end: started (a folder: of two tries to begin one attempt one makes it), pid, output, errors, exit.
# Arguments: tail size in bytes, memory limit in KiB or "unlimited", the command.
tail_bytes=$1 memory_kib=$2
shift 2
mkdir started 2>/dev/null || exit 0
read -r stat </proc/$$/stat
echo "$$ ${stat##*)}" >pid.new && mv pid.new pid
ulimit -c 0
ulimit -v "$memory_kib" || exit 125
# A handler, unlike an ignored signal, is not inherited by the command: SIGTERM ends it, and we write down how.
trap : TERM
{
    {
        trap : TERM
        "$@" 3>&- </dev/null
        echo $? >exit.new
    } 2>&1 >&3 | (trap '' TERM; exec tail -c "$tail_bytes" 3>&- >errors)
} 3>&1 | (trap '' TERM; exec tail -c "$tail_bytes" >output)
mv exit.new exit
