#!/bin/bash
# Greets each name that it reads.
while IFS= read -r name; do
    echo "Hello, $name!"
done
