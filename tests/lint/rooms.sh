#!/bin/sh
# rooms.sh ROOT: the planner's rooms stay below these numbers of lines (.c and .h); a room that needs more is two rooms.
status=0
while read -r room most; do
    lines=$(find "$1/planner/$room" -name '*.[ch]' -exec cat {} + | wc -l)
    [ "$lines" -le "$most" ] || { echo "planner/$room has $lines lines, the limit is $most" >&2; status=1; }
done <<LIMITS
core 2000
packing 900
check 750
chain 2700
graph 3800
strategies 1000
report 1100
. 12900
LIMITS
exit $status
