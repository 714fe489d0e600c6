//! Much data, nothing lost.
