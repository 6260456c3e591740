//! Workers: what they start ends when it must, they come and go, and a drained one gets nothing new.

mod agents;
mod escape;
mod escapees;
mod folders;
mod many;
