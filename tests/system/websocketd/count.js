#!/usr/bin/env node
// Counts to five.
for (let number = 1; number <= 5; number++) console.log(number);
