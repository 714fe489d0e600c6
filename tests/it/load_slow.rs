//! Clients that are slow, and who else feels it.
