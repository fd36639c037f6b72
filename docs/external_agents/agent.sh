#!/usr/bin/env bash
# An agent outside of the database, in shell: takes tasks with psql, has a command do them, and gives back what it says.
#
#   agent.sh NAME@VERSION COMMAND…
#
# The command is given a task's inputs, a JSON object, on its standard input, and the task's id and the attempt in TASK and ATTEMPT. It
# prints the output, a JSON object on one line, and ends with 0; with 75 if trying again may help; with any other status if not.
# It may be asked the same twice: the id is the same on every attempt, so it is the key to recognise it by.
#
# Connect as the agent's owner, by the variables of libpq (PGHOST, PGDATABASE, PGUSER, …). Ends on SIGTERM or SIGINT: it finishes
# nothing more and gives its tasks back. What it is killed with is somebody else's when the lease is over.
#
#   LEASE=60  seconds without a heartbeat after which others get a task     BATCH=10  tasks that it takes at a time
#   POLL=1    seconds between two looks when there is nothing to do         HOLDER=$(hostname)-$$  which of several it is
set -euo pipefail

agent=$1
shift
lease=${LEASE:-60}
batch=${BATCH:-10}
poll=${POLL:-1}
holder=${HOLDER:-$(hostname)-$$}
stopping=
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
trap 'stopping=1; [ ! -e "$files/work" ] || kill "$(cat "$files/work")" 2>/dev/null || true' TERM INT

say() { echo "agent.sh: $*" >&2; }

# Runs the statement on standard input; variables as name=value behind it. In $error is the SQLSTATE of an error, or psql's own words.
error=
sql() {
	local variables=()
	for variable in "$@"; do variables+=(-v "$variable"); done
	error=
	if ! psql -XqAt -F $'\t' -v ON_ERROR_STOP=1 -v VERBOSITY=sqlstate "${variables[@]}" >"$files/rows" 2>"$files/error" </dev/stdin; then
		error=$(sed -n 's/^.*ERROR:  \([0-9A-Z]\{5\}\)$/\1/p' "$files/error" | tail -n 1)
		error=${error:-$(tail -n 1 "$files/error")}
		return 1
	fi
}

# Keeps all tasks in hand. Those that are not ours any more are let go of.
declare -A tokens=() attempts=() inputs=()
heartbeat() {
	local task
	for task in "${!tokens[@]}"; do
		sql "task=$task" "token=${tokens[$task]}" "lease=$lease seconds" <<<"SELECT leadroute.extend_task(:'task', :'token', :'lease');" && continue
		case $error in
		LR001 | LR014) let_go "$task" "$error" ;;
		*) say "heartbeat of $task: $error" ;; # the next one may do better
		esac
	done
}

# LR001: the lease ran out, and others have the task; LR014: its run does not want it any more.
let_go() {
	say "$1 is not ours any more: $2"
	unset "tokens[$1]"
}

# Gives a task back; the statement is on standard input.
give_back() {
	local task=$1 statement
	statement=$(cat)
	until sql "task=$task" "token=${tokens[$task]}" "${@:2}" <<<"$statement"; do
		case $error in
		LR001 | LR014)
			let_go "$task" "$error"
			return
			;;
		22023) # this output is of no use
			fail "$task" unusable_output false
			return
			;;
		esac
		say "$task: $error"
		[ -z "$stopping" ] || return 0
		sleep 1 # then again: nothing was done; or it was, and we are told LR001
	done
	unset "tokens[$task]"
}

fail() { give_back "$1" "code=$2" "again=$3" <<<"SELECT leadroute.fail_task(:'task', :'token', :'code', :'again');"; }

# Has the command do a task, with heartbeats as long as it takes.
work() {
	local task=$1 status=0 next=$((SECONDS + lease / 3 + 1))
	shift
	TASK=$task ATTEMPT=${attempts[$task]} "$@" <<<"${inputs[$task]}" >"$files/output" &
	local process=$!
	echo "$process" >"$files/work"
	while kill -0 "$process" 2>/dev/null; do
		sleep 0.05
		[ "$SECONDS" -lt "$next" ] || { heartbeat; next=$((SECONDS + lease / 3 + 1)); }
		# nobody wants it any more
		[ -n "${tokens[$task]:-}" ] || kill "$process" 2>/dev/null || true
	done
	wait "$process" || status=$?
	rm -f "$files/work"
	if [ -z "${tokens[$task]:-}" ] || [ -n "$stopping" ]; then
		return
	fi
	case $status in
	0)
		give_back "$task" "output=$(cat "$files/output")" <<<"SELECT leadroute.complete_task(:'task', :'token', :'output');"
		;;
	75) fail "$task" "status_75" true ;;
	*) fail "$task" "status_$status" false ;;
	esac
}

while [ -z "$stopping" ]; do
	if ! sql "agent=$agent" "batch=$batch" "lease=$lease seconds" "holder=$holder" \
		<<<"SELECT task, token, attempt, coalesce(inputs, '{}') FROM leadroute.claim_tasks(:'agent', max => :batch, lease => :'lease', holder => :'holder');"; then
		say "claiming: $error"
		sleep "$poll"
		continue
	fi
	order=()
	while IFS=$'\t' read -r task token attempt input; do
		order+=("$task")
		tokens[$task]=$token attempts[$task]=$attempt inputs[$task]=$input
	done <"$files/rows"
	for task in "${order[@]}"; do
		[ -z "$stopping" ] || break
		[ -z "${tokens[$task]:-}" ] || work "$task" "$@"
	done
	if [ ${#order[@]} = 0 ] && [ -z "$stopping" ]; then
		sleep "$poll" &
		wait $! || true # which a signal ends
	fi
done

# Others shall not have to wait for the leases to run out.
for task in "${!tokens[@]}"; do fail "$task" stopped true; done
say "stopped"
