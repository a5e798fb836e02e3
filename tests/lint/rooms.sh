#!/bin/sh
# rooms.sh ROOT: the planner's rooms stay below these numbers of lines (.c and .h); a room that needs more is two rooms.
status=0
while read -r room most; do
    lines=$(find "$1/planner/$room" -name '*.[ch]' -exec cat {} + | wc -l)
    [ "$lines" -le "$most" ] || { echo "planner/$room has $lines lines, the limit is $most" >&2; status=1; }
done <<LIMITS
core 1500
packing 900
check 750
chain 2300
bounds 1150
graph 2700
strategies 1050
report 1100
. 12500
LIMITS
exit $status
