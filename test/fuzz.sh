#!/bin/sh
# Runs every fuzz test of the repository in turn, each for the given time.
#
#   test/fuzz.sh [-l] [TIME [PARALLEL [PATTERN]]]
#
# TIME is a duration of go test or a number of executions, as 10m or 5000x;
# default 30s. PARALLEL is how many processes try inputs; default 1. PATTERN is a
# regular expression that "PACKAGE TARGET" must match, as 'wire Fuzz' or
# 'FuzzSession$'; default all. -l lists the targets and runs nothing.
#
# The output of each goes to a file in $FUZZ_LOGS, by default a new directory
# below $TMPDIR, which is printed first. A target that fails does not keep the
# others from running; go test writes the input that failed to the package's
# testdata/fuzz, from where plain go test runs it again. In the end the failing
# targets are named, and the status is 1.
set -u
cd "$(dirname "$0")/.." || exit 2

list=false
if [ "${1-}" = -l ]; then
	list=true
	shift
fi
time=${1-30s} parallel=${2-1} pattern=${3-.}

targets=$(grep -rn --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*(f \*testing.F)' . |
	sed 's|^\./||; s|\(.*\)/[^/]*:[0-9]*:func \(Fuzz[A-Za-z0-9_]*\).*|\1 \2|' | sort | grep -E -- "$pattern")
if [ -z "$targets" ]; then
	echo "no fuzz test matches $pattern" >&2
	exit 2
fi
if $list; then
	echo "$targets"
	exit 0
fi

# only_time_up says whether all that failed is that the end of TIME was noticed in
# the wrong order, as go test does now and then (go.dev/issue/75804).
only_time_up() {
	grep -qx ' *context deadline exceeded' "$1" && ! grep -Eq 'Failing input written|panic:|_test\.go:[0-9]+:|fuzzing process' "$1"
}

logs=${FUZZ_LOGS-$(mktemp -d)}
mkdir -p "$logs" || exit 2
echo "logs are in $logs"
failed=
while read -r package target; do
	log=$logs/$(echo "$package" | tr / -)-$target.log
	# What is interesting is made small, but not at length: that is time in which
	# nothing new is tried.
	if go test "./$package" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 2s -parallel "$parallel" >"$log" 2>&1 </dev/null || only_time_up "$log"; then
		echo "ok    $package $target: $(grep -o 'execs: [0-9]*' "$log" | tail -n 1)"
	else
		echo "FAIL  $package $target: see $log"
		failed="$failed
$package $target"
	fi
done <<LIST
$targets
LIST
if [ -n "$failed" ]; then
	echo "failed:$failed"
	exit 1
fi
