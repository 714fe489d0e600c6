//! Clients and rooms that come and go, in numbers.
