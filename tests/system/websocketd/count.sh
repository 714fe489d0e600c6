#!/bin/bash
# Counts to five.
for ((number = 1; number <= 5; number++)); do
    echo "$number"
done
