#!/bin/sh
# Opens this core in a debugger, with the programs and libraries as the process had them: dlv for Go programs where it is
# installed, else gdb. DEBUGGER=gdb or DEBUGGER=dlv chooses; arguments go to the debugger.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exe=$(cat "$here/exe")
[ -n "$exe" ] && [ -f "$here/$exe" ] || { echo "open.sh: the program itself is not in the bundle; record.json says why" >&2; exit 1; }
debugger=${DEBUGGER:-}
if [ -z "$debugger" ]; then
	debugger=gdb
	if grep -aq 'Go buildinf:' "$here/$exe" && command -v dlv >/dev/null; then
		debugger=dlv
	fi
fi
case $debugger in
dlv)
	exec dlv core "$here/$exe" "$here/core" "$@"
	;;
gdb)
	path=
	while IFS= read -r dir; do
		path=$path${path:+:}$here/$dir
	done <"$here/libraries"
	exec gdb -nx -iex "set auto-load off" -iex "set sysroot $here/sysroot" -iex "set solib-search-path $path" \
		-iex "set debug-file-directory $here/sysroot/usr/lib/debug:/usr/lib/debug" -iex "set debuginfod enabled off" "$@" "$here/$exe" "$here/core"
	;;
*)
	echo "open.sh: DEBUGGER=$debugger: must be gdb or dlv" >&2
	exit 1
	;;
esac
