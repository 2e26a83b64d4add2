#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# validate.sh MODULE SYMVERS VARIANT: is a built module what it claims to be?
# Licence, parameters, alias, variant, and that every symbol it wants is one that
# the kernel itself exports (another module would have to be loaded first).

set -eu
module=$1 symvers=$2 variant=$3

fail() {
	echo "validate: $module: $*" >&2
	exit 1
}

field() {
	modinfo -F "$1" "$module"
}

[ -f "$module" ] || fail "not built"
[ "$(field license)" = GPL ] || fail "the licence is not GPL"
[ -n "$(field version)" ] || fail "no version"
field alias | grep -qx 'fs-vexfs' || fail "mount would not find it: no alias fs-vexfs"
[ -z "$(field depends)" ] || fail "needs other modules: $(field depends)"
case $variant in
safe-ffi | standard) parameters='timeout_ms retries damage_limit' ;;
safe) parameters=damage_limit ;;
c-only) parameters= ;;
*) fail "there is no variant $variant" ;;
esac
for parameter in $parameters; do
	field parm | grep -q "^$parameter:" || fail "no parameter $parameter"
done
grep -aq "loaded ($variant)" "$module" || fail "is not the variant $variant"

wanted=$(nm --undefined-only "$module" | awk '{ print $2 }')
[ -n "$wanted" ] || fail "wants no symbol at all"
for symbol in $wanted; do
	awk -v symbol="$symbol" '$2 == symbol && $3 == "vmlinux" { found = 1 } END { exit !found }' \
		"$symvers" || fail "the kernel does not export $symbol"
done
echo "validate: $module: $variant, $(field version), $(echo "$wanted" | wc -l) symbols of the kernel"
