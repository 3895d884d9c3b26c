//! The workshop: tests of the house itself.

mod tidy;
