#!/bin/bash
# A chat through a file: what each client says is added to it, and each client sees what is added.
log=${1:?the file}
tail -n +1 -F "$log" 2>/dev/null &
trap 'kill $!' EXIT
echo ready
while IFS= read -r line; do
    echo "$REMOTE_PORT: $line" >>"$log"
done
