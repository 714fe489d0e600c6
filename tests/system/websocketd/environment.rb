#!/usr/bin/env ruby
# Prints its environment, sorted.
$stdout.sync = true
ENV.sort.each { |name, value| puts "#{name}=#{value}" }
