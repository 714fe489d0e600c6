#!/usr/bin/env ruby
# Greets each name that it reads.
$stdout.sync = true
$stdin.each_line { |name| puts "Hello, #{name.chomp}!" }
