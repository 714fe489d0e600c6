#!/usr/bin/env node
// Greets each name that it reads.
const lines = require("readline").createInterface({ input: process.stdin });
lines.on("line", (name) => console.log(`Hello, ${name}!`));
