#!/usr/bin/env ruby
# Counts to five.
$stdout.sync = true
(1..5).each { |number| puts number }
