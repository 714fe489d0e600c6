#!/bin/sh
# Echoes lines. `exit N` ends it with that status, `die` by a signal; `room` asks for its room.
while IFS= read -r line; do
    case $line in
    'exit '*)
        printf 'last words'
        exit "${line#exit }"
        ;;
    die) kill -9 $$ ;;
    room) printf '%s %s\n' "$ROOM" "$QUERY_STRING" ;;
    *) printf '%s\n' "$line" ;;
    esac
done
